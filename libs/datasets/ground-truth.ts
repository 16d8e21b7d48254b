import { KithError } from "../base/index.js";
import { openSource } from "./byte-reader.js";
import type { DatasetSource } from "./types.js";

/** Nearest neighbours of a set of queries: `ids` is row-major, queryCount × k, nearest first. */
export interface GroundTruth {
  queryCount: number;
  k: number;
  ids: Int32Array;
  /** As ids; smaller is nearer: squared l2, 1 - cosine, -dot. Only where known. */
  distances?: Float32Array;
}

/** Ground truth is held in memory as a whole; this many neighbours (256 MiB) are the limit. */
const truthMaxIds = 64 * 1024 * 1024;

/**
 * Reads ground truth: ivecs (an int32 k and k int32 ids a row) or ibin (u32 row count, u32 k, the ids; distances may
 * follow, as in the files of the big-ann-benchmarks).
 */
export async function readGroundTruth(
  source: DatasetSource,
  format: "ivecs" | "ibin",
  options: { name?: string; signal?: AbortSignal } = {},
): Promise<GroundTruth> {
  const { reader } = await openSource(source, options);
  const tooLarge = (count: number): KithError =>
    reader.malformed(0, `${count} neighbours are more than ${truthMaxIds}; is the format right?`);
  try {
    if (format === "ibin") {
      const header = await reader.need(8, "a header (row count and k)");
      const view = new DataView(header.buffer);
      const queryCount = view.getUint32(0, true);
      const k = view.getUint32(4, true);
      const count = queryCount * k;
      if (count > truthMaxIds) throw tooLarge(count);
      const ids = new Int32Array((await reader.need(count * 4, `${queryCount} rows of ${k} ids`)).buffer, 0, count);
      if (await reader.atEnd()) return { queryCount, k, ids };
      const rest = await reader.need(count * 4, `${queryCount} rows of ${k} distances`);
      if (!(await reader.atEnd())) throw reader.malformed(reader.offset, "bytes follow the ids and distances");
      return { queryCount, k, ids, distances: new Float32Array(rest.buffer, 0, count) };
    }
    const rows: Int32Array[] = [];
    let k = 0;
    for (;;) {
      const header = await reader.take(4, "a row's k");
      if (header === undefined) break;
      const got = new DataView(header.buffer).getInt32(0, true);
      if (rows.length === 0) {
        if (got < 1 || got > 65_536) throw reader.malformed(0, `row 0 has ${got} neighbours, outside of 1..65536`);
        k = got;
      } else if (got !== k) {
        throw new KithError(
          "DIMENSION_MISMATCH",
          `${reader.name}, byte ${reader.offset - 4}: row ${rows.length} has ${got} neighbours; the rows before have ${k}`,
          { details: { file: reader.name, offset: reader.offset - 4, row: rows.length, expected: k, got } },
        );
      }
      if ((rows.length + 1) * k > truthMaxIds) throw tooLarge((rows.length + 1) * k);
      rows.push(new Int32Array((await reader.need(k * 4, `row ${rows.length}`)).buffer, 0, k));
    }
    const ids = new Int32Array(rows.length * k);
    rows.forEach((row, index) => ids.set(row, index * k));
    return { queryCount: rows.length, k, ids };
  } finally {
    await reader.close();
  }
}

export interface ExactNeighboursOptions {
  /** Row-major matrices of the same dimension. */
  points: Float32Array;
  queries: Float32Array;
  dimension: number;
  k: number;
  metric: "l2" | "cosine" | "dot";
}

/** Points of one block stay in the second-level cache while all queries pass over them. */
const blockBytes = 256 * 1024;

/**
 * The exact k nearest points of each query, by comparing all with all; the yardstick of recall. Ties go to the smaller row.
 * About 1 × 10^9 multiply-adds a second: 1000 queries on 100k × 128 take some 10 s.
 */
export function exactNeighbours(options: ExactNeighboursOptions): GroundTruth {
  const { points, queries, dimension, metric } = options;
  const pointCount = points.length / dimension;
  const queryCount = queries.length / dimension;
  if (!Number.isInteger(pointCount) || !Number.isInteger(queryCount)) {
    throw new KithError("DIMENSION_MISMATCH", `the matrices are not whole rows of dimension ${dimension}`);
  }
  const k = Math.min(options.k, pointCount);
  const ids = new Int32Array(queryCount * k).fill(-1);
  const distances = new Float32Array(queryCount * k).fill(Infinity);
  const base = metric === "cosine" ? normalized(points, dimension) : points;
  const asked = metric === "cosine" ? normalized(queries, dimension) : queries;
  const blockRows = Math.max(1, Math.floor(blockBytes / (dimension * 4)));
  for (let from = 0; from < pointCount && k > 0; from += blockRows) {
    const to = Math.min(pointCount, from + blockRows);
    for (let query = 0; query < queryCount; query++) {
      const q = asked.subarray(query * dimension, (query + 1) * dimension);
      for (let row = from; row < to; row++) {
        // Rounded as it will be stored, so that equal distances compare as equal.
        const distance = Math.fround(distanceOf(metric, base, row * dimension, q));
        if (distance < (distances[query * k + k - 1] as number)) insert(ids, distances, query * k, k, row, distance);
      }
    }
  }
  return { queryCount, k, ids, distances };
}

/** Insertion into the sorted k of one query. Rows come in ascending order, so an equal distance stays behind. */
function insert(ids: Int32Array, distances: Float32Array, at: number, k: number, row: number, distance: number): void {
  let i = at + k - 1;
  for (; i > at && (distances[i - 1] as number) > distance; i--) {
    distances[i] = distances[i - 1] as number;
    ids[i] = ids[i - 1] as number;
  }
  distances[i] = distance;
  ids[i] = row;
}

function distanceOf(
  metric: ExactNeighboursOptions["metric"],
  points: Float32Array,
  at: number,
  query: Float32Array,
): number {
  if (metric === "l2") return squaredDistance(points, at, query);
  return (metric === "cosine" ? 1 : 0) - dot(points, at, query);
}

function squaredDistance(points: Float32Array, at: number, query: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < query.length; i++) {
    const difference = (points[at + i] as number) - (query[i] as number);
    sum += difference * difference;
  }
  return sum;
}

function dot(points: Float32Array, at: number, query: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < query.length; i++) sum += (points[at + i] as number) * (query[i] as number);
  return sum;
}

function normalized(matrix: Float32Array, dimension: number): Float32Array {
  const out = new Float32Array(matrix.length);
  for (let at = 0; at < matrix.length; at += dimension) {
    let squares = 0;
    for (let i = at; i < at + dimension; i++) squares += (matrix[i] as number) ** 2;
    const factor = squares === 0 ? 0 : 1 / Math.sqrt(squares);
    for (let i = at; i < at + dimension; i++) out[i] = (matrix[i] as number) * factor;
  }
  return out;
}

/**
 * Recall@k: the share of the true k nearest that were found, over all queries. `found` gives the rows found for a query, in
 * any order; of more than k only the first k count.
 */
export function recallAtK(truth: GroundTruth, k: number, found: (query: number) => readonly number[]): number {
  const depth = Math.min(k, truth.k);
  if (depth === 0 || truth.queryCount === 0) return 1;
  let hits = 0;
  for (let query = 0; query < truth.queryCount; query++) {
    const expected = new Set(truth.ids.subarray(query * truth.k, query * truth.k + depth));
    for (const row of new Set(found(query).slice(0, depth))) if (expected.has(row)) hits++;
  }
  return hits / (depth * truth.queryCount);
}
