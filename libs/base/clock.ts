/** Time as the engine sees it; injected so that simulations and tests control it. */
export interface Clock {
  /** Wall clock, milliseconds since the Unix epoch. May jump. Only for what people read and for expiry. */
  nowMs(): number;
  /** Monotonic milliseconds from an arbitrary start. For durations, deadlines and leases. */
  monotonicMs(): number;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
};
