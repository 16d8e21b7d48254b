import {
  type sendUnaryData,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServiceDefinition,
} from "@grpc/grpc-js";
import { assert, type Clock, hostPort, KithError, limits, type Random, type Runtime, sleep } from "../../base/index.js";
import { histogramOf, type Logger, registerGauge, silentLogger } from "../../telemetry/index.js";
import type { Encoded } from "../../wire/index.js";
import { FailureLog, MethodStats } from "../common/call-stats.js";
import { DeadlineSweep } from "../common/deadline.js";
import type { ErrorWording } from "../common/errors.js";
import {
  type BidiDefinition,
  servedDefinition,
  ServedMethod,
  type ServerStreamDefinition,
  serviceOf,
  type UnaryDefinition,
} from "../common/definition.js";
import type { DescriptorSet } from "./descriptors.js";
import { HealthService } from "./health.js";
import { reflectionHandler, reflectionServices } from "./reflection.js";
import { type AnswerStream, type StreamHandler, StreamCall } from "./server-stream.js";
import { type PortProtocol, SharedPort } from "./shared-port.js";
import type { ServerTls } from "./tls.js";
import { type ServerState, UnaryCall, type UnaryHandler } from "./unary.js";

export interface RpcServerOptions extends Runtime {
  /** Node id: names this process in traces and logs. */
  node: string;
  logger?: Logger;
  tls?: ServerTls;
  /** Unary calls that may run at once; more get RESOURCE_EXHAUSTED with retry-after. */
  inFlightMax?: number;
  /** Streams that may be open at once; more get RESOURCE_EXHAUSTED. */
  streamsMax?: number;
  /** Deadline of unary calls whose client gave none. */
  defaultDeadlineMs?: number;
  /** Longest deadline that a client may give; later ones are cut. */
  maxDeadlineMs?: number;
  /** Largest message in either direction. */
  messageBytes?: number;
  /** How errors are told where it is not as Kith tells its own. */
  wording?: (error: KithError) => ErrorWording;
  /** Whether answers of unary calls come with the `x-request-id` of their call, and with the `traceparent` of its span. */
  tellsCall?: boolean;
}

/** The handlers that a service definition asks for, typed by its messages. Answers may be encoded already. */
export type Handlers<D> = {
  [M in keyof D]: D[M] extends UnaryDefinition<infer Req, infer Res>
    ? UnaryHandler<Req, Res | Encoded<Res>>
    : D[M] extends BidiDefinition<infer Req, infer Res> | ServerStreamDefinition<infer Req, infer Res>
      ? StreamHandler<Req, Res | Encoded<Res>>
      : never;
};

type AnyUnary = UnaryHandler<object, object>;
type AnyStream = StreamHandler<object, object>;

const serverDuration = histogramOf("rpc.server.call.duration");

/** A gRPC server: typed errors, deadlines, cancellation, bounds, spans and metrics around plain async handlers. */
export class RpcServer {
  readonly node: string;
  readonly #server: Server;
  readonly #tls: ServerTls | undefined;
  readonly #logger: Logger;
  readonly #health = new HealthService();
  readonly #streams = new Set<StreamCall>();
  readonly #streamsMax: number;
  readonly #messageBytes: number;
  readonly #random: Random;
  readonly #state: ServerState;
  readonly #unregister: () => void;
  readonly #services: string[] = [];
  readonly #protocols: PortProtocol[] = [];
  #port: SharedPort | undefined;
  #drained: Promise<void> | undefined;

