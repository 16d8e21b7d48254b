import { type Cancellation, abortReason, type Clock } from "../../base/index.js";
import type { Steps } from "./sorted-entries.js";

/** How long work may hold the event loop at a time, in milliseconds: half of what evaluations are allowed. */
const sliceMs = 1;

export interface RunOptions {
  readonly clock: Clock;
  /** Ends the work with CANCELLED or DEADLINE_EXCEEDED at its next step. */
  readonly signal?: Cancellation;
}

/** Runs steps to their end; gives the event loop to others when they have held it for a millisecond. */
export async function runSteps<T>(steps: Steps<T>, { clock, signal }: RunOptions): Promise<T> {
  let startedMs = clock.monotonicMs();
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
    if (clock.monotonicMs() - startedMs < sliceMs) continue;
    await new Promise<void>((resolve) => clock.soon(resolve));
    if (signal?.aborted) {
      // Lets the evaluation end what it has begun.
      steps.return(undefined as never);
      throw abortReason(signal);
    }
    startedMs = clock.monotonicMs();
  }
}
