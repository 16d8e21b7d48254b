import { KithError } from "../base/index.js";
import { readBin, readVecs } from "./binary.js";
import { type ByteReader, openSource } from "./byte-reader.js";
import { readCsv } from "./csv.js";
import { readJsonl } from "./jsonl.js";
import { readNpy } from "./npy.js";
import { openParquet } from "./parquet.js";
import {
  type Dataset,
  type DatasetBatch,
  type DatasetFormat,
  datasetFormats,
  type DatasetSource,
  type ReadDatasetOptions,
} from "./types.js";

const extensions: Record<string, DatasetFormat> = {
  jsonl: "jsonl",
  ndjson: "jsonl",
  csv: "csv",
  tsv: "csv",
  parquet: "parquet",
  fvecs: "fvecs",
  bvecs: "bvecs",
  fbin: "fbin",
  u8bin: "u8bin",
  npy: "npy",
};

/** The format that a file's extension stands for, before .gz; undefined where it stands for none. */
export function guessFormat(path: string): DatasetFormat | undefined {
  const extension = /\.([a-z0-9]+)(?:\.gz)?$/i.exec(path)?.[1]?.toLowerCase();
  return extension !== undefined && Object.hasOwn(extensions, extension) ? extensions[extension] : undefined;
}

/**
 * Opens a data set for reading in batches.
 *
 * @param format undefined: by the extension of the path.
 * @throws KithError NOT_FOUND (no such file), INVALID_ARGUMENT (unknown format, damaged file; details: file and offset or
 *   line), DIMENSION_MISMATCH (a row of another dimension).
 */
export async function openDataset(
  source: DatasetSource,
  format: DatasetFormat | undefined,
  options: ReadDatasetOptions = {},
): Promise<Dataset> {
  const known = format ?? (typeof source === "string" ? guessFormat(source) : undefined);
  if (known === undefined) {
    const what = typeof source === "string" ? `the extension of ${source} does not tell` : "a stream does not tell";
    throw new KithError("INVALID_ARGUMENT", `${what} its format; name one of ${datasetFormats.join(", ")}`);
  }
  if (known === "parquet") return openParquet(source, options);
  const isTab = typeof source === "string" && /\.tsv(?:\.gz)?$/i.test(source);
  const readOptions = { ...(isTab && { delimiter: "\t" }), ...options };
  const { reader, sizeBytes } = await openSource(source, { ...options, mayBeGzip: tellsGzip.has(known) });
  return {
    format: known,
    name: reader.name,
    sizeBytes,
    bytesRead: () => reader.offset,
    batches: () => batchesOf(reader, known, readOptions),
    close: () => reader.close(),
  };
}

async function* batchesOf(
  reader: ByteReader,
  format: ReadByBytes,
  options: ReadDatasetOptions,
): AsyncGenerator<DatasetBatch, void, undefined> {
  try {
    yield* readersByFormat[format](reader, options);
  } finally {
    await reader.close();
  }
}

/** All but Parquet, whose table of contents stands at its end. */
type ReadByBytes = Exclude<DatasetFormat, "parquet">;

/** Formats that never begin as gzip does. */
const tellsGzip: ReadonlySet<DatasetFormat> = new Set(["jsonl", "csv", "npy"]);

const readersByFormat: Record<
  ReadByBytes,
  (reader: ByteReader, options: ReadDatasetOptions) => AsyncGenerator<DatasetBatch, void, undefined>
> = {
  jsonl: readJsonl,
  csv: readCsv,
  fvecs: (reader, options) => readVecs(reader, "f32", options),
  bvecs: (reader, options) => readVecs(reader, "u8", options),
  fbin: (reader, options) => readBin(reader, "f32", options),
  u8bin: (reader, options) => readBin(reader, "u8", options),
  npy: readNpy,
};
