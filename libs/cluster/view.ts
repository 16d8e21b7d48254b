import { deferred, KithError, withAbort } from "../base/index.js";
import type { Catalog, CatalogChange, CatalogWatch } from "../catalog/index.js";

/** A change by compare-and-set is tried so often. */
const changeAttempts = 16;

export interface Versioned<T> {
  value: T;
  revision: number;
}

/**
 * A local copy of the catalog's entries under one prefix, kept up to date by a watch. `T` is parsed once per change.
 * The part of the key after the prefix is the name of the entry.
 */
export class CatalogView<T> {
  readonly #catalog: Catalog;
  readonly #prefix: string;
  readonly #parse: (json: string) => T;
  readonly #entries = new Map<string, Versioned<T>>();
  readonly #listeners = new Set<(name: string, value: T | undefined, before: T | undefined) => void>();
  readonly #ready = deferred<void>();
  /** By name: what takes the changes of entries of another kind. */
  readonly #beside = new Map<string, (change: CatalogChange) => void>();
  readonly #print: (value: T) => unknown;
  #watch: CatalogWatch | undefined;
  #isReady = false;

  /** `print` gives what JSON.stringify makes the entry of; default: the value itself. */
  constructor(
    catalog: Catalog,
    prefix: string,
    parse: (json: string) => T,
    print: (value: T) => unknown = (value) => value,
  ) {
    this.#catalog = catalog;
    this.#prefix = prefix;
    this.#parse = parse;
    this.#print = print;
  }

  /**
   * A view of the one entry of this name, which is of another kind and none of this view. It has no watch of its own: this one's tells it, so that
   * changes of both come in their order. To be made before `start`.
   */
  beside<U>(name: string, parse: (json: string) => U, print: (value: U) => unknown): CatalogView<U> {
    const view = new CatalogView(this.#catalog, this.#prefix, parse, print);
    this.#beside.set(name, (change) => view.#onChange(change));
    return view;
  }

  /** Starts the watch; resolves when the present entries are here. */
  async start(signal?: AbortSignal): Promise<void> {
    this.#watch ??= this.#catalog.watch(this.#prefix, {
      onChange: (change) => this.#onChange(change),
      onReady: () => {
        this.#isReady = true;
        this.#ready.resolve();
      },
    });
    await withAbort(this.#ready.promise, signal);
  }

  /** Whether the entries have been read at least once. */
  get ready(): boolean {
    return this.#isReady;
  }

