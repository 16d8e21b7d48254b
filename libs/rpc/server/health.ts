import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import {
  type handleServerStreamingCall,
  type handleUnaryCall,
  type Server,
  type ServerWritableStream,
  status as grpcStatus,
} from "@grpc/grpc-js";

/** grpc.health.v1.HealthCheckResponse.ServingStatus */
const servingStatus = { SERVING: 1, NOT_SERVING: 2, SERVICE_UNKNOWN: 3 } as const;
type ServingStatus = (typeof servingStatus)[keyof typeof servingStatus];

/** HealthCheckRequest. An object, because grpc-js takes "" for a message that is missing. */
interface HealthRequest {
  /** "": the whole process. */
  service: string;
}
type Watch = ServerWritableStream<HealthRequest, ServingStatus>;

const lengthDelimited = (field: number): number => (field << 3) | WireType.LengthDelimited;

/** HealthCheckRequest {service = 1} */
function decodeRequest(bytes: Uint8Array): HealthRequest {
  const reader = new BinaryReader(bytes);
  let service = "";
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === 1 && wireType === WireType.LengthDelimited) service = reader.string();
    else reader.skip(wireType, field);
  }
  return { service };
}

function encodeRequest({ service }: HealthRequest): Buffer {
  return Buffer.from(new BinaryWriter().uint32(lengthDelimited(1)).string(service).finish());
}

/** HealthCheckResponse {status = 1} */
function encodeStatus(status: ServingStatus): Buffer {
  return Buffer.from([(1 << 3) | WireType.Varint, status]);
}

/** HealthListResponse {map<string, HealthCheckResponse> statuses = 1} */
function encodeList(statuses: ReadonlyMap<string, ServingStatus>): Buffer {
  const writer = new BinaryWriter();
  for (const [service, status] of statuses) {
    writer.uint32(lengthDelimited(1)).fork();
    writer.uint32(lengthDelimited(1)).string(service);
    writer.uint32(lengthDelimited(2)).bytes(encodeStatus(status));
    writer.join();
  }
  return Buffer.from(writer.finish());
}

/** Kith's servers only answer: what a client would decode is never asked for. */
const unused = (): never => {
  throw new Error("the health service is not called from here");
};
const checkDefinition = {
  path: "/grpc.health.v1.Health/Check",
  requestStream: false,
  responseStream: false,
  requestSerialize: encodeRequest,
  requestDeserialize: decodeRequest,
  responseSerialize: encodeStatus,
  responseDeserialize: unused,
} as const;
const definition = {
  check: checkDefinition,
  watch: { ...checkDefinition, path: "/grpc.health.v1.Health/Watch", responseStream: true },
  list: {
    ...checkDefinition,
    path: "/grpc.health.v1.Health/List",
    responseSerialize: encodeList,
  },
} as const;

/**
 * grpc.health.v1.Health: what Kubernetes' gRPC probes and load balancers ask. Our own, because the package for it reads its
 * file through protobufjs when it is loaded: 70 ms and 5 MiB in every process, for three methods with one field each.
 */
export class HealthService {
  readonly #statuses = new Map<string, ServingStatus>([
    ["", servingStatus.NOT_SERVING],
    // Whoever gets an answer at all knows that the event loop runs, which is all that a probe of life may ask.
    ["live", servingStatus.SERVING],
  ]);
  readonly #watches = new Map<Watch, WatchState>();

  addTo(server: Server): void {
    const check: handleUnaryCall<HealthRequest, ServingStatus> = ({ request: { service } }, answer) => {
      const status = this.#statuses.get(service);
      if (status === undefined) {
        answer({ code: grpcStatus.NOT_FOUND, details: `there is no service "${service}" whose health is known` });
      } else answer(null, status);
    };
    const watch: handleServerStreamingCall<HealthRequest, ServingStatus> = (call) => {
      const state = new WatchState(call);
      this.#watches.set(call, state);
      call.on("cancelled", () => this.#watches.delete(call));
      state.tell(this.#statuses.get(call.request.service) ?? servingStatus.SERVICE_UNKNOWN);
    };
    const list: handleUnaryCall<HealthRequest, ReadonlyMap<string, ServingStatus>> = (_, answer) => {
      answer(null, this.#statuses);
    };
    server.addService(definition, { check, watch, list });
  }

  set(service: string, serving: boolean): void {
    const status = serving ? servingStatus.SERVING : servingStatus.NOT_SERVING;
    this.#statuses.set(service, status);
    for (const [call, state] of this.#watches) if (call.request.service === service) state.tell(status);
  }
}

/** One who watches. Where he does not read, only the newest status waits for him. */
class WatchState {
  readonly #call: Watch;
  #blocked = false;
  #waiting: ServingStatus | undefined;

  constructor(call: Watch) {
    this.#call = call;
    call.on("drain", () => {
      this.#blocked = false;
      const status = this.#waiting;
      this.#waiting = undefined;
      if (status !== undefined) this.tell(status);
    });
  }

  tell(status: ServingStatus): void {
    if (this.#blocked) this.#waiting = status;
    else this.#blocked = !this.#call.write(status);
  }
}
