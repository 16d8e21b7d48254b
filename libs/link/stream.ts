import {
  abortReason,
  backoffMs,
  type Cancellation,
  type Clock,
  KithError,
  limits,
  type Runtime,
  type Timer,
  toKithError,
} from "../base/index.js";
import type { CallContext } from "../call/index.js";
import { histogramOf, type Logger, metricsEnabled, type Span, startSpan, traceparentOf } from "../telemetry/index.js";
import type { ipb } from "../wire/index.js";
import { MethodStats } from "../rpc/common/index.js";
import { type Channel, type ChannelTls, type ClientStream, createChannel, openStream } from "../rpc/client/index.js";
import { deadlinePassed, DeadlineSweep, type Expiring } from "../rpc/common/index.js";
import { checkRequestSize, fromFailure } from "../rpc/common/index.js";
import { linkFrames, linkService } from "./codec.js";
import type { ShardId } from "../model/index.js";

export interface LinkStreamOptions extends Runtime {
  address: string;
  tls: ChannelTls | undefined;
  defaultTimeoutMs: number;
  backoff: { initialMs: number; maxMs: number };
  logger: Logger;
  /** The stream was connected or lost. */
  onChange(): void;
}

type Call = NonNullable<ipb.LinkRequest["call"]>;
type Outcome = NonNullable<ipb.LinkResponse["outcome"]>;

/** Time for a stream to open: an address that swallows packets must not hold requests for longer. */
const connectTimeoutMs = 5_000;
/** Bytes of frames that wait for a peer that does not read. */
const outboxBytesMax = 64 * 1024 * 1024;
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
class Pending implements Expiring {
  sweepSlot = -1;
  readonly promise: Promise<Outcome["value"]>;
  readonly startMs: number;
  #resolve!: (value: Outcome["value"]) => void;
  #reject!: (error: KithError) => void;

  constructor(
    readonly id: number,
    readonly kind: Outcome["$case"],
    nowMs: number,
    readonly deadlineMs: number,
    readonly context: CallContext,
    readonly span: Span,
    private readonly stream: LinkStream,
  ) {
    this.startMs = metricsEnabled() ? nowMs : 0;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  /** How the caller's end is told. */
  get cancellation(): Cancellation | undefined {
    return this.context.cancellation ?? this.context.signal;
  }

  readonly onAbort = (): void => {
    const { cancellation } = this;
    if (cancellation !== undefined) this.stream.abandon(this, abortReason(cancellation));
  };

  /** As a member of the sweep of deadlines. */
  expire(): void {
    this.stream.abandon(this, deadlinePassed());
  }

  succeed(value: Outcome["value"]): void {
    this.span.end();
    statsOf(this.kind).record(this.startMs, this.stream.clock);
    this.#resolve(value);
  }

  fail(error: KithError): void {
    this.span.end(error);
    statsOf(this.kind).record(this.startMs, this.stream.clock, error);
    this.#reject(error);
  }
}

/** One stream of a link: requests by id, answers in any order. Opens itself again until it is closed. */
export class LinkStream {
  readonly clock: Clock;
  readonly #options: LinkStreamOptions;
  readonly #channel: Channel;
  readonly #sweep: DeadlineSweep<Pending>;
  /** Where in the sweep the request of an id is. */
  readonly #slots = new Map<number, number>();
  /** Frames that wait for the stream to take more; bounded by the requests in flight of the link. */
  readonly #outbox = new Map<number, Buffer>();
  #outboxBytes = 0;
  #stream: ClientStream<Buffer> | undefined;
  #connected = false;
  #closed = false;
  #attempt = 0;
  #retryAtMs = 0;
  #timer: Timer | undefined;
  #nextId = 1;

