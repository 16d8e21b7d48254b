import {
  Metadata,
  type sendUnaryData,
  type ServerInterceptingCallInterface,
  type ServerUnaryCall,
  status,
} from "@grpc/grpc-js";
import { type Clock, KithError } from "../../base/index.js";
import {
  metricsEnabled,
  type Span,
  startSpan,
  type TraceContext,
  traceFrom,
  traceparentOf,
} from "../../telemetry/index.js";
import { endServerSpan, type FailureLog } from "../common/call-stats.js";
import { deadlinePassed, type DeadlineSweep, shuttingDown } from "../common/deadline.js";
import { Malformed, MessagePart, type ServedMethod, wholeBytesMax } from "../common/definition.js";
import { type ErrorWording, toServiceError } from "../common/errors.js";
import { commonNameOf, deadlineOf, ServerCall } from "./server-call.js";

/** What handlers of unary calls get beside the request. */
export interface UnaryContext extends ServerCall {
  readonly trace: TraceContext;
  readonly metadata: Metadata;
  /** "ip:port" of the client. */
  readonly peer: string;
  /** Of the subject of the client's certificate, where TLS has verified one. Costs some ten microseconds. */
  readonly peerCommonName: string | undefined;
}

export type UnaryHandler<Req, Res> = (request: Req, call: UnaryContext) => Promise<Res>;

/** The state of a server that its calls share. */
export interface ServerState {
  readonly clock: Clock;
  readonly sweep: DeadlineSweep<UnaryCall>;
  readonly failures: FailureLog;
  readonly wording: ((error: KithError) => ErrorWording) | undefined;
  readonly tellsCall: boolean;
  readonly inFlightMax: number;
  readonly defaultDeadlineMs: number;
  readonly maxDeadlineMs: number;
  /** Handlers that run: longer than the call in the sweep where a handler does not obey its signal. */
  running: number;
  /** Of answers that are encoded and that clients have not taken; of unary ones the large ones only. */
  unsentBytes: number;
  draining: boolean;
}

/** Answers below this size are not worth a listener: as many as may be in flight are 128 MiB at the very most. */
const countedBytesMin = 16 * 1024;

type GrpcUnary = ServerUnaryCall<object, object>;

/** One unary call: from the decoded request to the answer. About 2 µs on top of grpc-js while telemetry is off. */
export class UnaryCall extends ServerCall implements UnaryContext {
  readonly #server: ServerState;
  readonly #method: ServedMethod;
  readonly #call: GrpcUnary;
  readonly #respond: sendUnaryData<object>;
  readonly #span: Span;
  readonly #startMs: number;
  readonly trace: TraceContext;
  #answered = false;

  constructor(server: ServerState, method: ServedMethod, call: GrpcUnary, respond: sendUnaryData<object>) {
    const now = server.clock.monotonicMs();
    super(deadlineOf(call, server.clock, now, server.defaultDeadlineMs, server.maxDeadlineMs), server.clock);
    this.#server = server;
    this.#method = method;
    this.#call = call;
    this.#respond = respond;
    this.#startMs = metricsEnabled() ? now : 0;
    this.#span = serverSpan(call.metadata, method.stats.method);
    this.trace = this.#span.trace;
  }

  get metadata(): Metadata {
    return this.#call.metadata;
  }

  get peer(): string {
    return this.#call.getPeer();
  }

