import { KithError } from "../../base/index.js";

export interface StoredFile {
  key: string;
  sizeBytes: number;
}

/** Of a file that is read. Kith writes files of some MiB; of a shard's part, some hundred bytes for each. */
export const storedBytesMax = 512 * 1024 * 1024;

/** For what nobody of Kith has written. */
export function storedTooLarge(key: string, place: string): KithError {
  return new KithError("CORRUPT_DATA", `${key} in ${place} has more than ${storedBytesMax} bytes`, {
    details: { file: key },
  });
}

/**
 * Files by keys of letters, digits, "-", "_", "." and "/". Two adapters: a folder and an object store, one conformance suite. A file is there
 * as a whole or not at all, and is never changed, but for the same content.
 */
export interface FileStore {
  /** For messages: where it is. */
  readonly description: string;
  /** Durable when it resolves. */
  put(key: string, bytes: Uint8Array): Promise<void>;
  /** NOT_FOUND where there is no such file; CORRUPT_DATA where it has more than `storedBytesMax`. */
  get(key: string): Promise<Buffer>;
  /** The files whose keys begin with a prefix that ends with "/", in no order. */
  list(prefix: string): AsyncIterable<StoredFile>;
  /** No error where there is no such file. */
  remove(key: string): Promise<void>;
}
