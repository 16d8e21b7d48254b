import { KithError } from "../../libs/base/index.js";
import {
  exactNeighbours,
  generateMatrix,
  type GroundTruth,
  guessFormat,
  openDataset,
  readGroundTruth,
} from "../../libs/datasets/index.js";

export type MetricName = "l2" | "cosine" | "dot";

/** Vectors of one set in memory, row-major. */
export interface Matrix {
  dimension: number;
  rowCount: number;
  values: Float32Array;
}

/** What a benchmark runs on. */
export interface BenchData {
  /** For the report: file names or the generator's parameters. */
  description: string;
  seed: number | undefined;
  base: Matrix | undefined;
  queries: Matrix;
  /** Path of a ground truth file that fits the base. */
  truthPath: string | undefined;
}

export interface DataOptions {
  base?: string;
  queries?: string;
  truth?: string;
  /** "100000x128" */
  seeded?: string;
  seed: number;
  clusters: number;
  queryCount: number;
  /** Take only this many rows of the base. */
  rows?: number;
}

/** Bench data is held in memory as a whole, 16 GiB at most. */
const maxElements = 4 * 1024 ** 3;

export async function loadData(options: DataOptions): Promise<BenchData> {
  if (options.seeded !== undefined) return seededData(options.seeded, options);
  if (options.queries === undefined) {
    throw new KithError("INVALID_ARGUMENT", "name the data: --base and --queries, or --seeded 100000x128");
  }
  const queries = await readMatrix(options.queries, options.queryCount);
  const base = options.base === undefined ? undefined : await readMatrix(options.base, options.rows);
  if (base !== undefined && base.dimension !== queries.dimension) {
    throw new KithError(
      "DIMENSION_MISMATCH",
      `${options.base} has dimension ${base.dimension}, ${options.queries} has ${queries.dimension}`,
    );
  }
  const rows = base === undefined ? "" : `${base.rowCount} × ${base.dimension} of ${options.base}, `;
  return {
    description: `${rows}${queries.rowCount} queries of ${options.queries}`,
    seed: undefined,
    base,
    queries,
    // The neighbours of a part of the base are others than those of the whole.
    truthPath: options.rows === undefined ? options.truth : undefined,
  };
}

function seededData(shape: string, options: DataOptions): BenchData {
  const match = /^(\d+)[x×](\d+)$/.exec(shape);
  const rowCount = Number(match?.[1]);
  const dimension = Number(match?.[2]);
  if (match === null || rowCount < 1 || dimension < 1 || rowCount * dimension > maxElements) {
    throw new KithError("INVALID_ARGUMENT", `--seeded is ${shape}; it must be rows x dimension, such as 100000x128`);
  }
  const clusterCount = options.clusters;
  const { seed, queryCount } = options;
  const matrix = (rows: number, stream: number): Matrix => ({
    dimension,
    rowCount: rows,
    values: generateMatrix({ rowCount: rows, dimension, seed, stream, clusterCount }),
  });
  return {
    description: `seeded ${rowCount} × ${dimension}, ${clusterCount} clusters, ${queryCount} queries`,
    seed,
    base: matrix(rowCount, 0),
    queries: matrix(queryCount, 1),
    truthPath: undefined,
  };
}

/** The unnamed vectors of a file, at most `rows` of them. */
export async function readMatrix(path: string, rows: number | undefined): Promise<Matrix> {
  const dataset = await openDataset(path, guessFormat(path), rows === undefined ? {} : { limitRows: rows });
  const parts: Float32Array[] = [];
  let dimension = 0;
  let length = 0;
  for await (const batch of dataset.batches()) {
    const column = batch.columns[0];
    if (column === undefined) continue;
    dimension = column.dimension;
    parts.push(column.matrix);
    length += column.matrix.length;
    if (length > maxElements) {
      throw new KithError(
        "INVALID_ARGUMENT",
        `${path} does not fit: over ${maxElements} elements; take fewer with --rows`,
      );
    }
  }
  if (length === 0) throw new KithError("INVALID_ARGUMENT", `${path} holds no vectors`);
  const values = new Float32Array(length);
  let at = 0;
  for (const part of parts) {
    values.set(part, at);
    at += part.length;
  }
  return { dimension, rowCount: length / dimension, values };
}

/** Neighbours from the file that came with the data, or by comparing every query with every point. */
export async function truthOf(data: BenchData, metric: MetricName, k: number): Promise<GroundTruth | undefined> {
  if (data.truthPath !== undefined) {
    const truth = await readGroundTruth(data.truthPath, data.truthPath.endsWith(".ibin") ? "ibin" : "ivecs");
    if (truth.k < k || truth.queryCount < data.queries.rowCount) {
      throw new KithError(
        "INVALID_ARGUMENT",
        `${data.truthPath} has ${truth.k} neighbours of ${truth.queryCount} queries; ${k} of ${data.queries.rowCount} are needed`,
      );
    }
    return truth;
  }
  if (data.base === undefined) return undefined;
  const { base, queries } = data;
  return exactNeighbours({ points: base.values, queries: queries.values, dimension: base.dimension, k, metric });
}

/** Distance as the ground truth has it: squared l2, 1 - cosine, -dot. */
export function distance(metric: MetricName, a: Float32Array, b: Float32Array): number {
  let dot = 0;
  let squares = 0;
  let normA = 0;
  let normB = 0;
  for (let i = 0; i < a.length; i++) {
    const x = a[i] as number;
    const y = b[i] as number;
    dot += x * y;
    squares += (x - y) * (x - y);
    normA += x * x;
    normB += y * y;
  }
  if (metric === "l2") return squares;
  return metric === "dot" ? -dot : 1 - dot / Math.sqrt(normA * normB);
}

export function rowOf(matrix: Matrix, row: number): Float32Array {
  return matrix.values.subarray(row * matrix.dimension, (row + 1) * matrix.dimension);
}
