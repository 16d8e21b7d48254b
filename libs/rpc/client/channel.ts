import {
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  connectivityState,
  Metadata,
  type ServiceError,
} from "@grpc/grpc-js";
import { abortReason, type Clock, deferred, KithError, limits, toKithError } from "../../base/index.js";
import { histogramOf, metricsEnabled, startSpan, type TraceContext, traceparentOf } from "../../telemetry/index.js";
import { MethodStats } from "../common/call-stats.js";
import type { BidiDefinition, ServerStreamDefinition, UnaryDefinition } from "../common/definition.js";
import { checkRequestSize, fromServiceError } from "../common/errors.js";
import { deadlinePassed } from "../common/deadline.js";
import { type ChannelTls, credentialsOf } from "./credentials.js";

export interface RpcChannelOptions {
  clock: Clock;
  /** Plain text where left out. A function is asked for each connection; the server's name is the first one's. */
  tls?: ChannelTls | (() => ChannelTls);
  /** Largest message in either direction. */
  messageBytes?: number;
  /** Longest pause between attempts to connect. */
  reconnectMaxMs?: number;
}

/** A connection to one address ("host:port"), which opens itself again after a loss. */
export interface Channel {
  readonly target: string;
  /** By which the deadlines of its calls are meant. */
  readonly clock: Clock;
  readonly client: Client;
  /** Largest message in either direction. */
  readonly messageBytes: number;
  /** Resolves when the connection is open; SHARD_UNAVAILABLE where it is not within `timeoutMs`. */
  ready(timeoutMs: number): Promise<void>;
  readonly connected: boolean;
  close(): void;
}

export function createChannel(target: string, options: RpcChannelOptions): Channel {
  const { clock, tls } = options;
  const messageBytes = options.messageBytes ?? limits.messageBytes;
  const { serverName } = (typeof tls === "function" ? tls() : tls) ?? {};
  const channelOptions: ChannelOptions = {
    "grpc.max_receive_message_length": messageBytes,
    // checkRequestSize() keeps the limit, with an error that says what to do.
    "grpc.max_send_message_length": -1,
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 5_000,
    "grpc.initial_reconnect_backoff_ms": 100,
    // grpc-js waits up to 120 s by default: far beyond the restart of a node.
    "grpc.max_reconnect_backoff_ms": options.reconnectMaxMs ?? 2_000,
    "grpc.min_reconnect_backoff_ms": 100,
    // Retries belong to whoever knows what is safe to repeat; the transparent ones also buffer every message.
    "grpc.enable_retries": 0,
    "grpc.service_config_disable_resolution": 1,
    "grpc.use_local_subchannel_pool": 1,
    "grpc.enable_channelz": 0,
    // A proxy named in the environment must not come between the nodes of a cluster.
    "grpc.enable_http_proxy": 0,
    "grpc-node.flow_control_window": 4 * 1024 * 1024,
    ...(serverName && { "grpc.ssl_target_name_override": serverName }),
  };
  const client = new Client(target, credentialsOf(tls), channelOptions);
  return {
    target,
    clock,
    client,
    messageBytes,
    get connected() {
      return client.getChannel().getConnectivityState(false) === connectivityState.READY;
    },
    ready: (timeoutMs) =>
      new Promise((resolve, reject) => {
        client.waitForReady(clock.nowMs() + timeoutMs, (error) => {
          if (error === undefined) resolve();
          else reject(notConnected(target, timeoutMs, error));
        });
      }),
    close: () => client.close(),
  };
}

function notConnected(target: string, timeoutMs: number, cause: Error): KithError {
  return new KithError("SHARD_UNAVAILABLE", `no connection to ${target} within ${timeoutMs} ms: is it running there?`, {
    details: { address: target },
    cause,
  });
}

export interface CallOptions {
  readonly signal?: AbortSignal;
  /** Monotonic milliseconds of the channel's clock, as in CallContext. */
  readonly deadlineMs?: number;
  /** Span above the call; its traceparent is sent along. */
  readonly trace?: TraceContext;
  readonly metadata?: Readonly<Record<string, string>>;
}

const clientDuration = histogramOf("rpc.client.call.duration");
const statsByPath = new Map<string, MethodStats>();

function statsOf(path: string): MethodStats {
  let stats = statsByPath.get(path);
  if (stats === undefined) {
    stats = new MethodStats(path.slice(1), clientDuration);
    statsByPath.set(path, stats);
  }
  return stats;
}

function metadataOf(options: CallOptions, trace: TraceContext | undefined): Metadata {
  const metadata = new Metadata();
  if (options.metadata) for (const [key, value] of Object.entries(options.metadata)) metadata.set(key, value);
  const traceparent = trace === undefined ? "" : traceparentOf(trace);
  if (traceparent !== "") metadata.set("traceparent", traceparent);
  return metadata;
}

const encoded = (bytes: Buffer): Buffer => bytes;

