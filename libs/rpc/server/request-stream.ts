import { type Clock, KithError, toKithError } from "../../base/index.js";
import { metricsEnabled, noTrace, type TraceContext } from "../../telemetry/index.js";
import type { MethodStats } from "../common/call-stats.js";
import { deadlinePassed, DeadlineSweep, shuttingDown } from "../common/deadline.js";
import { ServerCall } from "./server-call.js";
import type { ServerStream } from "./server-stream.js";

/** How a stream carries many requests by id: QueryStream, UpsertStream and the link are of this kind. */
export interface RequestStreamProtocol<Req, Res> {
  /** Requests in flight at which reading stops until one is answered. */
  readonly inFlightMax: number;
  /** Bytes of answers that may be worked on at once, by `expectedBytesOf`; a request always runs where no other does. */
  readonly answerBytesMax?: number;
  /** How large the answer will probably be, in bytes. Asked again whenever the request might begin. */
  readonly expectedBytesOf?: (this: void, request: Req) => number;
  idOf(request: Req): number | bigint;
  /** Milliseconds that the client waits; 0: `defaultTimeoutMs`. */
  timeoutMsOf(request: Req): number;
  readonly defaultTimeoutMs: number;
  /** Whether the message stops the request of its id, which is then not answered. */
  isCancel(request: Req): boolean;
  answer(request: Req, call: RequestContext): Promise<Res>;
  /** Where the duration of the request is recorded; the stream's own method where this is left out. */
  statsOf?(request: Req): MethodStats;
  /** The answer that carries an error. */
  fail(request: Req, error: KithError): Res;
}

/** The call of one request of a stream. The signal is made when it is asked for. */
export interface RequestContext extends ServerCall {
  /** The stream's own trace does not fit its requests; answer() sets the one that came with the request. */
  trace: TraceContext;
  /** The error within the answer, where answer() does not throw it; for the metrics. */
  failure: KithError | undefined;
}

class RequestCall<Req> extends ServerCall implements RequestContext {
  trace: TraceContext = noTrace;
  failure: KithError | undefined;
  answered = false;
  /** Of the answer, as foreseen when it began. */
  expectedBytes = 0;
  /** 0 where metrics are off. */
  readonly startMs: number;

  constructor(
    readonly id: number | bigint,
    readonly request: Req,
    clock: Clock,
    nowMs: number,
    timeoutMs: number,
    private readonly onExpire: (call: RequestCall<Req>) => void,
  ) {
    super(nowMs + timeoutMs, clock);
    this.startMs = metricsEnabled() ? nowMs : 0;
  }

  expire(): void {
    this.onExpire(this);
  }

  // The stream calls abort() on every request in flight when the client cancels or goes away.
  protected watchCancellation(): void {
    return;
  }
}

/** Answers every request of the stream, in any order; settles when the client has ended it and all are answered. */
export async function answerEach<Req, Res>(
  stream: ServerStream<Req, Res>,
  protocol: RequestStreamProtocol<Req, Res>,
): Promise<void> {
  await new RequestStream(stream, protocol).run();
}

class RequestStream<Req, Res> {
  readonly #stream: ServerStream<Req, Res>;
  readonly #protocol: RequestStreamProtocol<Req, Res>;
  readonly #sweep: DeadlineSweep<RequestCall<Req>>;
  /** Where in the sweep the request of an id is. */
  readonly #slots = new Map<number | bigint, number>();
  /** Handlers that run, also of requests that were cancelled: they still hold memory; and requests that wait for their turn. */
  #running = 0;
  /** Requests that begin when the answers before them have left. */
  readonly #held: RequestCall<Req>[] = [];
  #begunCount = 0;
  #begunBytes = 0;
  #paused = false;
  #awaitsDrain = false;
  #onIdle: (() => void) | undefined;

  constructor(stream: ServerStream<Req, Res>, protocol: RequestStreamProtocol<Req, Res>) {
    this.#stream = stream;
    this.#protocol = protocol;
    this.#sweep = new DeadlineSweep(stream.call.clock);
  }

  async run(): Promise<void> {
    const { signal } = this.#stream.call;
    const onAbort = (): void => {
      const reason = toKithError(signal.reason);
      for (const call of this.#sweep) {
        this.#forget(call, reason);
        call.abort(reason);
      }
    };
    signal.addEventListener("abort", onAbort, { once: true });
    this.#stream.onMessage((request) => this.#receive(request));
    await this.#stream.ended;
    await new Promise<void>((resolve) => {
      this.#onIdle = resolve;
      this.#settle();
    });
    signal.removeEventListener("abort", onAbort);
  }

