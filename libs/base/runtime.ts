import { type Clock, systemClock } from "./clock.js";
import { type Random, systemRandom } from "./random.js";

/** Time and chance, as most parts take them together. */
export interface Runtime {
  readonly clock: Clock;
  readonly random: Random;
}

/** Those of this process. A program injects them once, at its start. */
export const systemRuntime: Runtime = { clock: systemClock, random: systemRandom };
