import { type KeyRing, openSealed, sealOverheadBytes } from "../../encryption/index.js";
import type { FileStore, StoredFile } from "./port.js";

/** Files that are encrypted before they leave the process. Those from before there was a key are read as they are. A file opens under its key alone. */
export class SealedStore implements FileStore {
  readonly #store: FileStore;
  readonly #keys: KeyRing | undefined;

  /** @param keys undefined: nothing is encrypted, and what is cannot be read */
  constructor(store: FileStore, keys: KeyRing | undefined) {
    this.#store = store;
    this.#keys = keys;
  }

  get description(): string {
    return this.#store.description;
  }

  put(key: string, bytes: Uint8Array): Promise<void> {
    return this.#store.put(key, this.#keys?.seal(contextOf(key), bytes) ?? bytes);
  }

  async get(key: string): Promise<Buffer> {
    return openSealed(this.#keys, contextOf(key), await this.#store.get(key));
  }

  list(prefix: string): AsyncIterable<StoredFile> {
    return this.#store.list(prefix);
  }

  remove(key: string): Promise<void> {
    return this.#store.remove(key);
  }
}

function contextOf(key: string): string {
  return `the file ${key} of a backup`;
}

/** Whether a file that takes `storedBytes` in a store may have a content of so many bytes, encrypted or not. */
export function isWhole(storedBytes: number, contentBytes: number | undefined): boolean {
  return contentBytes !== undefined && [contentBytes, contentBytes + sealOverheadBytes].includes(storedBytes);
}