  constructor(options: RpcServerOptions) {
    this.node = options.node;
    this.#tls = options.tls;
    this.#logger = options.logger ?? silentLogger;
    this.#streamsMax = options.streamsMax ?? 4096;
    const messageBytes = options.messageBytes ?? limits.messageBytes;
    this.#messageBytes = messageBytes;
    this.#server = new Server({
      // servedDefinition() keeps the limit, with an error that says what to do; here is what it costs to be told.
      "grpc.max_receive_message_length": 2 * messageBytes,
      // ServedMethod keeps the limit, with an error that says what to do.
      "grpc.max_send_message_length": -1,
      "grpc.max_concurrent_streams": limits.inFlightCalls,
      // MiB that one connection may hold in HTTP/2 buffers; Node's unit.
      "grpc-node.max_session_memory": 256,
      "grpc.keepalive_time_ms": 30_000,
      "grpc.keepalive_timeout_ms": 10_000,
      // Channelz keeps records of every call and connection: about 5 µs a call for what the metrics show as well.
      "grpc.enable_channelz": 0,
    });
    this.#random = options.random;
    this.#state = {
      clock: options.clock,
      sweep: new DeadlineSweep(options.clock),
      failures: new FailureLog(this.#logger, options),
      wording: options.wording,
      tellsCall: options.tellsCall === true,
      inFlightMax: options.inFlightMax ?? limits.inFlightCalls,
      defaultDeadlineMs: options.defaultDeadlineMs ?? 30_000,
      maxDeadlineMs: options.maxDeadlineMs ?? 3_600_000,
      running: 0,
      unsentBytes: 0,
      draining: false,
    };
    this.#health.addTo(this.#server);
    this.#unregister = registerGauge("kith.rpc.server.in_flight", (report) => report(this.#state.running));
  }

  get clock(): Clock {
    return this.#state.clock;
  }

  /** Unary calls whose handlers run. */
  get inFlight(): number {
    return this.#state.running;
  }

  /** Bytes of answers that are encoded and that clients have not taken yet, but for small ones of unary calls. */
  get unsentBytes(): number {
    return this.#state.unsentBytes;
  }

  /** Serves a service that ts-proto generated (PointsService, ...). Before listen(). */
  addService<D extends object>(definition: D, handlers: Handlers<D>): void {
    const implementation: Record<string, (...args: never[]) => void> = {};
    const methods = Object.entries(definition as unknown as ServiceDefinition);
    for (const [name, method] of methods) {
      assert(
        method.responseStream || !method.requestStream,
        `${method.path} streams requests alone; Kith has unary methods, and those that stream answers`,
      );
      const handler = (handlers as Record<string, unknown>)[name];
      const stats = new MethodStats(method.path.slice(1), serverDuration);
      const served = new ServedMethod(method, stats, this.#messageBytes);
      if (method.responseStream) implementation[name] = this.#serveStream(served, handler as AnyStream);
      else implementation[name] = this.#serveUnary(served, handler as AnyUnary);
    }
    this.#server.addService(
      servedDefinition(definition as unknown as ServiceDefinition, this.#messageBytes),
      implementation as never,
    );
    const service = serviceOf((methods[0] as (typeof methods)[number])[1].path);
    this.#services.push(service);
    this.#health.set(service, false);
  }

  #serveUnary(method: ServedMethod, handler: AnyUnary) {
    const state = this.#state;
    return (call: ServerUnaryCall<object, object>, respond: sendUnaryData<object>): void => {
      void new UnaryCall(state, method, call, respond).run(handler);
    };
  }

  #serveStream(method: ServedMethod, handler: AnyStream) {
    return (grpcStream: AnswerStream): void => {
      const stream = new StreamCall(grpcStream, method, this.#state);
      if (this.#state.draining) {
        stream.shutDown();
        return;
      }
      if (this.#streams.size >= this.#streamsMax) {
        void stream.run(() => Promise.reject(tooManyStreams(this.#streamsMax)));
        return;
      }
      this.#streams.add(stream);
      void stream.run(handler).finally(() => this.#streams.delete(stream));
    };
  }

  /** Serves another protocol on the same port. Before listen(). */
  addProtocol(protocol: PortProtocol): void {
    this.#protocols.push(protocol);
    this.#services.push(protocol.service);
    this.#health.set(protocol.service, false);
  }

  /** Adds server reflection (v1 and v1alpha) for the services of a set of descriptors: grpcurl works without the proto files. */
  addReflection(set: DescriptorSet = "descriptors.binpb"): void {
    const serverReflectionInfo = reflectionHandler(set);
    for (const definition of reflectionServices) this.addService(definition, { serverReflectionInfo });
  }

  /** Shows and asks for these certificates from the next connection on. Only of a server that has had some from the beginning. */
  setTls(tls: ServerTls): void {
    this.#port?.setTls(tls);
  }

  /** Health of one service, or of the whole process (""). listen() sets all to serving. */
  setServing(service: string, serving: boolean): void {
    this.#health.set(service, serving);
  }

  /** Binds and serves; resolves with the port (0 asks for a free one). INVALID_CONFIG where the address cannot be had. */
  async listen(host: string, port: number): Promise<number> {
    const address = hostPort(host, port);
    // The port has done what TLS asks for already.
    const injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());
    this.#port = new SharedPort({
      clock: this.#state.clock,
      random: this.#random,
      protocols: this.#protocols,
      tls: this.#tls,
      failures: this.#state.failures,
      grpc: injector,
    });
    let bound: number;
    try {
      bound = await this.#port.listen(host, port);
    } catch (cause) {
      throw cannotListen(address, cause as NodeJS.ErrnoException);
    }
    for (const service of ["", ...this.#services]) this.#health.set(service, true);
    return bound;
  }

  /**
   * Graceful end: health turns NOT_SERVING, new calls get SHUTTING_DOWN, calls in flight may end within `timeoutMs`,
   * the rest is answered SHUTTING_DOWN; then connections are closed, by force where a peer does not close its side. It ends
   * `closeGraceMs` after `timeoutMs` whatever peers do. Further calls return the same promise.
   */
  drain(timeoutMs: number): Promise<void> {
    this.#drained ??= this.#drain(timeoutMs);
    return this.#drained;
  }

  async #drain(timeoutMs: number): Promise<void> {
    const state = this.#state;
    const { clock } = state;
    const deadlineMs = clock.monotonicMs() + timeoutMs;
    for (const service of ["", ...this.#services]) this.#health.set(service, false);
    state.draining = true;
    for (const stream of this.#streams) stream.drain();
    this.#port?.drain();
    const openCount = (): number => this.#streams.size + (this.#port?.connectionCount ?? 0);
    while ((state.running > 0 || openCount() > 0) && clock.monotonicMs() < deadlineMs) await sleep(clock, 5);
    const cut = state.sweep.size + openCount();
    if (cut > 0) {
      this.#logger.warn(`shutting down: ${cut} calls did not end within ${timeoutMs} ms`, { cut, timeoutMs });
    }
    for (const call of state.sweep) call.shutDown();
    for (const stream of this.#streams) stream.shutDown();
    this.#port?.shutDown();
    await this.#close();
  }

  /** Ends the connections: politely, and by force where a peer does not close its side. */
  async #close(): Promise<void> {
    this.#unregister();
    // Not by grpc-js's own means: without channelz, 1.14 forgets connections in forceShutdown(), and those that have not sent
    // a whole preface it never knew, so that one silent socket held the end of the process for ever.
    await this.#port?.close(closeGraceMs);
    await new Promise<void>((resolve) => {
      this.#server.tryShutdown(() => resolve());
    });
  }
}

/** Time for the last answers to leave, and for peers to see the end of their connection, in milliseconds. */
const closeGraceMs = 200;

function cannotListen(address: string, cause: NodeJS.ErrnoException): KithError {
  const why: Record<string, string> = {
    EADDRINUSE: "is in use: choose another port, or end the process that listens there",
    EACCES: "may not be listened on by this user: choose a port of 1024 or more",
    EADDRNOTAVAIL: "is no address of this machine: choose one that is, or 0.0.0.0 for all",
    ENOTFOUND: "is no address of this machine: choose one that is, or 0.0.0.0 for all",
  };
  const message = why[cause.code ?? ""] ?? `cannot be listened on: ${cause.message}`;
  return new KithError("INVALID_CONFIG", `${address} ${message}`, { details: { address }, cause });
}

export function createRpcServer(options: RpcServerOptions): RpcServer {
  return new RpcServer(options);
}

function tooManyStreams(limit: number): KithError {
  return new KithError("RESOURCE_EXHAUSTED", `the server has ${limit} streams open; close some or try again later`, {
    details: { limit },
    retryAfterMs: 1_000,
  });
}
