import { backoffMs, KithError, type Runtime, toKithError } from "../base/index.js";

export interface RetryOptions {
  /** Tries of one call, the first included. Default: 6. */
  attempts?: number;
  /** First pause, in milliseconds; doubled for each further one, with jitter. Default: 50. */
  initialMs?: number;
  /** Longest pause, in milliseconds. Default: 2 000. */
  maxMs?: number;
  /** Retries that each call adds to the budget. Default: 0.1, so that retries add at most a tenth to the load. */
  ratio?: number;
  /** Retries that can be saved up, and that a new client has. Default: 100, about the calls in flight of one client. */
  burst?: number;
}

/** LIMIT_OUT_OF_RANGE for what is no number: a call would be tried again for ever, or never. */
export function checkRetry(options: RetryOptions): void {
  for (const [key, value] of Object.entries(options) as [string, number | undefined][]) {
    if (value === undefined || (Number.isFinite(value) && value >= 0)) continue;
    const field = `options.retry.${key}`;
    throw new KithError("LIMIT_OUT_OF_RANGE", `${field} is ${String(value)}; it must be a number, not negative`, {
      details: { field, value: String(value) },
    });
  }
}

/** Retries come out of a bucket that calls fill: a server in trouble is not drowned by the retries of its clients. */
export class RetryBudget {
  #tokens: number;

  constructor(
    readonly ratio: number,
    readonly burst: number,
  ) {
    this.#tokens = burst;
  }

  deposit(): void {
    this.#tokens = Math.min(this.burst, this.#tokens + this.ratio);
  }

  /** Takes one retry out; false where there is none left. */
  withdraw(): boolean {
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}

/** One call with its overall deadline, in monotonic milliseconds. */
export interface Attempting {
  signal: AbortSignal | undefined;
  endMs: number;
}

export class Retrier {
  readonly budget: RetryBudget;
  readonly #attempts: number;
  readonly #backoff: { initialMs: number; maxMs: number };

  constructor(
    options: RetryOptions,
    private readonly runtime: Runtime,
    /** Waits between attempts; rejects when there shall be no further one. */
    private readonly pause: (ms: number, signal: AbortSignal | undefined) => Promise<void>,
  ) {
    this.budget = new RetryBudget(options.ratio ?? 0.1, options.burst ?? 100);
    this.#attempts = options.attempts ?? 6;
    this.#backoff = { initialMs: options.initialMs ?? 50, maxMs: options.maxMs ?? 2_000 };
  }

  /**
   * Runs `attempt` until it succeeds, fails for good, or retries are used up; the last error is thrown then. Only for what
   * may be repeated: reads, and writes that carry the same idempotency key each time.
   */
  async run<T>(call: Attempting, attempt: () => Promise<T>): Promise<T> {
    this.budget.deposit();
    for (let tried = 1; ; tried++) {
      try {
        return await attempt();
      } catch (thrown) {
        const error = toKithError(thrown);
        const pauseMs = this.pauseMs(error, tried, call);
        if (pauseMs === undefined) throw error;
        await this.pause(pauseMs, call.signal);
      }
    }
  }

  /** How long to wait before the next try after `tried` ones, taking it out of the budget; undefined: give up. */
  pauseMs(error: KithError, tried: number, call: Attempting): number | undefined {
    if (!error.retryable || tried >= this.#attempts) return undefined;
    if (call.signal?.aborted) return undefined;
    const pauseMs = Math.max(error.retryAfterMs ?? 0, backoffMs(tried - 1, this.#backoff, this.runtime.random));
    if (this.runtime.clock.monotonicMs() + pauseMs >= call.endMs) return undefined;
    return this.budget.withdraw() ? pauseMs : undefined;
  }
}
