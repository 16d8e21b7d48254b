import { KithError } from "../base/index.js";
import type { FileKeys } from "./file-keys.js";
import { channelIsOpen, openChannel } from "./channel.js";
import { native } from "./native.js";
import { completeOptions, optionWords } from "./options.js";
import { givenFolderOf, readIndex } from "./persist.js";
import type { IndexOptions, LoadedIndex, VectorIndex } from "./types.js";
import { NativeIndex } from "./vector-index.js";

export type {
  IndexOptions,
  IndexStats,
  LoadedIndex,
  Metric,
  SearchExplanation,
  SearchOptions,
  SearchResult,
  Datatype,
  VectorIndex,
} from "./types.js";

export type { FileKeys } from "./file-keys.js";

export {
  type ClauseKind,
  type FileSum,
  type PostingRows,
  PostingsIndex,
  type PostingsOptions,
  type PostingsQuery,
  type PostingsResult,
} from "./postings.js";

export {
  type EncodingShape,
  MatrixIndex,
  type MatrixOptions,
  type MatrixRows,
  type MatrixSearchOptions,
  type MatrixSearchResult,
} from "./matrices.js";

/** A new, empty index; with `keys` its files will be encrypted. Throws INVALID_ARGUMENT for options out of range, FAILED_PRECONDITION when the addon is not built. */
export function createIndex(options: IndexOptions, keys?: FileKeys): VectorIndex {
  const complete = completeOptions(options);
  openChannel();
  return new NativeIndex(complete, native().create(optionWords(complete), givenFolderOf(complete, keys)), 0, { keys });
}

/**
 * Reads an index that `save` wrote. Undefined when the directory has no manifest. Rejects with CORRUPT_DATA when a
 * size, a checksum or the manifest is wrong, or when it was written with other options: then rebuild it. Without memory or
 * file handles it rejects with RESOURCE_EXHAUSTED, and the files are as good as they were; so they are where it rejects with FAILED_PRECONDITION, as
 * the key of encrypted files is not there.
 */
export async function loadIndex(
  directory: string,
  options: IndexOptions,
  { signal, keys }: { signal?: AbortSignal; keys?: FileKeys | undefined } = {},
): Promise<LoadedIndex | undefined> {
  const complete = completeOptions(options);
  const read = await readIndex(openChannel(), complete, directory, signal, keys);
  if (read === undefined) return undefined;
  const index = new NativeIndex(complete, read.id, read.rowCount, { savedRows: read.rows, keys });
  return { index, sequence: read.sequence, extra: read.extra };
}

/**
 * Sets the number of search threads of this process (default: the cores it may use). Only before the first index is
 * made; afterwards it throws FAILED_PRECONDITION.
 */
export function configurePool({ threads }: { threads: number }): void {
  if (!Number.isInteger(threads) || threads < 1 || threads > 1024) {
    throw new KithError("INVALID_ARGUMENT", `threads is ${threads}; it must be a whole number from 1 to 1024`);
  }
  if (channelIsOpen() || !native().configurePool(threads)) {
    throw new KithError(
      "FAILED_PRECONDITION",
      "the search threads are running already; call configurePool before the first index",
    );
  }
}

/** What the native half uses on this machine. */
export interface NativeInfo {
  /** "avx512", "avx2", "neon" or "portable". */
  simd: string;
  /** Whether the system gives huge pages to memory that asks for them. */
  hugePages: boolean;
  searchThreads: number;
}

/** Throws FAILED_PRECONDITION, with what to do, when the addon is not built. */
export function nativeInfo(): NativeInfo {
  const out = new Float64Array(2);
  const simd = native().nativeInfo(out);
  return { simd, hugePages: out[1] === 1, searchThreads: out[0] ?? 1 };
}
