export interface StoredFile {
  key: string;
  sizeBytes: number;
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
  /** NOT_FOUND where there is no such file. */
  get(key: string): Promise<Buffer>;
  /** The files whose keys begin with a prefix that ends with "/", in no order. */
  list(prefix: string): AsyncIterable<StoredFile>;
  /** No error where there is no such file. */
  remove(key: string): Promise<void>;
}