  #receive(request: Req): void {
    const protocol = this.#protocol;
    const id = protocol.idOf(request);
    if (protocol.isCancel(request)) {
      const slot = this.#slots.get(id);
      const call = slot === undefined ? undefined : this.#sweep.at(slot);
      if (call === undefined) return;
      const reason = new KithError("CANCELLED", "the client cancelled the request");
      this.#forget(call, reason);
      call.abort(reason);
      return;
    }
    if (this.#stream.draining) {
      this.#write(protocol.fail(request, shuttingDown()));
      return;
    }
    if (this.#slots.has(id)) {
      const message = `the request id ${id} is in flight already; choose one that is not`;
      this.#write(
        protocol.fail(request, new KithError("INVALID_ARGUMENT", message, { details: { requestId: String(id) } })),
      );
      return;
    }
    const timeoutMs = protocol.timeoutMsOf(request) || protocol.defaultTimeoutMs;
    const { clock } = this.#stream.call;
    const call = new RequestCall(id, request, clock, clock.monotonicMs(), timeoutMs, this.#expire);
    this.#sweep.add(call);
    this.#slots.set(id, call.sweepSlot);
    this.#running++;
    if (this.#running >= protocol.inFlightMax) this.#pause();
    if (this.#held.length > 0 || !this.#begins(call)) {
      this.#held.push(call);
      this.#pause();
    }
  }

  /** Begins with the request where the answers before leave room for its own: what a client does not read stays unread. */
  #begins(call: RequestCall<Req>): boolean {
    const { expectedBytesOf, answerBytesMax = Number.POSITIVE_INFINITY } = this.#protocol;
    if (expectedBytesOf !== undefined && !call.answered) {
      if (!this.#stream.writable) return false;
      const bytes = expectedBytesOf(call.request);
      if (this.#begunCount > 0 && this.#begunBytes + bytes > answerBytesMax) return false;
      call.expectedBytes = bytes;
    }
    this.#begunCount++;
    this.#begunBytes += call.expectedBytes;
    void this.#answer(call);
    return true;
  }

  #beginHeld(): void {
    let begun = 0;
    while (begun < this.#held.length && this.#begins(this.#held[begun] as RequestCall<Req>)) begun++;
    if (begun > 0) this.#held.splice(0, begun);
  }

  async #answer(call: RequestCall<Req>): Promise<void> {
    const protocol = this.#protocol;
    try {
      // Its deadline has passed, or it was cancelled, while it waited for its turn.
      if (call.answered) return;
      const response = await protocol.answer(call.request, call);
      // Written before it is forgotten: an answer that is too large throws, and the request still gets an answer.
      if (!call.answered) this.#write(response);
      this.#forget(call, call.failure);
    } catch (thrown) {
      if (call.answered) return;
      const error = this.#stream.failure(thrown, call.trace);
      this.#forget(call, error);
      this.#write(protocol.fail(call.request, error));
    } finally {
      this.#running--;
      this.#begunCount--;
      this.#begunBytes -= call.expectedBytes;
      if (this.#held.length > 0) this.#beginHeld();
      if (this.#running === 0 && this.#onIdle !== undefined) this.#settle();
      if (this.#paused) this.#continue();
    }
  }

  readonly #expire = (call: RequestCall<Req>): void => {
    if (call.answered) return;
    const error = deadlinePassed();
    this.#forget(call, error);
    call.abort(error);
    this.#write(this.#protocol.fail(call.request, error));
  };

  /** The end of a request that was answered, or is to be now; nothing where it was before. */
  #forget(call: RequestCall<Req>, error: KithError | undefined): void {
    if (call.answered) return;
    call.answered = true;
    this.#slots.delete(call.id);
    this.#sweep.delete(call);
    (this.#protocol.statsOf?.(call.request) ?? this.#stream.stats).record(call.startMs, this.#stream.call.clock, error);
  }

  #write(response: Res): void {
    if (!this.#stream.write(response)) this.#pause();
  }

  /** A client that does not read its answers, or has too many requests in flight, is not read from either. */
  #pause(): void {
    if (!this.#paused) {
      this.#paused = true;
      this.#stream.pause();
    }
    if (!this.#awaitsDrain && !this.#stream.writable) void this.#continueWhenDrained();
  }

  /** Answers that were ready at the moment of the drain may have filled the stream again before this runs. */
  async #continueWhenDrained(): Promise<void> {
    this.#awaitsDrain = true;
    do await this.#stream.drained();
    while (!this.#stream.writable);
    this.#awaitsDrain = false;
    this.#beginHeld();
    this.#continue();
  }

  #continue(): void {
    if (!this.#paused || this.#held.length > 0) return;
    if (this.#running >= this.#protocol.inFlightMax || !this.#stream.writable) return;
    this.#paused = false;
    this.#stream.resume();
  }

  #settle(): void {
    if (this.#running === 0) this.#onIdle?.();
  }
}
