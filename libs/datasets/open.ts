import { KithError } from "../base/index.js";
import { readBin, readVecs } from "./binary.js";
import { type ByteReader, openSource } from "./byte-reader.js";
import { readJsonl } from "./jsonl.js";
import { readNpy } from "./npy.js";
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
  const { reader, sizeBytes } = await openSource(source, options);
  return {
    format: known,
    name: reader.name,
    sizeBytes,
    bytesRead: () => reader.offset,
    batches: () => batchesOf(reader, known, options),
    close: () => reader.close(),
  };
}

async function* batchesOf(
  reader: ByteReader,
  format: DatasetFormat,
  options: ReadDatasetOptions,
): AsyncGenerator<DatasetBatch, void, undefined> {
  try {
    yield* readersByFormat[format](reader, options);
  } finally {
    await reader.close();
  }
}

const readersByFormat: Record<
  DatasetFormat,
  (reader: ByteReader, options: ReadDatasetOptions) => AsyncGenerator<DatasetBatch, void, undefined>
> = {
  jsonl: readJsonl,
  fvecs: (reader, options) => readVecs(reader, "f32", options),
  bvecs: (reader, options) => readVecs(reader, "u8", options),
  fbin: (reader, options) => readBin(reader, "f32", options),
  u8bin: (reader, options) => readBin(reader, "u8", options),
  npy: readNpy,
};
