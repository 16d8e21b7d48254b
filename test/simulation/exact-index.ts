import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { crc32c, KithError } from "../../libs/base/index.js";
import type { IndexOptions, LoadedIndex, SearchOptions, SearchResult, VectorIndex } from "../../libs/ann/index.js";
import type { IndexFactory } from "../../libs/engine/index.js";
import type { Process } from "./world.js";

/** Searches take up to so long. */
const searchMs = 2;

/** Squared distance, as the native index computes it in f32. */
function distanceOf(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += ((a[i] as number) - (b[i] as number)) ** 2;
  return sum;
}

/**
 * A VectorIndex on one thread: the native one answers when its threads are done, which no seed tells. It scans all rows, answers later in
 * virtual time, and keeps checkpoints on the simulated disk. For l2 alone.
 */
class ScanIndex implements VectorIndex {
  readonly options: Readonly<Required<IndexOptions>>;
  readonly #process: Process;
  readonly #rows = new Map<number, Float32Array>();
  #rowCount = 0;
  #isClosed = false;
  #saving: Promise<unknown> = Promise.resolve();

  constructor(process: Process, options: IndexOptions) {
    this.#process = process;
    this.options = { graphThreshold: 0, tailRowsMax: 1024, ...options };
  }

  async add(slots: Uint32Array, vectors: Float32Array): Promise<void> {
    this.#assertOpen();
    const { dimension } = this.options;
    for (const [row, slot] of slots.entries()) {
      if (this.#rows.has(slot)) throw new KithError("INVALID_ARGUMENT", `slot ${slot} is alive already`);
      this.#rows.set(slot, vectors.slice(row * dimension, (row + 1) * dimension));
    }
    this.#rowCount += slots.length;
    await Promise.resolve();
  }

  remove(slots: Uint32Array): void {
    this.#assertOpen();
    for (const slot of slots) this.#rows.delete(slot);
  }

  async search(query: Float32Array, { k, filter, slots }: SearchOptions): Promise<SearchResult> {
    this.#assertOpen();
    const allowed = slots === undefined ? undefined : new Set(slots);
    const found: { slot: number; distance: number }[] = [];
    for (const [slot, vector] of this.#rows) {
      if (allowed !== undefined && !allowed.has(slot)) continue;
      if (filter !== undefined && (((filter[slot >> 3] ?? 0) >> (slot & 7)) & 1) === 0) continue;
      found.push({ slot, distance: distanceOf(query, vector) });
    }
    found.sort((a, b) => a.distance - b.distance || a.slot - b.slot);
    found.length = Math.min(found.length, k);
    const { world } = this.#process;
    await world.sleep(world.random.float() * searchMs, this.#process);
    return {
      slots: Uint32Array.from(found, ({ slot }) => slot),
      distances: Float32Array.from(found, ({ distance }) => distance),
      computed: this.#rows.size,
      plan: "scan",
      queueUs: 0,
      searchUs: 0,
    };
  }

  get(slot: number): Float32Array | undefined {
    this.#assertOpen();
    return this.#rows.get(slot);
  }

  async flush(): Promise<void> {
    await Promise.resolve();
  }

  async save(
    directory: string,
    manifest: { sequence: number; extra?: Record<string, string | number> },
  ): Promise<{ bytes: number }> {
    this.#assertOpen();
    const rows = Array.from(this.#rows, ([slot, vector]) => [slot, ...vector]);
    const body = JSON.stringify({ ...manifest, rowCount: this.#rowCount, rows });
    const save = write(directory, `${crc32c(Buffer.from(body))}\n${body}`);
    this.#saving = Promise.allSettled([this.#saving, save]);
    return save;
  }

  static async load(process: Process, directory: string, options: IndexOptions): Promise<LoadedIndex | undefined> {
    let text: string;
    try {
      text = await readFile(join(directory, "rows.json"), "utf8");
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
      rows: [number, ...number[]][];
    };
    const index = new ScanIndex(process, options);
    for (const [slot, ...vector] of saved.rows) index.#rows.set(slot, Float32Array.from(vector));
    index.#rowCount = saved.rowCount;
    return { index, sequence: saved.sequence, extra: saved.extra };
  }

  stats(): ReturnType<VectorIndex["stats"]> {
    this.#assertOpen();
    return {
      rowCount: this.#rowCount,
      aliveCount: this.#rows.size,
      graphRowCount: this.#rowCount,
      tailRowCount: 0,
      arenaBytes: 0,
      graphBytes: 0,
      otherBytes: 0,
      hugePages: false,
      simd: "portable",
    };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#saving;
  }

  #assertOpen(): void {
    if (this.#isClosed) throw new KithError("FAILED_PRECONDITION", "the index is closed");
  }
}

async function write(directory: string, text: string): Promise<{ bytes: number }> {
  await mkdir(directory, { recursive: true });
  const path = join(directory, "rows.json");
  await writeFile(`${path}.new`, text, { flush: true });
  await rename(`${path}.new`, path);
  return { bytes: text.length };
}

export function scanIndexes(process: Process): IndexFactory {
  return {
    create: (options) => new ScanIndex(process, options),
    load: (directory, options) => ScanIndex.load(process, directory, options),
  };
}
