import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { crc32c, KithError } from "../../base/index.js";
import type { IndexOptions, LoadedIndex, SearchOptions, SearchResult, VectorIndex } from "../../ann/index.js";
import type { IndexFactory } from "../replica/options.js";

export function distanceOf(metric: IndexOptions["metric"], a: Float32Array, b: Float32Array): number {
  let dot = 0;
  let aa = 0;
  let bb = 0;
  let squares = 0;
  for (let i = 0; i < a.length; i++) {
    const x = a[i] as number;
    const y = b[i] as number;
    dot += x * y;
    aa += x * x;
    bb += y * y;
    squares += (x - y) * (x - y);
  }
  if (metric === "dot") return -dot;
  return metric === "l2" ? squares : 1 - dot / Math.sqrt(aa * bb);
}

/** As in the native index, an answer comes from elsewhere, and the event loop turns meanwhile. */
async function elsewhere(): Promise<void> {
  await setImmediate();
  await ExactIndex.duringSearch?.();
}

/**
 * A VectorIndex that is slow and right: the oracle, and what the engine's tests and simulated clusters run on without the native addon. An
 * answer comes when `answering` has ended.
 */
export class ExactIndex implements VectorIndex {
  readonly options: Readonly<Required<IndexOptions>>;
  readonly #alive = new Map<number, Float32Array>();
  #rowCount = 0;
  #isClosed = false;
  #saving: Promise<unknown> = Promise.resolve();
  /** Called before a search answers; lets tests change things meanwhile. */
  static duringSearch: (() => Promise<void>) | undefined;

  constructor(
    options: IndexOptions,
    private readonly answering: () => Promise<void> = elsewhere,
  ) {
    this.options = { graphThreshold: 0, tailRowsMax: 1024, givenFolder: "", ...options };
  }

  async add(slots: Uint32Array, vectors: Float32Array): Promise<void> {
    this.#assertOpen();
    const { dimension } = this.options;
    for (const slot of slots) {
      if (this.#alive.has(slot)) throw new KithError("INVALID_ARGUMENT", `slot ${slot} is alive already`);
    }
    slots.forEach((slot, row) => this.#alive.set(slot, vectors.slice(row * dimension, (row + 1) * dimension)));
    this.#rowCount += slots.length;
    await Promise.resolve();
  }

  remove(slots: Uint32Array): void {
    this.#assertOpen();
    for (const slot of slots) this.#alive.delete(slot);
  }

  async search(query: Float32Array, { k, filter, slots }: SearchOptions): Promise<SearchResult> {
    this.#assertOpen();
    const passes = (slot: number): boolean =>
      (slots?.includes(slot) ?? true) && (filter === undefined || (((filter[slot >> 3] ?? 0) >> (slot & 7)) & 1) === 1);
    const allowed = [...this.#alive].filter(([slot]) => passes(slot));
    const found = Array.from(allowed, ([slot, vector]) => ({
      slot,
      distance: distanceOf(this.options.metric, query, vector),
    }));
    found.sort((a, b) => a.distance - b.distance || a.slot - b.slot);
    found.length = Math.min(found.length, k);
    await this.answering();
    return {
      slots: Uint32Array.from(found, ({ slot }) => slot),
      distances: Float32Array.from(found, ({ distance }) => distance),
      computed: this.#alive.size,
      plan: "scan",
      queueUs: 0,
      searchUs: 0,
    };
  }

  get(slot: number): Float32Array | undefined {
    this.#assertOpen();
    return this.#alive.get(slot);
  }

  async flush(): Promise<void> {
    await Promise.resolve();
  }

  async save(
    directory: string,
    manifest: { sequence: number; extra?: Record<string, string | number> },
  ): Promise<{ bytes: number }> {
    this.#assertOpen();
    const rows = Array.from(this.#alive, ([slot, vector]) => [slot, ...vector]);
    const body = JSON.stringify({ ...manifest, rowCount: this.#rowCount, rows });
    const save = this.#write(directory, `${crc32c(Buffer.from(body))}\n${body}`);
    this.#saving = Promise.allSettled([this.#saving, save]);
    return save;
  }

  async #write(directory: string, text: string): Promise<{ bytes: number }> {
    await mkdir(directory, { recursive: true });
    await writeFile(join(directory, "exact.tmp"), text, { flush: true });
    await rename(join(directory, "exact.tmp"), join(directory, "exact.json"));
    return { bytes: text.length };
  }

  static async load(
    directory: string,
    options: IndexOptions,
    answering?: () => Promise<void>,
  ): Promise<LoadedIndex | undefined> {
    let text: string;
    try {
      text = await readFile(join(directory, "exact.json"), "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
    const end = text.indexOf("\n");
    const body = text.slice(end + 1);
    if (Number(text.slice(0, end)) !== crc32c(Buffer.from(body))) {
      throw new KithError("CORRUPT_DATA", "the checkpoint has a wrong checksum");
    }
    const saved = JSON.parse(body) as {
      sequence: number;
      extra: Record<string, string | number>;
      rowCount: number;
      rows: number[][];
    };
    const index = new ExactIndex(options, answering);
    for (const [slot, ...vector] of saved.rows) index.#alive.set(slot as number, Float32Array.from(vector));
    index.#rowCount = saved.rowCount;
    return { index, sequence: saved.sequence, extra: saved.extra };
  }

  stats(): ReturnType<VectorIndex["stats"]> {
    this.#assertOpen();
    return {
      rowCount: this.#rowCount,
      aliveCount: this.#alive.size,
      graphRowCount: this.#rowCount,
      tailRowCount: 0,
      arenaBytes: 0,
      graphBytes: 0,
      givenBytes: 0,
      givenIn: undefined,
      otherBytes: 0,
      hugePages: false,
      simd: "portable",
    };
  }

  /** As in the native index, saves under way end first. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#saving;
  }

  #assertOpen(): void {
    if (this.#isClosed) throw new KithError("FAILED_PRECONDITION", "the index is closed");
  }
}

export function exactIndexesAnswering(answering?: () => Promise<void>): IndexFactory {
  return {
    create: (options) => new ExactIndex(options, answering),
    load: (directory, options) => ExactIndex.load(directory, options, answering),
  };
}

export const exactIndexes = exactIndexesAnswering();
