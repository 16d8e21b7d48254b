import { sleep, systemClock } from "../../libs/base/index.js";
import type { CollectionHandle } from "../../libs/client/index.js";
import { type Matrix, rowOf } from "./data.js";

/** Calls of one kind that came one after the other. */
export interface Calls {
  count: number;
  failed: number;
  /** Answers with a point twice, or with fewer points than asked for. */
  wrong: number;
  /** Milliseconds. */
  times: number[];
  /** When each began, by the clock of the process. */
  startsMs: number[];
}

/** Between two writes, which are of one point each. */
const writeEveryMs = 5;
const results = 10;

export const callColumns = ["calls", "count", "failed", "wrong", "p50 ms", "p99 ms", "longest ms"].map((title) => ({
  title,
}));

/** One searcher and one writer, until `work` has ended. */
export async function underLoad(
  handle: CollectionHandle,
  base: Matrix,
  [searches, writes]: [Calls, Calls],
  work: () => Promise<void>,
): Promise<void> {
  let isOver = false;
  const search = async (): Promise<void> => {
    for (let i = 0; !isOver; i++) {
      await timed(searches, async () => {
        const vector = rowOf(base, (i * 7_919) % base.rowCount);
        const { points } = await handle.query({ vector, limit: results });
        if (new Set(points.map(({ id }) => id)).size !== results) searches.wrong++;
      });
    }
  };
  const write = async (): Promise<void> => {
    for (let i = 0; !isOver; i++) {
      const id = (i * 104_729) % base.rowCount;
      await timed(writes, () => handle.upsert([{ id, vector: rowOf(base, id) }]));
      await sleep(systemClock, writeEveryMs);
    }
  };
  const running = Promise.all([search(), write()]);
  try {
    await work();
  } finally {
    isOver = true;
    await running;
  }
}

async function timed(to: Calls, call: () => Promise<unknown>): Promise<void> {
  const startedMs = performance.now();
  await call().catch((error: unknown) => {
    to.failed++;
    console.log(String(error));
  });
  to.count++;
  const tookMs = performance.now() - startedMs;
  to.startsMs.push(startedMs);
  to.times.push(tookMs);
}

export function noCalls(): Calls {
  return { count: 0, failed: 0, wrong: 0, times: [], startsMs: [] };
}

export function rowOfCalls({ count, failed, wrong, times }: Calls): string[] {
  const sorted = [...times].sort((a, b) => a - b);
  const at = (share: number): string => (sorted[Math.floor(share * (sorted.length - 1))] ?? 0).toFixed(1);
  return [String(count), String(failed), String(wrong), at(0.5), at(0.99), at(1)];
}
