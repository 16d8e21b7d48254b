import { abortReason, backoffMs, KithError } from "../base/index.js";
import {
  type CallContext,
  histogramOf,
  type Logger,
  metricsEnabled,
  type Span,
  startSpan,
  traceparentOf,
} from "../telemetry/index.js";
import type { ipb } from "../wire/index.js";
import { MethodStats } from "./call-stats.js";
import { type Channel, type ChannelTls, type ClientStream, createChannel, openStream } from "./channel.js";
import { DeadlineSweep } from "./deadline.js";
import { fromFailure } from "./errors.js";
import { linkService } from "./link-codec.js";
import { deadlinePassed } from "./server-call.js";
import type { ReplicaName } from "./shard-api.js";

export interface LinkStreamOptions {
  address: string;
  tls: ChannelTls | undefined;
  defaultTimeoutMs: number;
  backoff: { initialMs: number; maxMs: number };
  random: () => number;
  logger: Logger;
  /** The stream was connected or lost. */
  onChange(): void;
}

type Call = NonNullable<ipb.LinkRequest["call"]>;
type Outcome = NonNullable<ipb.LinkResponse["outcome"]>;

/** Time for a stream to open: an address that swallows packets must not hold requests for longer. */
const connectTimeoutMs = 5_000;
/** uint32 on the wire. */
const timeoutMaxMs = 0xffff_ffff;

const duration = histogramOf("rpc.client.call.duration");
const stats = new Map<string, MethodStats>();
function statsOf(name: string): MethodStats {
  let found = stats.get(name);
  if (found === undefined) {
    found = new MethodStats(`kith.internal.v1.Link/${name}`, duration);
    stats.set(name, found);
  }
  return found;
}

/** One request that waits for its answer. */
class Pending {
  readonly promise: Promise<Outcome["value"]>;
  readonly startMs = metricsEnabled() ? performance.now() : 0;
  #resolve!: (value: Outcome["value"]) => void;
  #reject!: (error: KithError) => void;

  constructor(
    readonly id: number,
    readonly kind: Outcome["$case"],
    readonly deadlineMs: number,
    readonly context: CallContext,
    readonly span: Span,
    private readonly stream: LinkStream,
  ) {
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  /** As the listener of the caller's signal: no closure per request. */
  handleEvent(): void {
    this.stream.abandon(this, abortReason(this.context.signal as AbortSignal));
  }

  /** As a member of the sweep of deadlines. */
  expire(): void {
    this.stream.abandon(this, deadlinePassed());
  }

  succeed(value: Outcome["value"]): void {
    this.span.end();
    statsOf(this.kind).record(this.startMs);
    this.#resolve(value);
  }

  fail(error: KithError): void {
    this.span.end(error);
    statsOf(this.kind).record(this.startMs, error);
    this.#reject(error);
  }
}

/** One stream of a link: requests by id, answers in any order. Opens itself again until it is closed. */
export class LinkStream {
  readonly #options: LinkStreamOptions;
  readonly #channel: Channel;
  readonly #pending = new Map<number, Pending>();
  readonly #sweep = new DeadlineSweep<Pending>();
  /** Frames that wait for the stream to take more; bounded by the requests in flight of the link. */
  readonly #outbox = new Map<number, ipb.LinkRequest>();
  #stream: ClientStream<ipb.LinkRequest> | undefined;
  #connected = false;
  #closed = false;
  #attempt = 0;
  #retryAtMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #nextId = 1;

  constructor(options: LinkStreamOptions) {
    this.#options = options;
    this.#channel = createChannel(options.address, { ...(options.tls && { tls: options.tls }) });
  }

