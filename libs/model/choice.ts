import { KithError } from "../base/index.js";
import type { Datatype } from "./datatype.js";

/** A datatype that was tried on a sample of the vectors. */
export interface BuildTrial {
  datatype: Datatype;
  /** Beam width that reaches the recall, and what it gives; the widest one where none does. */
  ef: number;
  recall: number;
  /** Whether it reaches the recall that was asked for. */
  canHold: boolean;
  /** Microseconds of one search with that beam width. */
  searchUs: number;
  /** Codes and graph of one vector, in bytes. */
  vectorBytes: number;
}

/** Which datatype was picked for a field by its own data, and why. */
export interface FieldChoice {
  /** The recall@10 that was asked for. */
  target: number;
  datatype: Datatype;
  reason: string;
  /** Vectors that were tried, over all shards. */
  rows: number;
  trials: readonly BuildTrial[];
  atMs: number;
}

/** A datatype that takes so many times longer than f32 is not taken for the memory that it saves. */
const slownessMax = 1.5;

/**
 * The datatype of the least memory that reaches the recall and is not much slower than f32. FAILED_PRECONDITION where none reaches it, or nothing was
 * tried.
 */
export function chooseBuild(
  target: number,
  shards: readonly (readonly BuildTrial[])[],
): Pick<FieldChoice, "datatype" | "reason" | "trials"> {
  const trials = together(shards);
  const fastest = trials.find(({ datatype, canHold }) => datatype === "f32" && canHold)?.searchUs;
  const limitUs = fastest === undefined ? Number.POSITIVE_INFINITY : fastest * slownessMax;
  const byMemory = [...trials].sort((a, b) => a.vectorBytes - b.vectorBytes);
  const picked = byMemory.find(({ canHold, searchUs }) => canHold && searchUs <= limitUs);
  if (picked === undefined) {
    const best = [...trials].sort((a, b) => b.recall - a.recall)[0];
    const reached =
      best === undefined
        ? "nothing was tried"
        : `${best.datatype} comes to ${best.recall.toFixed(4)} with a beam of ${best.ef}`;
    throw new KithError(
      "FAILED_PRECONDITION",
      `no datatype reaches recall@10 of ${target} on this data: ${reached}; ask for less, or give more links (m)`,
      { details: { target: String(target), ...(best && { recall: String(best.recall) }) } },
    );
  }
  const coarser = byMemory.slice(0, byMemory.indexOf(picked)).map((each) => whyNot(each, fastest));
  const own = `the least memory (${Math.round(picked.vectorBytes)} bytes a vector) with recall@10 of ${picked.recall.toFixed(4)} at a beam of ${picked.ef}`;
  return { datatype: picked.datatype, reason: [own, ...coarser].join("; "), trials };
}

function whyNot({ datatype, canHold, recall, ef, searchUs }: BuildTrial, fastestUs: number | undefined): string {
  if (!canHold) return `${datatype} comes to ${recall.toFixed(4)} with a beam of ${ef}`;
  return `${datatype} takes ${(searchUs / (fastestUs ?? searchUs)).toFixed(1)} times as long as f32`;
}

/** What was tried on every shard: as bad as on the worst, with the mean of times and sizes. */
function together(shards: readonly (readonly BuildTrial[])[]): BuildTrial[] {
  const [first = [], ...others] = shards;
  return first.flatMap((trial) => {
    const all = [trial];
    for (const other of others) {
      const same = other.find(({ datatype }) => datatype === trial.datatype);
      if (same === undefined) return [];
      all.push(same);
    }
    const mean = (of: (each: BuildTrial) => number): number =>
      all.reduce((sum, each) => sum + of(each), 0) / all.length;
    return {
      datatype: trial.datatype,
      ef: Math.max(...all.map(({ ef }) => ef)),
      recall: Math.min(...all.map(({ recall }) => recall)),
      canHold: all.every(({ canHold }) => canHold),
      searchUs: mean(({ searchUs }) => searchUs),
      vectorBytes: mean(({ vectorBytes }) => vectorBytes),
    };
  });
}
