import { setMaxListeners } from "node:events";
import { KithError } from "./errors.js";
import type { Random } from "./random.js";

/** A promise with its resolvers outside. */
export interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(reason: unknown): void;
}

export function deferred<T>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (reason: unknown) => void;
  const promise = new Promise<T>((res, rej) => {
    resolve = res;
    reject = rej;
  });
  return { promise, resolve, reject };
}

/**
 * What a callee must know of its caller's cancellation. Every AbortSignal is one; server calls bring a lighter one, because making an
 * AbortSignal for each query cost 12 of 63 µs of event loop (bench:load --mode stream, "on the loop").
 */
export interface Cancellation {
  readonly aborted: boolean;
  readonly reason: unknown;
  addEventListener(type: "abort", listener: () => void, options?: { once?: boolean }): void;
  removeEventListener(type: "abort", listener: () => void): void;
}

/** Why a signal was aborted, as a KithError. */
export function abortReason(signal: Pick<Cancellation, "reason">): KithError {
  if (signal.reason instanceof KithError) return signal.reason;
  if (signal.reason instanceof Error && signal.reason.name === "TimeoutError") {
    return new KithError("DEADLINE_EXCEEDED", "the deadline passed before the call ended");
  }
  return new KithError("CANCELLED", "the call was cancelled");
}

/** The same signal, to which as many may listen as there are parts of a work: Node takes more than ten for a leak. */
export function heardByMany(signal: AbortSignal): AbortSignal {
  setMaxListeners(0, signal);
  return signal;
}

/** Waits for `promise`, but rejects as soon as `signal` aborts. The promise itself goes on. */
export function withAbort<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  if (signal.aborted) {
    promise.catch(() => undefined);
    return Promise.reject(abortReason(signal));
  }
  return new Promise<T>((resolve, reject) => {
    const onAbort = (): void => reject(abortReason(signal));
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

export interface BackoffOptions {
  initialMs: number;
  maxMs: number;
}

/** Exponential back-off with full jitter in the upper half: delay(attempt) is between 50 % and 100 % of the step. */
export function backoffMs(attempt: number, options: BackoffOptions, random: Random): number {
  const step = Math.min(options.maxMs, options.initialMs * 2 ** Math.min(attempt, 30));
  return step * (0.5 + 0.5 * random.float());
}
