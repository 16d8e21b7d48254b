import { abortReason, heardByMany } from "./async.js";
import { KithError } from "./errors.js";

/** A timer that was set. */
export interface Timer {
  /** Stops it; nothing happens where it has run already. */
  close(): void;
  /** Lets the process end before it runs. */
  unref(): Timer;
}

/** Time and timers, injected so that tests and simulations control them. */
export interface Clock {
  /** Wall clock, milliseconds since the Unix epoch. May jump. Only for what people read and for expiry. */
  nowMs(): number;
  /** Monotonic milliseconds from an arbitrary start. For durations, deadlines and leases. */
  monotonicMs(): number;
  /** Wall clock, with fractions of a millisecond, when the monotonic clock was at 0: places what was measured on the calendar. */
  readonly originMs: number;
  /** Calls `callback` once, after `delayMs` milliseconds (at most 2^31 - 1). */
  setTimer(callback: () => void, delayMs: number): Timer;
  /** Calls `callback` every `periodMs` milliseconds until the timer is closed. */
  every(callback: () => void, periodMs: number): Timer;
  /** Calls `callback` once what has arrived by now is handled: after this turn of the event loop. */
  soon(callback: () => void): void;
}

/** The clock and timers of this process. Its timers are Node's own objects, so that the port adds no allocation to them. */
export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  originMs: performance.timeOrigin,
  setTimer: (callback, delayMs) => setTimeout(callback, delayMs),
  every: (callback, periodMs) => setInterval(callback, periodMs),
  soon: (callback) => void setImmediate(callback),
};

/** Resolves after `ms`, or rejects with CANCELLED (or the signal's KithError reason) when the signal aborts. */
export function sleep(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(abortReason(signal));
      return;
    }
    const onAbort = (): void => {
      timer.close();
      reject(abortReason(signal as AbortSignal));
    };
    const timer = clock.setTimer(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/**
 * Runs `work` with a signal that aborts with DEADLINE_EXCEEDED after `ms`, or earlier with the reason of `parent`. What `work` gives
 * is awaited all the same: it must obey the signal. The timer ends with the work and does not hold the process.
 */
export async function withTimeout<T>(
  clock: Clock,
  ms: number,
  work: (signal: AbortSignal) => Promise<T>,
  parent?: AbortSignal,
): Promise<T> {
  const controller = new AbortController();
  const onAbort = (): void => controller.abort(parent?.reason);
  if (parent?.aborted) onAbort();
  parent?.addEventListener("abort", onAbort, { once: true });
  const timer = clock.setTimer(() => controller.abort(timedOut(ms)), ms).unref();
  try {
    return await work(heardByMany(controller.signal));
  } finally {
    timer.close();
    parent?.removeEventListener("abort", onAbort);
  }
}

function timedOut(ms: number): KithError {
  return new KithError("DEADLINE_EXCEEDED", `the call did not end within ${ms} ms`);
}
