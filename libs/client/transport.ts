import * as grpc from "@grpc/grpc-js";
import { context } from "@opentelemetry/api";
import { abortReason, type Clock, KithError, limits } from "../base/index.js";
import { type Span, type SpanCollector, startSpan, traceparentOf } from "../telemetry/index.js";
import { fromServiceError } from "./status.js";
import { Retrier, type RetryOptions } from "./retry.js";
import type { CallOptions } from "./types.js";

/** A unary method of the generated service definitions. */
export interface UnaryMethod<Req, Res> {
  readonly path: string;
  readonly requestSerialize: (value: Req) => Buffer;
  readonly responseDeserialize: (value: Buffer) => Res;
}

export interface TlsOptions {
  /** PEM of the authorities to trust. Default: those of the system. */
  ca?: Uint8Array;
  /** PEM of the client's certificate chain and key, where the server wants one. */
  cert?: Uint8Array;
  key?: Uint8Array;
}

export interface TransportOptions {
  target: string;
  tls?: boolean | TlsOptions;
  /** Sent with every call. */
  headers?: Readonly<Record<string, string>>;
  deadlineMs: number;
  retry: RetryOptions;
  clock: Clock;
}

/** One call as a whole: its span, signal and overall deadline. */
export interface Call {
  readonly span: Span;
  readonly signal: AbortSignal | undefined;
  /** Monotonic milliseconds. */
  readonly endMs: number;
}

/** The channel to the server with what every call shares: deadlines, spans, retries, metadata. */
export class Transport {
  readonly client: grpc.Client;
  readonly retrier: Retrier;
  readonly clock: Clock;
  readonly target: string;
  readonly #options: TransportOptions;
  readonly #active = new Set<() => void>();
  #closed = false;

  constructor(options: TransportOptions) {
    this.#options = options;
    this.clock = options.clock;
    this.target = options.target;
    this.retrier = new Retrier(options.retry, options.clock);
    this.client = new grpc.Client(options.target, credentialsOf(options.tls), {
      "grpc.max_send_message_length": limits.messageBytes,
      "grpc.max_receive_message_length": limits.messageBytes,
      // The retries of the SDK know what is safe to repeat; those of the channel do not, and buffer every message.
      "grpc.enable_retries": 0,
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 5_000,
      "grpc.keepalive_time_ms": 30_000,
      "grpc.keepalive_timeout_ms": 10_000,
      "grpc.use_local_subchannel_pool": 1,
      "grpc-node.flow_control_window": 4 * 1024 * 1024,
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const stop of [...this.#active]) stop();
    this.client.close();
  }

  /** Registers what close() must stop; returns the way to take it back. */
  onClose(stop: () => void): () => void {
    this.#active.add(stop);
    return () => this.#active.delete(stop);
  }

  /** Runs a call in its span, with its overall deadline. */
  async call<T>(
    name: string,
    options: CallOptions | undefined,
    body: (call: Call) => Promise<T>,
    collector?: SpanCollector,
  ): Promise<T> {
    if (this.#closed) throw closedError();
    const signal = options?.signal;
    if (signal?.aborted) throw abortReason(signal);
    const span = startSpan({ otel: context.active(), ...(collector && { collector }) }, name, { role: "client" });
    try {
      const result = await body({ span, signal, endMs: this.endMs(options?.deadlineMs) });
      span.end();
      return result;
    } catch (error) {
      span.end(error);
      throw error;
    }
  }

  endMs(deadlineMs: number | undefined): number {
    if (deadlineMs !== undefined && !(deadlineMs > 0)) {
      throw new KithError("INVALID_ARGUMENT", `deadlineMs is ${deadlineMs}; it must be more than 0`);
    }
    return this.clock.monotonicMs() + (deadlineMs ?? this.#options.deadlineMs);
  }

  /** A call that may be repeated. */
  retried<Req, Res>(method: UnaryMethod<Req, Res>, request: Req, call: Call): Promise<Res> {
    return this.retrier.run(call, () => this.unary(method, request, call));
  }

  /** One attempt. */
  unary<Req, Res>(method: UnaryMethod<Req, Res>, request: Req, call: Call): Promise<Res> {
    const { signal } = call;
    if (this.#closed) return Promise.reject(closedError());
    if (signal?.aborted) return Promise.reject(abortReason(signal));
    return new Promise<Res>((resolve, reject) => {
      const onAbort = (): void => sent.cancel();
      const done = this.onClose(onAbort);
      const sent = this.client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        this.metadata(call.span),
        { deadline: Date.now() + Math.max(1, call.endMs - this.clock.monotonicMs()) },
        (error, response) => {
          signal?.removeEventListener("abort", onAbort);
          done();
          if (error !== null) reject(signal?.aborted ? abortReason(signal) : fromServiceError(error));
          else resolve(response as Res);
        },
      );
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }

  metadata(span?: Span): grpc.Metadata {
    const metadata = new grpc.Metadata();
    for (const [name, value] of Object.entries(this.#options.headers ?? {})) metadata.set(name, value);
    const traceparent = span === undefined ? "" : traceparentOf(span.trace);
    if (traceparent !== "") metadata.set("traceparent", traceparent);
    return metadata;
  }
}

function closedError(): KithError {
  return new KithError("FAILED_PRECONDITION", "the client is closed; connect() gives a new one");
}

function credentialsOf(tls: boolean | TlsOptions | undefined): grpc.ChannelCredentials {
  if (tls === undefined || tls === false) return grpc.credentials.createInsecure();
  if (tls === true) return grpc.credentials.createSsl();
  const pem = (bytes: Uint8Array | undefined): Buffer | null => (bytes === undefined ? null : Buffer.from(bytes));
  return grpc.credentials.createSsl(pem(tls.ca), pem(tls.key), pem(tls.cert));
}