  get peerCommonName(): string | undefined {
    return commonNameOf(this.#call);
  }

  /** Runs the handler and answers. Never rejects. */
  async run(handler: UnaryHandler<object, object>): Promise<void> {
    const server = this.#server;
    const request = this.#call.request;
    if (server.tellsCall) this.#tellCall();
    if (server.draining) return this.#fail(shuttingDown());
    if (request instanceof Malformed) return this.#fail(request.error);
    if (server.running >= server.inFlightMax) return this.#fail(tooManyCalls(server.inFlightMax));
    server.running++;
    server.sweep.add(this);
    try {
      this.#succeed(await handler(request, this));
    } catch (thrown) {
      this.#fail(thrown);
    } finally {
      server.running--;
    }
  }

  /** By which a client finds the call again in its own log, and in the traces. */
  #tellCall(): void {
    const [requestId] = this.#call.metadata.get("x-request-id");
    const traceparent = traceparentOf(this.trace);
    if (requestId === undefined && traceparent === "") return;
    const told = new Metadata();
    if (requestId !== undefined) told.set("x-request-id", requestId);
    if (traceparent !== "") told.set("traceparent", traceparent);
    this.#call.sendMetadata(told);
  }

  expire(): void {
    const error = deadlinePassed();
    this.abort(error);
    this.#fail(error);
  }

  /** Answers SHUTTING_DOWN at once and tells the handler to stop. */
  shutDown(): void {
    const error = shuttingDown();
    this.abort(error);
    this.#fail(error);
  }

  protected watchCancellation(): void {
    if (this.#call.cancelled) this.clientGone();
    // grpc-js emits this at the end of every call, answered or not.
    else this.#call.once("cancelled", () => !this.#answered && this.clientGone());
  }

  #succeed(response: object): void {
    if (this.#answered) return;
    // May throw: run() then answers with the error.
    const bytes = this.#method.encode(response);
    const sizeBytes = bytes.length;
    this.#answered = true;
    this.#server.sweep.delete(this);
    // One whose client has gone is taken by nobody, and grpc-js has told so already.
    const isCounted = sizeBytes >= countedBytesMin && !this.#call.cancelled;
    if (isCounted) this.#countUnsent(sizeBytes);
    if (sizeBytes > wholeBytesMax) writeParts(this.#call, bytes);
    else this.#respond(null, bytes);
    endServerSpan(this.#span);
    this.#method.stats.record(this.#startMs, this.clock);
  }

  /** A method of its own: its listener would keep bytes that are at hand where it is made. */
  #countUnsent(sizeBytes: number): void {
    this.#server.unsentBytes += sizeBytes;
    // grpc-js emits this at the end of every call, when the answer has left or the client has gone.
    this.#call.once("cancelled", () => {
      this.#server.unsentBytes -= sizeBytes;
    });
  }

  #fail(thrown: unknown): void {
    if (this.#answered) return;
    this.#answered = true;
    this.#server.sweep.delete(this);
    const error = this.#server.failures.report(thrown, this.#method.stats.method, this.trace);
    this.#respond(toServiceError(error, this.#server.wording?.(error)));
    endServerSpan(this.#span, error);
    this.#method.stats.record(this.#startMs, this.clock, error);
  }
}

/** Writes a large answer in parts, each when the client has taken the one before, and ends the call. */
function writeParts(grpcCall: GrpcUnary, message: Buffer): void {
  // What grpc-js gives to interceptors, and to its own answers of one message. Private where the call is the handler's.
  const { call } = grpcCall as unknown as { readonly call: ServerInterceptingCallInterface };
  const write = (part: MessagePart): void => {
    const { next } = part;
    call.sendMessage(part, () => {
      if (next === undefined) call.sendStatus({ code: status.OK, details: "OK", metadata: null });
      else write(next);
    });
  };
  write(new MessagePart(message));
}

/** The span of a served call, below the one that the client sent along. */
export function serverSpan(metadata: Metadata, method: string): Span {
  const traceparent = metadata.get("traceparent")[0];
  return startSpan(traceFrom(typeof traceparent === "string" ? traceparent : ""), method, serverRole);
}
const serverRole = { role: "server", attributes: { "rpc.system.name": "grpc" } } as const;

function tooManyCalls(limit: number): KithError {
  return new KithError("RESOURCE_EXHAUSTED", `the server is answering ${limit} calls already; try again shortly`, {
    details: { limit },
    retryAfterMs: 100,
  });
}
