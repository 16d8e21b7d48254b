import { type Clock, toKithError } from "../../../libs/base/index.js";
import { counterOf } from "../../../libs/telemetry/index.js";

const hedged = counterOf("kith.query.hedged");

/** The first answer of `primary` and of what `startHedge` starts after `afterMs`; rejects when all have failed. */
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
    const timer = clock.setTimer(() => {
      const hedge = startHedge();
      if (hedge === undefined) return;
      hedged.add(1);
      pending++;
      hedge.then(resolve, failed);
    }, afterMs);
    primary.then(resolve, failed).finally(() => timer.close());
  });
}
