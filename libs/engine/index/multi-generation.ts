import { mkdirSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import {
  createIndex,
  type EncodingShape,
  type FileKeys,
  type FileSum,
  type IndexOptions,
  loadIndex,
  MatrixIndex,
  type MatrixOptions,
  type SearchOptions,
  type SearchResult,
  type VectorIndex,
} from "../../ann/index.js";
import { deferred, type Deferred, KithError, limits, toKithError, withAbort } from "../../base/index.js";
import type { VectorField } from "../../model/index.js";
import type { CodesExplain } from "../../shard-api/index.js";
import type { Checkpoint, CheckpointStamp, Generation, GenerationStats, Rows } from "./derived-index.js";
import { readManifest, writeManifest } from "./checkpoint-files.js";
import { RecentChanges } from "./recent-changes.js";

/** Matrices by slot; all rows of all of them lie one behind the other. */
export interface MultiRows extends Rows {
  readonly rowCounts: Uint32Array;
  readonly matrix: Float32Array;
}

/**
 * Rows of all matrices from which on they are encoded, and a graph finds those that are compared: below, to compare all of them takes some milliseconds
 * (32 rows of a query with 32,768 of 128 dimensions are 134 million products).
 */
const encodedRowsMin = 32_768;
/** So many matrices may be allowed by a filter for all of them to be compared. */
const comparedMin = 1_024;
/** Candidates that are compared at least, and for each result that is wanted: see the measurements of decision 0029. */
const candidatesMin = 256;
const candidateFactor = 4;
/** Matrices that are encoded one after the other before others get a turn. */
const encodedAtOnce = 64;
/** `add` resolves late while more than this wait to be encoded: each search compares them all. */
const pendingMax = 2_048;
/** A search whose candidates were removed while it ran is run again; the last time everything is compared, in one step. */
const attemptsMax = 3;

const encodingsName = "encodings";
const ownFile = /^matrices-[0-9a-z-]+\.bin(?:\.tmp)?$/;

interface Manifest extends CheckpointStamp {
  format: 1;
  /** Nothing but the very same index reads it. */
  options: MatrixOptions;
  matrices: { name: string } & FileSum;
  /** Sequence of the graph over the encodings, in a folder of its own; missing where there was none. */
  encodings?: number;
  /** Slots of matrices that were not encoded. */
  pending: number[];
}

interface Parts extends MultiOptions {
  matrices?: MatrixIndex;
  encodings?: VectorIndex | undefined;
}

interface MultiOptions {
  /** From how many rows on matrices are encoded. */
  encodedRows?: number;
  /** Encrypt what is saved. */
  keys?: FileKeys | undefined;
}

/**
 * One build of an index of matrices. Few are all compared. Of many a graph over their encodings, which are single vectors, finds candidates, and these are
 * compared exactly; those that are not encoded yet are always among them.
 */
export class MultiGeneration implements Generation<MultiRows> {
  readonly #field: VectorField;
  readonly #matrices: MatrixIndex;
  readonly #encodedRows: number;
  /** Made when there is enough for it. */
  #encodings: VectorIndex | undefined;
  /** Slots that are not encoded yet, with a mark that tells the matrices of one slot apart. */
  readonly #pending = new Map<number, number>();
  #mark = 0;
  #encoding: Promise<void> | undefined;
  #failure: KithError | undefined;
  #waiters: { pending: number; done: Deferred<void> }[] = [];
  readonly #recent = new RecentChanges();
  #saving: Promise<unknown> = Promise.resolve();
  #saves = 0;
  #isClosed = false;
  readonly #keys: FileKeys | undefined;

  constructor(
    field: VectorField,
    {
      matrices = MatrixIndex.create(matrixOptionsOf(field)),
      encodings,
      encodedRows = encodedRowsMin,
      keys,
    }: Parts = {},
  ) {
    this.#keys = keys;
    this.#field = field;
    this.#matrices = matrices;
    this.#encodings = encodings;
    this.#encodedRows = encodedRows;
  }

  /** See IndexKind.load. */
  static async load(
    directory: string,
    field: VectorField,
    { encodedRows, keys }: MultiOptions = {},
  ): Promise<Checkpoint<MultiGeneration> | undefined> {
    const manifest = await readManifest<Manifest>(directory, 1);
    if (manifest === undefined) return undefined;
    const options = matrixOptionsOf(field);
    if (JSON.stringify(manifest.options) !== JSON.stringify(options)) {
      throw new KithError("CORRUPT_DATA", `it is of another index: ${JSON.stringify(manifest.options)}`);
    }
    const { matrices: file, storeId, sequence, pending } = manifest;
    const matrices = await MatrixIndex.load(options, join(directory, file.name), file, keys);
    let encodings: VectorIndex | undefined;
    try {
      if (manifest.encodings !== undefined) {
        const loaded = await loadIndex(join(directory, encodingsName), encodedOptionsOf(field, matrices), { keys });
        // A save that was cut short has left a younger graph beside the manifest of before.
        if (loaded?.sequence !== manifest.encodings) {
          await loaded?.index.close();
          throw new KithError("CORRUPT_DATA", "its encodings are of another moment");
        }
        encodings = loaded.index;
      }
    } catch (error) {
      await matrices.close();
      throw error;
    }
    const generation = new MultiGeneration(field, {
      matrices,
      encodings,
      keys,
      ...(encodedRows !== undefined && { encodedRows }),
    });
    for (const slot of pending) generation.#pending.set(slot, ++generation.#mark);
    generation.#encodeIfDue();
    return { generation, stamp: { storeId, sequence } };
  }

  add({ slots, rowCounts, matrix }: MultiRows): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    this.#matrices.add({ slots, rowCounts, vectors: matrix });
    for (const slot of slots) this.#pending.set(slot, ++this.#mark);
    this.#encodeIfDue();
    return this.#encodings === undefined ? Promise.resolve() : this.#untilPending(pendingMax);
  }

  remove(slots: Uint32Array): void {
    this.#matrices.remove(slots);
    this.#encodings?.remove(slots);
    for (const slot of slots) this.#pending.delete(slot);
    this.#recent.removed(slots);
  }

  /** As of an index of single vectors; `ef`: candidates that are compared exactly. */
  async search(query: Float32Array, options: SearchOptions): Promise<SearchResult> {
    const { k, ef, filter, slots, exact, signal } = options;
    const encodings = this.#encodings;
    const candidates = Math.min(limits.shardResults, Math.max(ef, candidatesMin, candidateFactor * k));
    const isFew = filter !== undefined && allowedBy(filter) <= Math.max(comparedMin, 2 * candidates);
    if (exact === true || slots !== undefined || encodings === undefined || isFew) return this.#compare(query, options);
    const encoded = this.#matrices.encodeQuery(query);
    const begun = this.#recent.begin();
    try {
      for (let attempt = 1; attempt < attemptsMax; attempt++) {
        const scope = { ...(filter !== undefined && { filter }), ...(signal !== undefined && { signal }) };
        const found = await encodings.search(encoded, { k: candidates, ef: candidates, ...scope });
        if (found.slots.some((slot) => this.#recent.wasRemoved(slot, begun))) continue;
        // What was encoded meanwhile may have come in the place of what had not been, and is in neither.
        const waiting = [...this.#pending.keys(), ...this.#recent.encodedSince(begun)].filter(
          (slot) => filter === undefined || isAllowed(filter, slot),
        );
        const compared = Uint32Array.from([...found.slots, ...waiting]);
        const best = await this.#matrices.search(query, {
          k,
          slots: compared,
          ...(signal !== undefined && { signal }),
        });
        return this.#told(best, options, {
          plan: found.plan,
          computed: found.computed,
          us: found.queueUs + found.searchUs,
          why: `${found.slots.length} candidates by their encodings, ${waiting.length} that are not encoded yet`,
        });
      }
    } finally {
      this.#recent.end(begun);
    }
    return this.#compare(query, options);
  }

  async #compare(query: Float32Array, options: SearchOptions): Promise<SearchResult> {
    const { k, filter, slots, exact, signal } = options;
    const scope = slots !== undefined ? { slots } : filter !== undefined ? { filter } : {};
    const found = await this.#matrices.search(query, { k, ...scope, ...(signal !== undefined && { signal }) });
    const why = exact === true ? "an exact search was asked for" : "few matrices: all of them were compared";
    return this.#told(found, options, { plan: "scan", computed: 0, us: 0, why });
  }

  #told(
    found: Awaited<ReturnType<MatrixIndex["search"]>>,
    { explain }: SearchOptions,
    { plan, computed, us, why }: { plan: SearchResult["plan"]; computed: number; us: number; why: string },
  ): SearchResult {
    const { slots, distances, queueUs, searchUs, parts } = found;
    const result: SearchResult = { slots, distances, computed: found.computed, plan, queueUs, searchUs: searchUs + us };
    if (explain !== true) return result;
    const reason = `${why}; ${found.computed} pairs of rows compared on ${parts} threads`;
    const walkedRows = plan === "scan" ? 0 : computed;
    result.explanation = {
      plan: plan === "scan" ? "scan" : "walk",
      visitedRows: walkedRows,
      walkedRows,
      scannedRows: found.computed,
      decision: undefined,
      reason,
    };
    return result;
  }

  stats(): GenerationStats {
    const { matrixCount, aliveCount, memoryBytes } = this.#matrices.stats();
    const encoded = this.#encodings?.stats();
    const encodedBytes = encoded === undefined ? 0 : encoded.arenaBytes + encoded.graphBytes + encoded.otherBytes;
    const waiting = encoded === undefined ? 0 : Math.min(this.#pending.size + encoded.tailRowCount, aliveCount);
    // Small graphs are scanned, and need not be otherwise.
    const isScanned = encoded?.graphRowCount === 0 && encoded.rowCount < (this.#encodings?.options.graphThreshold ?? 0);
    return {
      rowCount: matrixCount,
      aliveCount,
      unindexedCount: isScanned ? Math.min(this.#pending.size, aliveCount) : waiting,
      memoryBytes: memoryBytes + encodedBytes,
    };
  }

  originals(): CodesExplain["originals"] {
    return this.#field.datatype === "f32" ? "memory" : "LevelDB";
  }

  async flush(signal?: AbortSignal): Promise<void> {
    if (this.#encodings === undefined) return;
    await withAbort(this.#untilPending(0), signal);
    await this.#encodings.flush(signal);
  }

  save(directory: string, stamp: CheckpointStamp): Promise<void> {
    // The state of the call's moment; files of two saves come into their place in the order of the calls.
    mkdirSync(directory, { recursive: true });
    const name = `matrices-${stamp.sequence}-${++this.#saves}-${process.pid.toString(36)}.bin`;
    const pending = [...this.#pending.keys()];
    const writing = this.#matrices.save(join(directory, name), this.#keys);
    const encodings = this.#encodings;
    const encoding = encodings?.save(join(directory, encodingsName), { sequence: stamp.sequence });
    const before = this.#saving;
    const saved = (async () => {
      const [sum] = await Promise.all([writing, encoding]);
      await before;
      const manifest: Manifest = {
        ...{ format: 1, ...stamp, options: matrixOptionsOf(this.#field), pending },
        matrices: { name, ...sum },
        ...(encodings !== undefined && { encodings: stamp.sequence }),
      };
      await writeManifest(directory, manifest);
      for (const found of await readdir(directory)) {
        if (ownFile.test(found) && found !== name) await rm(join(directory, found), { force: true });
      }
    })();
    this.#saving = saved.catch(() => undefined);
    return saved;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const { done } of this.#waiters.splice(0)) done.reject(closedError(this.#field));
    await Promise.all([this.#saving, this.#encoding]);
    await Promise.all([this.#matrices.close(), this.#encodings?.close()]);
  }

  /** Begins to encode, where there is enough for it. */
  #encodeIfDue(): void {
    if (this.#isClosed || this.#encoding !== undefined || this.#pending.size === 0) return;
    if (this.#encodings === undefined) {
      if (this.#matrices.stats().aliveRowCount < this.#encodedRows) return;
      this.#encodings = createIndex(encodedOptionsOf(this.#field, this.#matrices), this.#keys);
    }
    this.#encoding = this.#encode(this.#encodings)
      .catch((error: unknown) => {
        this.#failure = toKithError(error);
        for (const { done } of this.#waiters.splice(0)) done.reject(this.#failure);
      })
      .finally(() => {
        this.#encoding = undefined;
      });
  }

  async #encode(encodings: VectorIndex): Promise<void> {
    while (this.#pending.size > 0 && !this.#isClosed) {
      const part: [number, number][] = [];
      for (const entry of this.#pending) {
        if (part.length === encodedAtOnce) break;
        part.push(entry);
      }
      const vectors = await this.#matrices.encode(Uint32Array.from(part, ([slot]) => slot));
      const { encodingDimension } = this.#matrices;
      // What was removed meanwhile, and what has come in its slot since, is another matrix.
      const rows = part.flatMap(([slot, mark], row) => (this.#pending.get(slot) === mark ? [row] : []));
      const kept = new Float32Array(rows.length * encodingDimension);
      for (const [i, row] of rows.entries()) {
        kept.set(vectors.subarray(row * encodingDimension, (row + 1) * encodingDimension), i * encodingDimension);
      }
      const slots = Uint32Array.from(rows, (row) => (part[row] as [number, number])[0]);
      const added = slots.length === 0 ? undefined : encodings.add(slots, kept);
      for (const slot of slots) this.#pending.delete(slot);
      this.#recent.encoded(slots);
      await added;
      this.#tellWaiters();
    }
    this.#tellWaiters();
  }

  #untilPending(pending: number): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#pending.size <= pending) return Promise.resolve();
    const done = deferred<void>();
    this.#waiters.push({ pending, done });
    this.#encodeIfDue();
    return done.promise;
  }

  #tellWaiters(): void {
    this.#waiters = this.#waiters.filter(({ pending, done }) => {
      if (this.#pending.size > pending) return true;
      done.resolve();
      return false;
    });
  }
}

/** Of how many dimensions an encoding is: see the measurements of decision 0029. */
function shapeOf({ dimension, metric }: VectorField): EncodingShape {
  const width = metric === "l2" ? dimension + 1 : dimension;
  return { repetitions: 40, planes: 3, projected: Math.min(8, width) };
}

function matrixOptionsOf(field: VectorField): MatrixOptions {
  const { dimension, metric, datatype } = field;
  return { dimension, metric, datatype, encoding: shapeOf(field) };
}

function encodedOptionsOf({ m, efConstruction }: VectorField, { encodingDimension }: MatrixIndex): IndexOptions {
  return { dimension: encodingDimension, metric: "dot", datatype: "f16", m, efConstruction };
}

function allowedBy(filter: Uint8Array): number {
  let count = 0;
  for (const byte of filter) count += bitsOf[byte] as number;
  return count;
}

const bitsOf = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll("0", "").length);

function isAllowed(filter: Uint8Array, slot: number): boolean {
  return (((filter[slot >> 3] ?? 0) >> (slot & 7)) & 1) === 1;
}

function closedError({ name }: VectorField): KithError {
  return new KithError("SHUTTING_DOWN", `the index of the vector field "${name}" is closed`, { retryAfterMs: 500 });
}
