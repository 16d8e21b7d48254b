/** Formats of vector files that Kith reads. */
export type DatasetFormat = "jsonl" | "csv" | "parquet" | "fvecs" | "bvecs" | "fbin" | "u8bin" | "npy";

export const datasetFormats: readonly DatasetFormat[] = [
  "jsonl",
  "csv",
  "parquet",
  "fvecs",
  "bvecs",
  "fbin",
  "u8bin",
  "npy",
];

/** Of a column of CSV, whose cells are text: what they become in the payload. */
export type ColumnType = "string" | "number" | "boolean" | "json";

export const columnTypes: readonly ColumnType[] = ["string", "number", "boolean", "json"];

/** A path, or bytes as they come (standard input, a decompressor). */
export type DatasetSource = string | AsyncIterable<Uint8Array>;

/** The vectors of one field for all rows of a batch. */
export interface DatasetColumn {
  /** "" for the unnamed vector. */
  name: string;
  dimension: number;
  /** Row-major, rowCount × dimension. */
  matrix: Float32Array;
  /** Where rows have matrices: how many rows of `matrix` are before those of each, and at last how many there are. */
  begins?: number[];
}

/** What a column has for a row of the batch: a vector, or the rows of a matrix. */
export function valueAt({ dimension, matrix, begins }: DatasetColumn, row: number): Float32Array | Float32Array[] {
  const vectorAt = (at: number): Float32Array => matrix.subarray(at * dimension, (at + 1) * dimension);
  if (begins === undefined) return vectorAt(row);
  const [from, to] = [begins[row] as number, begins[row + 1] as number];
  return Array.from({ length: to - from }, (_, i) => vectorAt(from + i));
}

/** A sparse vector as a file has it. */
export interface DatasetSparse {
  indices: readonly number[];
  values: readonly number[];
}

/** The sparse vectors of one field for all rows of a batch. */
export interface DatasetSparseColumn {
  name: string;
  rows: DatasetSparse[];
}

/** The text of a JSON object: numbers keep all their digits. */
export type DatasetPayload = string;

/**
 * Consecutive rows of a data set. A row is counted from 0: the line of a JSON lines file (blank lines count), the row of a
 * CSV file below its header, the record of a binary file.
 */
export interface DatasetBatch {
  rowCount: number;
  /** One per vector field; at least one, or a sparse one. */
  columns: DatasetColumn[];
  /** JSON lines: one per sparse field. */
  sparse?: DatasetSparseColumn[];
  /** One per row; undefined where the row names none. Undefined as a whole where the format has no ids. */
  ids?: (string | number | bigint | undefined)[];
  /** One per row; undefined where the row has none. */
  payloads?: (DatasetPayload | undefined)[];
  /** One per row, in milliseconds since the Unix epoch; undefined where the row does not expire. */
  expiresAtMs?: (number | undefined)[];
  /** First row of the file that this batch covers, with the rows that were left out as bad. */
  firstRow: number;
  /** One past the last row that this batch covers: where reading goes on. */
  endRow: number;
  /** Row of the file for each row of the batch; undefined where they are firstRow, firstRow + 1, … */
  rowNumbers?: number[];
}

/** The row of the file behind one row of a batch. */
export function rowNumberOf(batch: Pick<DatasetBatch, "firstRow" | "rowNumbers">, index: number): number {
  return batch.rowNumbers?.[index] ?? batch.firstRow + index;
}

export interface ReadDatasetOptions {
  /** Rows a batch; at most this many, fewer where vectors are long. Default 1000. */
  batchRows?: number;
  /** Rows to pass over at the start. */
  skipRows?: number;
  /** Stop after this row count (after skipRows). */
  limitRows?: number;
  /** What errors call the source. Default: the path, or "standard input". */
  name?: string;
  signal?: AbortSignal;
  /** JSON lines, CSV, Parquet: the dimension of vectors by name, where it is known before; else that of the first row counts. */
  dimensions?: ReadonlyMap<string, number>;
  /** JSON lines, CSV, Parquet: field or column of the id. Default "id". */
  idField?: string;
  /** JSON lines, CSV, Parquet: field or column of the vector. Default "vector". */
  vectorField?: string;
  /** CSV: one character between cells. Default: a tab for files that end with .tsv, else a comma. */
  delimiter?: string;
  /** CSV: types of columns of the payload. Default: numbers, true, false, arrays and objects of JSON are such, all else is text. */
  columnTypes?: ReadonlyMap<string, ColumnType>;
  /**
   * JSON lines, CSV, Parquet: called for a row that is no record, with its row and text, and reading goes on. Without it the first bad
   * row ends the reading with its error. Damage of a binary file always ends the reading: what follows cannot be trusted.
   */
  onBadRow?: (row: number, error: Error, text: string) => void;
}

/** A data set that has been opened; `batches` can be read once. */
export interface Dataset {
  readonly format: DatasetFormat;
  readonly name: string;
  /** Size of the file; undefined for a stream. */
  readonly sizeBytes: number | undefined;
  /** Bytes consumed so far, for progress. */
  bytesRead(): number;
  /** Batches in order of rows. Memory is bounded by one batch, about 4 MiB of vectors, and one chunk of the source. */
  batches(): AsyncGenerator<DatasetBatch, void, undefined>;
  /** Closes the file where `batches` was not read to its end. May be called again. */
  close(): Promise<void>;
}