  constructor(options: LinkStreamOptions) {
    this.#options = options;
    this.clock = options.clock;
    this.#sweep = new DeadlineSweep(options.clock);
    this.#channel = createChannel(options.address, {
      clock: options.clock,
      ...(options.tls && { tls: options.tls }),
    });
  }

  get inFlight(): number {
    return this.#sweep.size;
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
    const timer = this.clock.setTimer(() => stream.cancel(), connectTimeoutMs);
    const stream = openStream(this.#channel, linkFrames, {
      onOpen: () => {
        timer.close();
        this.#attempt = 0;
        this.#setConnected(true);
      },
      onMessage: (response) => this.#receive(response),
      onEnd: (error) => {
        timer.close();
        this.#lost(error);
      },
    });
    this.#stream = stream;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer?.close();
    this.#stream?.cancel();
    this.#failAll(new KithError("SHARD_UNAVAILABLE", `the link to ${this.#options.address} was closed`));
    this.#setConnected(false);
    this.#channel.close();
  }

  send(kind: Outcome["$case"], replica: ShardId, call: Call, context: CallContext): Promise<Outcome["value"]> {
    const now = this.clock.monotonicMs();
    if (this.#stream === undefined) return Promise.reject(this.#unavailable(undefined, this.#retryAtMs - now));
    const given = context.deadlineMs ?? Infinity;
    const deadlineMs = given === Infinity ? now + this.#options.defaultTimeoutMs : given;
    if (deadlineMs <= now) return Promise.reject(deadlinePassed());
    if (this.#outboxBytes > outboxBytesMax) return Promise.reject(this.#congested());
    const span = startSpan(context.trace, statsOf(kind).method, clientRole);
    const id = this.#nextId++;
    let frame: Buffer;
    try {
      frame = encodeFrame({
        requestId: id,
        timeoutMs: Math.min(timeoutMaxMs, Math.max(1, Math.ceil(deadlineMs - now))),
        traceparent: traceparentOf(span.trace),
        collectTrace: context.trace.collector !== undefined,
        parentSpanId: span.trace.spanId ?? "",
        replica,
        call,
      });
    } catch (thrown) {
      span.end(thrown);
      return Promise.reject(toKithError(thrown));
    }
    const pending = new Pending(id, kind, now, deadlineMs, context, span, this);
    this.#sweep.add(pending);
    this.#slots.set(id, pending.sweepSlot);
    pending.cancellation?.addEventListener("abort", pending.onAbort, { once: true });
    this.#write(id, frame);
    return pending.promise;
  }

  /** Ends a request from this side: the caller is told at once, the node stops working on it. */
  abandon(pending: Pending, error: KithError): void {
    if (!this.#forget(pending)) return;
    // A frame that was not sent yet needs no cancellation.
    const unsent = this.#outbox.get(pending.id);
    if (unsent === undefined) this.#write(pending.id, cancelFrame(pending.id));
    else this.#take(pending.id, unsent);
    pending.fail(error);
  }

  #forget(pending: Pending): boolean {
    if (!this.#slots.delete(pending.id)) return false;
    this.#sweep.delete(pending);
    pending.cancellation?.removeEventListener("abort", pending.onAbort);
    return true;
  }

  #write(id: number, frame: Buffer): void {
    const stream = this.#stream;
    if (stream === undefined) return;
    if (this.#outbox.size === 0 && stream.writable) {
      stream.write(frame);
      return;
    }
    this.#outbox.set(id, frame);
    this.#outboxBytes += frame.length;
    if (this.#outbox.size === 1) void this.#flush(stream);
  }

  #take(id: number, frame: Buffer): void {
    this.#outbox.delete(id);
    this.#outboxBytes -= frame.length;
  }

  async #flush(stream: ClientStream<Buffer>): Promise<void> {
    while (this.#outbox.size > 0 && this.#stream === stream) {
      await stream.drained();
      for (const [id, frame] of this.#outbox) {
        if (this.#stream !== stream || !stream.writable) break;
        this.#take(id, frame);
        stream.write(frame);
      }
    }
  }

  #receive(response: ipb.LinkResponse): void {
    const slot = this.#slots.get(response.requestId);
    const pending = slot === undefined ? undefined : this.#sweep.at(slot);
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
    const delayMs = backoffMs(this.#attempt++, this.#options.backoff, this.#options.random);
    this.#retryAtMs = this.clock.monotonicMs() + delayMs;
    this.#timer = this.clock.setTimer(() => this.open(), delayMs);
    this.#failAll(this.#unavailable(cause, delayMs));
    if (this.#connected) {
      const { address, logger } = this.#options;
      logger.warn(`lost the link to ${address}`, { address, cause: cause?.message ?? "ended by the node" });
    }
    this.#setConnected(false);
  }

  #failAll(error: KithError): void {
    this.#outbox.clear();
    this.#outboxBytes = 0;
    for (const pending of this.#sweep) if (this.#forget(pending)) pending.fail(error);
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

  #congested(): KithError {
    const { address } = this.#options;
    const message = `${this.#outboxBytes} bytes wait for ${address}, which does not read them; try again shortly`;
    return new KithError("RESOURCE_EXHAUSTED", message, { details: { address }, retryAfterMs: 100 });
  }

  #setConnected(connected: boolean): void {
    if (connected === this.#connected) return;
    this.#connected = connected;
    this.#options.onChange();
  }
}

const clientRole = { role: "client", attributes: { "rpc.system.name": "grpc" } } as const;

/** Encoded here and not within grpc-js, which would break the stream of all because of one request. */
function encodeFrame(request: ipb.LinkRequest): Buffer {
  const frame = linkService.open.requestSerialize(request);
  checkRequestSize(frame.length, limits.messageBytes);
  return frame;
}

function cancelFrame(requestId: number): Buffer {
  return encodeFrame({
    requestId,
    timeoutMs: 0,
    traceparent: "",
    collectTrace: false,
    parentSpanId: "",
    replica: undefined,
    call: { $case: "cancel", value: true },
  });
}
