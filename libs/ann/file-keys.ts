import { KithError } from "../base/index.js";

/** Where the keys come from with which files of indexes are encrypted. */
export interface FileKeys {
  /** A key for the files of one save, of 32 bytes, and how it is kept beside them: wrapped. */
  createFileKey(): { key: Uint8Array; wrapped: string };
  /** The key again. FAILED_PRECONDITION where what wraps it is not known here; CORRUPT_DATA where it was changed. */
  openFileKey(wrapped: string, what: string): Uint8Array;
  /** Whether it is wrapped as new ones are. */
  isCurrentFileKey(wrapped: string): boolean;
}

/** Of files that are not encrypted. */
export const noFileKey = new Uint8Array(0);

/** The key of a file by what is kept beside it. Rejects as `FileKeys.openFileKey` does, and with FAILED_PRECONDITION where there are no keys. */
export function fileKeyOf(keys: FileKeys | undefined, wrapped: string | undefined, what: string): Uint8Array {
  if (wrapped === undefined) return noFileKey;
  if (keys === undefined) {
    throw new KithError(
      "FAILED_PRECONDITION",
      `${what} is encrypted, and there is no key: give the key that it was written with`,
    );
  }
  return keys.openFileKey(wrapped, what);
}
