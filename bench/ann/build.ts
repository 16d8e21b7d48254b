import type { VectorIndex } from "../../libs/ann/index.js";
import type { Matrix } from "../lib/data.js";
import { readProcess } from "../lib/process-stats.js";

export interface BuildReport {
  seconds: number;
  vectorsPerSecond: number;
  arenaBytes: number;
  graphBytes: number;
  otherBytes: number;
  residentBytes: number;
  /** All bytes that the index counts, and the growth of the resident set, over the bytes of the vectors as f32. */
  ratioToRaw: number;
  ratioOfResident: number;
}

const batchRows = 1000;

/** Adds all rows in batches, waits for the graph, and says how long that took and what it holds. */
export async function measureBuild(index: VectorIndex, base: Matrix): Promise<BuildReport> {
  const { dimension, rowCount, values } = base;
  const residentBefore = readProcess(process.pid)?.rssBytes ?? 0;
  const startedMs = performance.now();
  for (let from = 0; from < rowCount; from += batchRows) {
    const to = Math.min(rowCount, from + batchRows);
    const slots = Uint32Array.from({ length: to - from }, (_, i) => from + i);
    await index.add(slots, values.subarray(from * dimension, to * dimension));
  }
  await index.flush();
  const seconds = (performance.now() - startedMs) / 1000;
  const residentBytes = (readProcess(process.pid)?.rssBytes ?? 0) - residentBefore;
  const { arenaBytes, graphBytes, otherBytes } = index.stats();
  const rawBytes = values.byteLength;
  return {
    seconds,
    vectorsPerSecond: rowCount / seconds,
    arenaBytes,
    graphBytes,
    otherBytes,
    residentBytes,
    ratioToRaw: (arenaBytes + graphBytes + otherBytes) / rawBytes,
    ratioOfResident: residentBytes / rawBytes,
  };
}
