import { KithError, deferred, limits, toKithError, withAbort, type Deferred } from "../base/index.js";
import { checkArray } from "./arrays.js";
import { openChannel, type SearchJob } from "./channel.js";
import { toKithFailure } from "./failures.js";
import type { FileKeys } from "./file-keys.js";
import { native } from "./native.js";
import { givenFolderOf, writeIndex, type SavedRows } from "./persist.js";
import type { IndexOptions, IndexStats, SearchOptions, SearchResult, VectorIndex } from "./types.js";

/** The largest slot; native code keeps 2^32 − 1 for "none". */
const slotMax = 2 ** 32 - 2;

/** Closes the native half of indexes that were dropped without close(). */
const forgotten = new FinalizationRegistry<number>((id) => {
  openChannel()
    .operate((ticket) => {
      native().close(id, ticket);
      return false;
    })
    .catch((error: unknown) => {
      process.emitWarning(`a vector index that was never closed could not be freed: ${String(error)}`);
    });
});

function outOfRange(name: string, value: number, least: number, most: number): KithError {
  return new KithError(
    "LIMIT_OUT_OF_RANGE",
    `${name} is ${value}; it must be a whole number from ${least} to ${most}`,
    {
      details: { field: name, value, least, most },
    },
  );
}

function inRange(value: number, least: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most;
}

function placeOf(givenFolder: string): IndexStats["givenIn"] {
  if (givenFolder === "") return undefined;
  return givenFolder === "memory:" ? "memory" : "file";
}

/** The native index behind the VectorIndex contract. */
export class NativeIndex implements VectorIndex {
  readonly options: Readonly<Required<IndexOptions>>;
  readonly #id: number;
  readonly #channel = openChannel();
  readonly #token = {};
  #rowCount: number;
  #closed: Promise<void> | undefined;
  #inFlight = 0;
  #idle: Deferred<void> | undefined;
  #saving: Promise<unknown> = Promise.resolve();
  /** Rows that are in files: the next save into the same directory appends to them. */
  #savedRows: SavedRows | undefined;
  readonly #keys: FileKeys | undefined;

