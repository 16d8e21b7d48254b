import { type Clock, toKithError } from "../../../libs/base/index.js";
import { counterOf } from "../../../libs/telemetry/index.js";

const hedged = counterOf("kith.query.hedged");

/** How often `startHedge` is asked again while it has nobody to ask. */
const againMs = 100;

/**
 * The first answer of `primary` and of what `startHedge` starts after `afterMs`, or as soon as it can after that; rejects when all have
 * failed.
 */
export function firstAnswer<T>(
  clock: Clock,
  primary: Promise<T>,
  afterMs: number,
  startHedge: () => Promise<T> | undefined,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    let pending = 1;
    const failed = (error: unknown): void => {
      pending--;
      if (pending === 0) reject(toKithError(error));
    };
    const start = (): void => {
      const hedge = startHedge();
      if (hedge === undefined) {
        timer = clock.setTimer(start, againMs);
        return;
      }
      hedged.add(1);
      pending++;
      hedge.then(resolve, failed);
    };
    let timer = clock.setTimer(start, afterMs);
    primary.then(resolve, failed).finally(() => timer.close());
  });
}
