import { abortReason, type Cancellation, type Clock, type KithError } from "../base/index.js";
import type { CallContext } from "../call/index.js";
import { metricsEnabled, type Span } from "../telemetry/index.js";
import { deadlinePassed, type Expiring, type MethodStats } from "../rpc/common/index.js";
import type { ByteReader } from "./bytes.js";

/** Reads the answer to a request. */
export interface AnswerReader {
  readAnswer(from: ByteReader): unknown;
}

/** What a connection is told of a request that its caller has given up. */
export interface Abandoner {
  abandon(pending: Pending, error: KithError): void;
}

/** One request that waits for its answer. Its place in the connection's sweep is its slot on the wire. */
export class Pending implements Expiring {
  sweepSlot = -1;
  readonly promise: Promise<unknown>;
  readonly startMs: number;
  #resolve!: (value: unknown) => void;
  #reject!: (error: unknown) => void;

  constructor(
    readonly serial: number,
    readonly stats: MethodStats,
    private readonly clock: Clock,
    nowMs: number,
    readonly deadlineMs: number,
    readonly context: CallContext,
    readonly span: Span,
    readonly codec: AnswerReader,
    private readonly connection: Abandoner,
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
    if (cancellation !== undefined) this.connection.abandon(this, abortReason(cancellation));
  };

  /** As a member of the sweep of deadlines. */
  expire(): void {
    this.connection.abandon(this, deadlinePassed());
  }

  succeed(value: unknown): void {
    this.span.end();
    this.stats.record(this.startMs, this.clock);
    this.#resolve(value);
  }

  fail(error: KithError): void {
    this.span.end(error);
    this.stats.record(this.startMs, this.clock, error);
    this.#reject(error);
  }
}