/** One unary call; rejects with KithError. BATCH_TOO_LARGE, and nothing is sent, beyond the channel's limit; CANCELLED or the signal's own reason where `signal` aborts. */
export function unaryCall<Req, Res>(
  channel: Channel,
  method: UnaryDefinition<Req, Res>,
  request: Req,
  options: CallOptions = {},
): Promise<Res> {
  const { signal, deadlineMs } = options;
  const { clock } = channel;
  if (signal?.aborted) return Promise.reject(abortReason(signal));
  const now = clock.monotonicMs();
  if (deadlineMs !== undefined && deadlineMs <= now) return Promise.reject(deadlinePassed());
  let bytes: Buffer;
  try {
    bytes = method.requestSerialize(request);
    checkRequestSize(bytes.length, channel.messageBytes);
  } catch (thrown) {
    return Promise.reject(toKithError(thrown));
  }
  const stats = statsOf(method.path);
  const startMs = metricsEnabled() ? now : 0;
  const span = options.trace && startSpan(options.trace, stats.method, clientRole);
  return new Promise<Res>((resolve, reject) => {
    const call = channel.client.makeUnaryRequest(
      method.path,
      encoded,
      method.responseDeserialize,
      bytes,
      metadataOf(options, span?.trace),
      deadlineMs === undefined || deadlineMs === Infinity ? {} : { deadline: clock.nowMs() + (deadlineMs - now) },
      (thrown: ServiceError | null, response?: Res) => {
        signal?.removeEventListener("abort", onAbort);
        if (thrown === null) {
          span?.end();
          stats.record(startMs, clock);
          resolve(response as Res);
          return;
        }
        const error = signal?.aborted ? abortReason(signal) : fromServiceError(thrown);
        span?.end(error);
        stats.record(startMs, clock, error);
        reject(error);
      },
    );
    const onAbort = (): void => call.cancel();
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
const clientRole = { role: "client", attributes: { "rpc.system.name": "grpc" } } as const;

export interface StreamListener<Res> {
  onMessage(message: Res): void;
  /** The server sent its headers: the stream is open. */
  onOpen?(): void;
  /** The stream is over: once, with the error unless the server ended it with OK. */
  onEnd(error: KithError | undefined): void;
}

/** The client's side of a bidirectional stream. */
export interface ClientStream<Req> {
  /** False when the peer reads too slowly: wait for drained() before writing more. Dropped after the end. */
  write(message: Req): boolean;
  readonly writable: boolean;
  drained(): Promise<void>;
  /** Stops and continues reading; HTTP/2 flow control holds the server meanwhile. */
  pause(): void;
  resume(): void;
  /** No more messages from this side; answers still come. */
  end(): void;
  /** Breaks the stream off. onEnd follows with CANCELLED. */
  cancel(): void;
}

/** Opens a bidirectional stream; it lives until one side ends it or the connection breaks. */
export function openStream<Req, Res>(
  channel: Channel,
  method: BidiDefinition<Req, Res>,
  listener: StreamListener<Res>,
  options: Pick<CallOptions, "metadata" | "trace"> = {},
): ClientStream<Req> {
  const stream: ClientDuplexStream<Req, Res> = channel.client.makeBidiStreamRequest(
    method.path,
    method.requestSerialize,
    method.responseDeserialize,
    metadataOf(options, options.trace),
  );
  return new GrpcClientStream(stream, listener);
}

/** Sends one request, to which many answers come; see openStream. */
export function openAnswers<Req, Res>(
  channel: Channel,
  method: ServerStreamDefinition<Req, Res>,
  request: Req,
  listener: StreamListener<Res>,
  options: Pick<CallOptions, "metadata" | "trace"> = {},
): Pick<ClientStream<Req>, "pause" | "resume" | "cancel"> {
  const stream: ClientReadableStream<Res> = channel.client.makeServerStreamRequest(
    method.path,
    method.requestSerialize,
    method.responseDeserialize,
    request,
    metadataOf(options, options.trace),
  );
  let isOver = false;
  const finish = (error: KithError | undefined): void => {
    if (isOver) return;
    isOver = true;
    listener.onEnd(error);
  };
  stream.on("metadata", () => listener.onOpen?.());
  stream.on("data", (message: Res) => listener.onMessage(message));
  stream.on("error", (error: ServiceError) => finish(fromServiceError(error)));
  stream.on("status", (status) => {
    if ((status.code as number) === 0) finish(undefined);
  });
  return { pause: () => stream.pause(), resume: () => stream.resume(), cancel: () => stream.cancel() };
}

class GrpcClientStream<Req, Res> implements ClientStream<Req> {
  readonly #stream: ClientDuplexStream<Req, Res>;
  readonly #listener: StreamListener<Res>;
  #drained = deferred<void>();
  #over = false;

  constructor(stream: ClientDuplexStream<Req, Res>, listener: StreamListener<Res>) {
    this.#stream = stream;
    this.#listener = listener;
    stream.on("metadata", () => listener.onOpen?.());
    stream.on("data", (message: Res) => listener.onMessage(message));
    stream.on("drain", () => this.#wake());
    stream.on("error", (error: ServiceError) => this.#finish(fromServiceError(error)));
    stream.on("status", (status) => {
      if ((status.code as number) === 0) this.#finish(undefined);
    });
  }

  get writable(): boolean {
    return !this.#over && !this.#stream.writableNeedDrain;
  }
  write(message: Req): boolean {
    return this.#over || this.#stream.write(message);
  }
  drained(): Promise<void> {
    return this.#over || !this.#stream.writableNeedDrain ? Promise.resolve() : this.#drained.promise;
  }
  pause(): void {
    this.#stream.pause();
  }
  resume(): void {
    this.#stream.resume();
  }
  end(): void {
    if (!this.#over) this.#stream.end();
  }
  cancel(): void {
    if (!this.#over) this.#stream.cancel();
  }

  #wake(): void {
    const before = this.#drained;
    this.#drained = deferred<void>();
    before.resolve();
  }

  #finish(error: KithError | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#wake();
    this.#listener.onEnd(error);
  }
}
