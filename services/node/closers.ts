import { type Clock, KithError, sleep, toKithError } from "../../libs/base/index.js";
import type { Logger } from "../../libs/telemetry/index.js";

/**
 * Time that a node takes at its end for telling others, all steps together, in milliseconds. Who is not told finds out by
 * itself, after the times of leases and heartbeats.
 */
const tellingMs = 400;

interface Step {
  name: string;
  close: () => Promise<void> | void;
  /** It needs the answers of others, who may be frozen. */
  tells: boolean;
}

/** What a node has started, undone in the opposite order, each step even if another fails, and within a bound whatever peers do. */
export class Closers {
  readonly #steps: Step[] = [];
  readonly #clock: Clock;
  readonly #drainTimeout: () => number;
  #drainEndMs: number | undefined;

  /** @param drainTimeout of calls in flight, in milliseconds: as it is when the end begins */
  constructor(clock: Clock, drainTimeout: () => number) {
    this.#clock = clock;
    this.#drainTimeout = drainTimeout;
  }

  add(name: string, close: () => Promise<void> | void): void {
    this.#steps.push({ name, close, tells: false });
  }

  /** A step that is left to itself where the time for telling others is over. */
  addTelling(name: string, close: () => Promise<void> | void): void {
    this.#steps.push({ name, close, tells: true });
  }

  /** What is left for calls in flight, in milliseconds: all services of a node share its time. */
  drainMs(): number {
    this.#drainEndMs ??= this.#clock.monotonicMs() + this.#drainTimeout();
    return Math.max(0, this.#drainEndMs - this.#clock.monotonicMs());
  }

  async run(logger: Logger): Promise<void> {
    let leftMs = tellingMs;
    for (const { name, close, tells } of this.#steps.splice(0).reverse()) {
      const startMs = this.#clock.monotonicMs();
      try {
        if (tells) await this.#within(leftMs, close);
        else await close();
      } catch (error) {
        logger.error(`closing ${name} failed: ${toKithError(error).message}`, { error });
      }
      if (tells) leftMs = Math.max(0, leftMs - (this.#clock.monotonicMs() - startMs));
    }
  }

  async #within(ms: number, close: () => Promise<void> | void): Promise<void> {
    const done = new AbortController();
    const late = sleep(this.#clock, ms, done.signal).then(() => {
      throw new KithError(
        "DEADLINE_EXCEEDED",
        `others did not answer within the ${tellingMs} ms that are for telling them`,
      );
    });
    late.catch(() => undefined);
    try {
      await Promise.race([close(), late]);
    } finally {
      done.abort();
    }
  }
}