  /** Has, when it resolves, whatever the catalog has had until now, but for what was deleted a moment ago. */
  async refresh(): Promise<void> {
    for (const entry of await this.#catalog.list(this.#prefix)) this.#onChange({ kind: "put", entry });
  }

  get(name: string): Versioned<T> | undefined {
    return this.#entries.get(name);
  }

  get size(): number {
    return this.#entries.size;
  }

  names(): string[] {
    return [...this.#entries.keys()].sort();
  }

  values(): T[] {
    return this.names().map((name) => (this.#entries.get(name) as Versioned<T>).value);
  }

  /** Called after each change, with undefined for a deletion, and with what was there before. Returns the unsubscriber. */
  onChange(listener: (name: string, value: T | undefined, before: T | undefined) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves as soon as `test` holds for the entry (undefined: absent); checked now and after each change. */
  async until(name: string, test: (value: T | undefined) => boolean, signal?: AbortSignal): Promise<void> {
    if (test(this.get(name)?.value)) return;
    const done = deferred<void>();
    const stop = this.onChange((changed, value) => {
      if (changed === name && test(value)) done.resolve();
    });
    try {
      await withAbort(done.promise, signal);
    } finally {
      stop();
    }
  }

  /** Creates the entry; ALREADY_EXISTS where the name is taken. The view has it when this resolves. */
  async create(name: string, value: T): Promise<Versioned<T>> {
    const entry = await this.#catalog.create(`${this.#prefix}.${name}`, JSON.stringify(this.#print(value)));
    this.#put(name, entry.value, entry.revision);
    return { value, revision: entry.revision };
  }

  /** The entry as it is in the catalog now, whatever the watch has told. */
  async read(name: string): Promise<Versioned<T> | undefined> {
    const entry = await this.#catalog.get(`${this.#prefix}.${name}`);
    if (entry === undefined) return undefined;
    this.#put(name, entry.value, entry.revision);
    return { value: this.#parse(entry.value), revision: entry.revision };
  }

  /** Changes the entry where it is at `revision`; else REVISION_MISMATCH. The view has the change when this resolves. */
  async replace(name: string, value: T, revision: number): Promise<Versioned<T>> {
    const entry = await this.#catalog.update(`${this.#prefix}.${name}`, JSON.stringify(this.#print(value)), revision);
    this.#put(name, entry.value, entry.revision);
    // Of this change, also where the watch has told of a later one already.
    return { value, revision: entry.revision };
  }

  /**
   * Changes the entry by compare-and-set; `change` may run again on a newer value and returns undefined to leave it.
   * NOT_FOUND where the entry is gone.
   */
  async modify(name: string, change: (value: T) => T | undefined): Promise<T> {
    const key = `${this.#prefix}.${name}`;
    for (let attempt = 0; attempt < changeAttempts; attempt++) {
      const present = await this.#catalog.get(key);
      if (present === undefined)
        throw new KithError("NOT_FOUND", `the catalog has no entry ${key}`, { details: { key } });
      const value = this.#parse(present.value);
      const changed = change(value);
      if (changed === undefined) return value;
      try {
        const entry = await this.#catalog.update(key, JSON.stringify(this.#print(changed)), present.revision);
        return this.#put(name, entry.value, entry.revision).value;
      } catch (error) {
        if (!(error instanceof KithError) || error.code !== "REVISION_MISMATCH") throw error;
      }
    }
    throw keptChanging(key);
  }

  /**
   * As `modify`, and tried first on what the view has: a round trip less where that is the newest. `change` may run once on what is not.
   * To be used where an entry of the same revision is the same one, whatever became of the catalog.
   */
  async modifyKnown(name: string, change: (value: T) => T | undefined): Promise<T> {
    const known = this.#entries.get(name);
    const changed = known && change(known.value);
    if (known === undefined || changed === undefined) return this.modify(name, change);
    try {
      return (await this.replace(name, changed, known.revision)).value;
    } catch (error) {
      if (!(error instanceof KithError) || error.code !== "REVISION_MISMATCH") throw error;
      return this.modify(name, change);
    }
  }

  /**
   * Deletes the entry by compare-and-set if `test` holds for it; it may run again on a newer value. Whether the entry is gone: false
   * where `test` spared it.
   */
  async delete(name: string, test: (value: T) => boolean = () => true): Promise<boolean> {
    const key = `${this.#prefix}.${name}`;
    for (let attempt = 0; attempt < changeAttempts; attempt++) {
      const known = this.#entries.get(name);
      const present = await this.#catalog.get(key);
      if (present !== undefined) {
        if (!test(this.#parse(present.value))) return false;
        try {
          await this.#catalog.delete(key, present.revision);
        } catch (error) {
          if (!(error instanceof KithError) || error.code !== "REVISION_MISMATCH") throw error;
          continue;
        }
      }
      this.#remove(name, (present ?? known)?.revision ?? 0);
      return true;
    }
    throw keptChanging(key);
  }

  async close(): Promise<void> {
    await this.#watch?.close();
  }

  #put(name: string, json: string, revision: number, reset = false): Versioned<T> {
    const known = this.#entries.get(name);
    // The watch and our own writes tell the same news; the older telling must not win.
    if (known !== undefined && known.revision >= revision && !reset) return known;
    const entry = { value: this.#parse(json), revision };
    this.#entries.set(name, entry);
    for (const listener of this.#listeners) listener(name, entry.value, known?.value);
    return entry;
  }

  #remove(name: string, revision: number): void {
    const known = this.#entries.get(name);
    // Another entry of the same name, made since, is not meant.
    if (known === undefined || known.revision > revision) return;
    this.#entries.delete(name);
    for (const listener of this.#listeners) listener(name, undefined, known.value);
  }

  #onChange(change: CatalogChange): void {
    const key = change.kind === "put" ? change.entry.key : change.key;
    const name = key.slice(this.#prefix.length + 1);
    const other = this.#beside.get(name);
    if (other !== undefined) other(change);
    else if (change.kind === "put") this.#put(name, change.entry.value, change.entry.revision, change.reset);
    else this.#remove(name, change.revision);
  }
}

function keptChanging(key: string): KithError {
  return new KithError("REVISION_MISMATCH", `${key} kept changing while it was being changed; try again`, {
    details: { key },
  });
}
