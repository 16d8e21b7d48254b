import { mkdirSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { type FileKeys, type FileSum, PostingsIndex } from "../../ann/index.js";
import { sparseFromBytes } from "../../model/index.js";
import { readManifest, writeManifest } from "./checkpoint-files.js";
import type { Checkpoint, CheckpointStamp, Generation, GenerationStats, Rows } from "./derived-index.js";

/** Sparse vectors as they are stored, aligned with the slots. */
export interface SparseRows extends Rows {
  readonly vectors: readonly Uint8Array[];
}

const ownFile = /^postings-[0-9-]+\.bin(?:\.tmp)?$/;
const options = { kind: "values" } as const;

/** A checkpoint: the postings, and the manifest, which names them and comes last. In format 1, blocks of postings were written otherwise. */
interface Manifest extends CheckpointStamp {
  format: 2;
  postings: { name: string } & FileSum;
}

/** One build of the index of a sparse field: for each index the points whose vectors have it, with their values. */
export class SparseGeneration implements Generation<SparseRows> {
  readonly postings: PostingsIndex;
  /** The save under way, or the last one; never rejects. */
  #saving: Promise<unknown> = Promise.resolve();
  #saves = 0;
  readonly #keys: FileKeys | undefined;

  /** @param keys encrypt what is saved */
  constructor(keys?: FileKeys, postings = PostingsIndex.create(options)) {
    this.#keys = keys;
    this.postings = postings;
  }

  /** See IndexKind.load. */
  static async load(directory: string, keys?: FileKeys): Promise<Checkpoint<SparseGeneration> | undefined> {
    const manifest = await readManifest<Manifest>(directory, 2);
    if (manifest === undefined) return undefined;
    const { postings, storeId, sequence } = manifest;
    const index = await PostingsIndex.load(options, join(directory, postings.name), postings, keys);
    return { generation: new SparseGeneration(keys, index), stamp: { storeId, sequence } };
  }

  add({ slots, vectors }: SparseRows): Promise<void> {
    const offsets = new Uint32Array(slots.length + 1);
    vectors.forEach((bytes, row) => {
      offsets[row + 1] = (offsets[row] as number) + bytes.length / 8;
    });
    const count = offsets[slots.length] as number;
    const terms = new Uint32Array(count);
    const values = new Float32Array(count);
    for (const [row, bytes] of vectors.entries()) {
      const vector = sparseFromBytes(bytes);
      terms.set(vector.indices, offsets[row]);
      values.set(vector.values, offsets[row]);
    }
    return this.postings.add({ slots, offsets, terms, values });
  }

  remove(slots: Uint32Array): void {
    this.postings.remove(slots);
  }

  stats(): GenerationStats {
    const { aliveCount, memoryBytes } = this.postings.stats();
    // Merges leave dead rows out by themselves.
    return { rowCount: aliveCount, aliveCount, unindexedCount: 0, memoryBytes };
  }

  flush(signal?: AbortSignal): Promise<void> {
    return this.postings.flush(signal);
  }

  save(directory: string, stamp: CheckpointStamp): Promise<void> {
    // The state of the call's moment; files of two saves come into their place in the order of the calls.
    const name = `postings-${stamp.sequence}-${++this.#saves}-${this.postings.stats().aliveCount}.bin`;
    mkdirSync(directory, { recursive: true });
    const writing = this.postings.save(join(directory, name), this.#keys);
    const before = this.#saving;
    const saved = (async () => {
      const sum = await writing;
      await before;
      const manifest: Manifest = { format: 2, ...stamp, postings: { name, ...sum } };
      await writeManifest(directory, manifest);
      for (const found of await readdir(directory)) {
        if (ownFile.test(found) && found !== name) await rm(join(directory, found), { force: true });
      }
    })();
    this.#saving = saved.catch(() => undefined);
    return saved;
  }

  async close(): Promise<void> {
    await this.#saving;
    await this.postings.close();
  }
}