  /** Takes over the native index `id`, which holds `rowCount` rows, those in files if it was loaded. */
  constructor(
    options: Required<IndexOptions>,
    id: number,
    rowCount: number,
    { savedRows, keys }: { savedRows?: SavedRows | undefined; keys?: FileKeys | undefined } = {},
  ) {
    this.options = Object.freeze(options);
    this.#id = id;
    this.#rowCount = rowCount;
    this.#savedRows = savedRows;
    this.#keys = keys;
    forgotten.register(this, id, this.#token);
  }

  async add(slots: Uint32Array, vectors: Float32Array): Promise<void> {
    this.#assertOpen();
    const { dimension, tailRowsMax } = this.options;
    checkArray("slots", slots, "Uint32Array");
    checkArray("vectors", vectors, "Float32Array");
    if (vectors.length !== slots.length * dimension) {
      throw new KithError(
        "DIMENSION_MISMATCH",
        `${vectors.length} numbers were given for ${slots.length} slots of dimension ${dimension}; ` +
          `${slots.length * dimension} are needed`,
        { details: { dimension, slots: slots.length, numbers: vectors.length } },
      );
    }
    if (slots.includes(slotMax + 1)) {
      throw new KithError("INVALID_ARGUMENT", `slot ${slotMax + 1} is reserved; the largest is ${slotMax}`);
    }
    const fault = new Uint32Array(1);
    const code = native().add(this.#id, slots, vectors, fault);
    if (code !== native().layout.failure.none) throw refused(code, fault[0] ?? 0, slots);
    this.#rowCount += slots.length;
    if (this.#rowCount > tailRowsMax) await this.#inGraph(this.#rowCount - tailRowsMax);
  }

  remove(slots: Uint32Array): void {
    this.#assertOpen();
    checkArray("slots", slots, "Uint32Array");
    native().remove(this.#id, slots);
  }

  search(query: Float32Array, options: SearchOptions): Promise<SearchResult> {
    try {
      this.#checkSearch(query, options);
    } catch (error) {
      return Promise.reject(toKithError(error));
    }
    const { k, ef, filter, slots, signal, scored = 0 } = options;
    this.#inFlight++;
    const exact = options.exact === true;
    const codesOnly = options.codesOnly === true;
    const explain = options.explain === true;
    const onEnd = this.#onSearchEnd;
    const id = this.#id;
    // Without spreads, which take as long as all else here.
    const job: SearchJob = { id, k, ef, exact, scored, codesOnly, query, filter, slots, explain, signal, onEnd };
    return this.#channel.search(job);
  }

  #checkSearch(query: Float32Array, options: SearchOptions): void {
    const { k, ef, filter, slots, scored } = options;
    this.#assertOpen();
    checkArray("query", query, "Float32Array");
    if (query.length !== this.options.dimension) {
      throw new KithError(
        "DIMENSION_MISMATCH",
        `the query has ${query.length} components; the index has dimension ${this.options.dimension}`,
        { details: { dimension: this.options.dimension, given: query.length } },
      );
    }
    if (!inRange(k, 1, limits.shardResults)) throw outOfRange("k", k, 1, limits.shardResults);
    if (!inRange(ef, 1, limits.shardResults)) throw outOfRange("ef", ef, 1, limits.shardResults);
    if (scored !== undefined && !inRange(scored, 1, limits.shardResults)) {
      throw outOfRange("scored", scored, 1, limits.shardResults);
    }
    if (filter !== undefined) checkArray("filter", filter, "Uint8Array");
    if (slots !== undefined) checkArray("slots", slots, "Uint32Array");
    if (filter !== undefined && slots !== undefined) {
      throw new KithError("INVALID_ARGUMENT", "filter and slots exclude each other; give one of them");
    }
  }

  readonly #onSearchEnd = (): void => {
    if (--this.#inFlight === 0) this.#idle?.resolve();
  };

  get(slot: number): Float32Array | undefined {
    this.#assertOpen();
    if (!inRange(slot, 0, slotMax)) return undefined;
    const vector = new Float32Array(this.options.dimension);
    return native().get(this.#id, slot, vector) ? vector : undefined;
  }

  flush(signal?: AbortSignal): Promise<void> {
    if (this.#closed !== undefined) return Promise.reject(closedError());
    return withAbort(this.#inGraph(this.#rowCount), signal);
  }

  async #inGraph(rows: number): Promise<void> {
    await this.#channel.operate((ticket) => native().whenInGraph(this.#id, ticket, rows));
  }

  async save(
    directory: string,
    manifest: { sequence: number; extra?: Record<string, string | number> },
  ): Promise<{ bytes: number; writtenBytes: number }> {
    this.#assertOpen();
    // The snapshot is taken before the first await, so the saved state is that of the call; files of two saves of one
    // index into one directory would overtake each other, so their ends are in order.
    const saving = writeIndex(
      this.#channel,
      this.#id,
      this.options,
      directory,
      manifest,
      this.#saving,
      this.#savedRows,
      this.#keys,
    );
    this.#saving = saving.catch(() => undefined);
    const { bytes, writtenBytes, rows } = await saving;
    this.#savedRows = rows;
    return { bytes, writtenBytes };
  }

  stats(): IndexStats {
    this.#assertOpen();
    const { stats } = native().layout;
    const out = new Float64Array(stats.numbers);
    const simd = native().stats(this.#id, out);
    const number = (name: Exclude<keyof typeof stats, "numbers">): number => out[stats[name]] ?? 0;
    return {
      rowCount: number("rowCount"),
      aliveCount: number("aliveCount"),
      graphRowCount: number("graphRowCount"),
      tailRowCount: number("rowCount") - number("graphRowCount"),
      arenaBytes: number("arenaBytes"),
      graphBytes: number("graphBytes"),
      otherBytes: number("otherBytes"),
      givenBytes: number("givenBytes"),
      givenIn: placeOf(givenFolderOf(this.options, this.#keys)),
      hugePages: number("hugePages") === 1,
      simd,
    };
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    forgotten.unregister(this.#token);
    if (this.#inFlight > 0) {
      this.#idle = deferred();
      await this.#idle.promise;
    }
    await this.#saving;
    await this.#channel.operate((ticket) => {
      native().close(this.#id, ticket);
      return false;
    });
  }

  #assertOpen(): void {
    if (this.#closed !== undefined) throw closedError();
  }

  /** For bench/ann and the tests alone: the number by which native code knows this index. */
  static nativeId(index: VectorIndex): number {
    if (!(index instanceof NativeIndex)) throw new KithError("INVALID_ARGUMENT", "this is not a native index");
    return index.#id;
  }
}

/** Why a row of an `add` was refused. */
function refused(code: number, at: number, slots: Uint32Array): KithError {
  const slot = slots[at] ?? 0;
  const details = { slot, row: at };
  const { failure } = native().layout;
  switch (code) {
    case failure.notFinite:
      return new KithError("INVALID_ARGUMENT", `the vector of slot ${slot} has a component that is NaN or infinite`, {
        details,
      });
    case failure.zeroVector:
      return new KithError("INVALID_ARGUMENT", `the vector of slot ${slot} is zero, which cosine cannot compare`, {
        details,
      });
    case failure.duplicateSlot:
      return new KithError("INVALID_ARGUMENT", `slot ${slot} is alive already or twice in the batch; remove it first`, {
        details,
      });
    default:
      return toKithFailure(failure, code, `slot ${slot} was refused`);
  }
}

function closedError(): KithError {
  return new KithError("FAILED_PRECONDITION", "the index is closed; open it again with loadIndex or createIndex");
}