  get inFlight(): number {
    return this.#pending.size;
  }
  get connected(): boolean {
    return this.#connected;
  }
  /** 2: connected; 1: connecting; 0: waiting before the next attempt. */
  get rank(): number {
    if (this.#connected) return 2;
    return this.#stream === undefined ? 0 : 1;
  }

  open(): void {
    this.#timer = undefined;
    if (this.#closed) return;
    const timer = setTimeout(() => stream.cancel(), connectTimeoutMs);
    const stream = openStream(this.#channel, linkService.open, {
      onOpen: () => {
        clearTimeout(timer);
        this.#attempt = 0;
        this.#setConnected(true);
      },
      onMessage: (response) => this.#receive(response),
      onEnd: (error) => {
        clearTimeout(timer);
        this.#lost(error);
      },
    });
    this.#stream = stream;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#stream?.cancel();
    this.#failAll(new KithError("SHARD_UNAVAILABLE", `the link to ${this.#options.address} was closed`));
    this.#setConnected(false);
    this.#channel.close();
  }

  send(kind: Outcome["$case"], replica: ReplicaName, call: Call, context: CallContext): Promise<Outcome["value"]> {
    const { signal } = context;
    const now = performance.now();
    if (this.#stream === undefined) return Promise.reject(this.#unavailable(undefined, this.#retryAtMs - now));
    const given = context.deadlineMs ?? Infinity;
    const deadlineMs = given === Infinity ? now + this.#options.defaultTimeoutMs : given;
    if (deadlineMs <= now) return Promise.reject(deadlinePassed());
    const span = startSpan(context.trace, statsOf(kind).method, clientRole);
    const pending = new Pending(this.#nextId++, kind, deadlineMs, context, span, this);
    this.#pending.set(pending.id, pending);
    this.#sweep.add(pending);
    signal?.addEventListener("abort", pending, { once: true });
    this.#write({
      requestId: pending.id,
      timeoutMs: Math.min(timeoutMaxMs, Math.max(1, Math.ceil(deadlineMs - now))),
      traceparent: traceparentOf(span.trace),
      collectTrace: context.trace.collector !== undefined,
      parentSpanId: span.trace.spanId ?? "",
      replica,
      call,
    });
    return pending.promise;
  }

  /** Ends a request from this side: the caller is told at once, the node stops working on it. */
  abandon(pending: Pending, error: KithError): void {
    if (!this.#forget(pending)) return;
    // A frame that was not sent yet needs no cancellation.
    if (!this.#outbox.delete(pending.id)) this.#write(cancelFrame(pending.id));
    pending.fail(error);
  }

  #forget(pending: Pending): boolean {
    if (!this.#pending.delete(pending.id)) return false;
    this.#sweep.delete(pending);
    pending.context.signal?.removeEventListener("abort", pending);
    return true;
  }

  #write(frame: ipb.LinkRequest): void {
    const stream = this.#stream;
    if (stream === undefined) return;
    if (this.#outbox.size === 0 && stream.writable) {
      stream.write(frame);
      return;
    }
    this.#outbox.set(frame.requestId, frame);
    if (this.#outbox.size === 1) void this.#flush(stream);
  }

  async #flush(stream: ClientStream<ipb.LinkRequest>): Promise<void> {
    while (this.#outbox.size > 0 && this.#stream === stream) {
      await stream.drained();
      for (const [id, frame] of this.#outbox) {
        if (this.#stream !== stream || !stream.writable) break;
        this.#outbox.delete(id);
        stream.write(frame);
      }
    }
  }

  #receive(response: ipb.LinkResponse): void {
    const pending = this.#pending.get(response.requestId);
    // The answer to a request that was abandoned meanwhile.
    if (pending === undefined) return;
    this.#forget(pending);
    const { collector } = pending.context.trace;
    if (collector !== undefined) for (const span of response.trace) collector.add(span);
    const { outcome } = response;
    if (outcome?.$case === "failure") pending.fail(fromFailure(outcome.value));
    else if (outcome?.$case === pending.kind) pending.succeed(outcome.value);
    else {
      const message = `${this.#options.address} answered a ${pending.kind} with ${outcome?.$case ?? "nothing"}`;
      pending.fail(new KithError("INTERNAL", message, { details: { address: this.#options.address } }));
    }
  }

  /** The stream is over: its requests fail, and it opens again after a pause. */
  #lost(cause: KithError | undefined): void {
    this.#stream = undefined;
    if (this.#closed) return;
    const delayMs = backoffMs(this.#attempt++, { ...this.#options.backoff, random: this.#options.random });
    this.#retryAtMs = performance.now() + delayMs;
    this.#timer = setTimeout(() => this.open(), delayMs);
    this.#failAll(this.#unavailable(cause, delayMs));
    if (this.#connected) {
      const { address, logger } = this.#options;
      logger.warn(`lost the link to ${address}`, { address, cause: cause?.message ?? "ended by the node" });
    }
    this.#setConnected(false);
  }

  #failAll(error: KithError): void {
    this.#outbox.clear();
    for (const pending of [...this.#pending.values()]) if (this.#forget(pending)) pending.fail(error);
  }

  #unavailable(cause: KithError | undefined, retryAfterMs: number): KithError {
    const { address } = this.#options;
    const why = cause === undefined ? "" : `: ${cause.message}`;
    return new KithError("SHARD_UNAVAILABLE", `no link to ${address}${why}; another replica may answer`, {
      details: { address },
      retryAfterMs: Math.max(0, Math.ceil(retryAfterMs)),
      cause,
    });
  }

  #setConnected(connected: boolean): void {
    if (connected === this.#connected) return;
    this.#connected = connected;
    this.#options.onChange();
  }
}

const clientRole = { role: "client", attributes: { "rpc.system.name": "grpc" } } as const;

function cancelFrame(requestId: number): ipb.LinkRequest {
  return {
    requestId,
    timeoutMs: 0,
    traceparent: "",
    collectTrace: false,
    parentSpanId: "",
    replica: undefined,
    call: { $case: "cancel", value: true },
  };
}
