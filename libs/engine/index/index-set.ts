import { PayloadIndexes } from "../../filter/index.js";
import { generationOf } from "../../model/index.js";
import type { Schema, SchemaField, SchemaPayloadIndex } from "../recover/schema.js";
import { textOf } from "../replica/faults.js";
import { indexDirectory } from "../replica/layout.js";
import type { Alarm } from "../replica/options.js";
import type { RowChanges } from "./changes.js";
import { type DenseIndex, denseKey, isDense } from "./dense-index.js";
import { isMulti, type MultiIndex } from "./multi-kind.js";
import type { CheckpointStamp, IndexKind } from "./derived-index.js";
import { isPayload, type PayloadLife } from "./payload-kind.js";
import { isSparseIndex, type SparseIndex } from "./sparse-kind.js";
import { isText, textKey, type TextLife } from "./text-kind.js";
import { IndexLife, type IndexSource, type IndexStats } from "./index-life.js";

/** The index of a vector field, of single vectors or of matrices. */
export type VectorLife = DenseIndex | MultiIndex;

export interface IndexSetOptions {
  /** Of the replica. */
  directory: string;
  onAlarm(alarm: Alarm): void;
  /** Told when an index cannot go on. */
  onError(error: unknown): void;
}

/** The builds of the index of one vector field. */
export interface DenseGenerations {
  readonly field: SchemaField;
  readonly answering: DenseIndex;
  /** Beside it, where there is one: being built, or kept. */
  readonly other: DenseIndex | undefined;
}

/** The builds of one index by BM25. */
export interface TextGenerations {
  readonly path: string;
  readonly answering: TextLife;
  /** Beside it, where there is one: being built, or kept. */
  readonly other: TextLife | undefined;
}

/** All derived indexes of an open replica. Indexes come and go while batches are applied and queries run. */
export class IndexSet {
  readonly #options: IndexSetOptions;
  #indexes: readonly IndexLife[];
  #fields: readonly SchemaField[];
  /** By name of the field. */
  #dense: ReadonlyMap<string, DenseGenerations> = new Map();
  #sparse: ReadonlyMap<string, SparseIndex> = new Map();
  #multi: ReadonlyMap<string, MultiIndex> = new Map();
  #payload: readonly PayloadLife[] = [];
  #indexed: readonly SchemaPayloadIndex[];
  #text: readonly TextGenerations[] = [];
  #drops: Promise<unknown> = Promise.resolve();

  /** @param schema says which build of an index answers */
  constructor(
    indexes: readonly IndexLife[],
    { fields, payloadIndexes }: Pick<Schema, "fields" | "payloadIndexes">,
    options: IndexSetOptions,
  ) {
    this.#options = options;
    this.#indexes = indexes;
    this.#fields = fields;
    this.#indexed = payloadIndexes;
    this.#arrange(indexes);
  }

  /** The index of the vector field that answers; undefined where there is none. */
  dense(field: string): DenseIndex | undefined {
    const generations = this.#dense.get(field);
    if (generations === undefined) return undefined;
    const { answering, other } = generations;
    // It was chosen while this replica had not built it: the one before answers until it has.
    return answering.serving === undefined && other?.serving !== undefined ? other : answering;
  }

  /** The builds of the indexes of all vector fields. */
  generations(): readonly DenseGenerations[] {
    return [...this.#dense.values()];
  }

  /** The builds of the index of this vector field; undefined where there is no such field. */
  generationsOf(field: string): DenseGenerations | undefined {
    return this.#dense.get(field);
  }

  /** From now on the generations that this schema says answer. */
  changeSchema({ fields, payloadIndexes }: Pick<Schema, "fields" | "payloadIndexes">): void {
    this.#fields = fields;
    this.#indexed = payloadIndexes;
    this.#arrange(this.#indexes);
  }

  /** The index of the sparse field; undefined where there is none. */
  sparse(field: string): SparseIndex | undefined {
    return this.#sparse.get(field);
  }

  /** The index of the vector field that answers, of single vectors or of matrices; undefined where there is none. */
  vectors(field: string): VectorLife | undefined {
    return this.dense(field) ?? this.#multi.get(field);
  }

  /** The indexes of fields of the payload, those that are not built yet among them. */
  get payload(): readonly PayloadLife[] {
    return this.#payload;
  }

  /** The builds of the indexes by BM25, those that are not whole yet among them. */
  get text(): readonly TextGenerations[] {
    return this.#text;
  }

  /** What is known of payloads now, by the indexes that are built. */
  payloadIndexes(): PayloadIndexes {
    return new PayloadIndexes(this.#payload.flatMap(({ serving }) => (serving === undefined ? [] : [serving.field])));
  }

  /** The index of this kind with this key; undefined where there is none. */
  get(name: string, key: string): IndexLife | undefined {
    return this.#indexes.find(({ kind }) => kind.name === name && kind.key === key);
  }

  /** Makes what a batch changes visible at once, in all indexes. Wait for `accepted` before the next call. */
  apply(changes: RowChanges): void {
    for (const index of this.#indexes) index.apply(changes);
  }

  /** From now on without the rows of these slots, which are all that there are. */
  empty(slots: Uint32Array): void {
    for (const index of this.#indexes) index.empty(slots);
  }

  /** Back-pressure: resolves when all indexes can take more. */
  async accepted(): Promise<void> {
    for (const index of this.#indexes) await index.accepted();
  }

  /** Resolves when all rows of the call's moment are indexed, wherever queries are answered. */
  async flush(signal: AbortSignal | undefined): Promise<void> {
    const others = this.#others();
    await Promise.all(this.#indexes.filter((index) => !others.has(index)).map((index) => index.flush(signal)));
  }

  /** How often a generation of any of them has come into service. */
  get promotions(): number {
    return this.#indexes.reduce((sum, { promotions }) => sum + promotions, 0);
  }

  /** Those that answer, and those beside them. */
  stats(): (IndexStats & { isBeside: boolean })[] {
    const others = this.#others();
    return this.#indexes.map((index) => ({ ...index.stats(), isBeside: others.has(index) }));
  }

  #others(): ReadonlySet<IndexLife> {
    const others = new Set<IndexLife>();
    for (const { other } of this.#dense.values()) if (other !== undefined) others.add(other);
    for (const { other } of this.#text) if (other !== undefined) others.add(other);
    return others;
  }

  /** Indexes what a checkpoint would else have to be read back for: where more than half of the rows are not indexed yet. */
  async settle(signal: AbortSignal): Promise<void> {
    for (const index of this.#indexes) {
      if (signal.aborted) return;
      const { rowCount, unindexedCount } = index.stats();
      if (unindexedCount * 2 > rowCount) await index.flush(signal);
    }
  }

  /** Writes checkpoints, all as of the call's moment. */
  async save(stamp: CheckpointStamp): Promise<void> {
    await Promise.all(this.#indexes.map((index) => index.save(stamp)));
  }

  /** Whether an index was added that has not been filled yet. */
  get isBuildDue(): boolean {
    return this.#indexes.some(({ serving }) => serving === undefined);
  }

  /** Fills the indexes that were added. */
  async build(source: IndexSource): Promise<void> {
    for (const index of this.#indexes) if (index.serving === undefined) await index.build(source);
  }

  /** Whether so many rows of an index are dead, and this share of them, that its next generation is due. */
  isRebuildDue(deadRows: number, deadShare: number): boolean {
    return this.#indexes.some((index) => {
      const { deadCount, rowCount } = index.stats();
      return deadCount >= deadRows && deadCount > deadShare * rowCount;
    });
  }

  /** Builds the next generation of every index that holds dead rows, and of those that were added. */
  async rebuild(source: IndexSource): Promise<void> {
    for (const index of this.#indexes) {
      if (index.serving === undefined || index.stats().deadCount > 0) await index.build(source);
    }
  }

  /** From the next batch on the index is kept; it answers when it is built. */
  add(kind: IndexKind): void {
    const directory = indexDirectory(this.#options.directory, kind);
    this.#arrange([
      ...this.#indexes,
      new IndexLife(kind, directory, undefined, (error) => this.#options.onError(error)),
    ]);
  }

  /**
   * From now on nothing finds the index. Resolves when its memory and its files are gone too; where these cannot be removed, that
   * is told, and the next opening of the replica removes them.
   */
  async drop(name: string, key: string): Promise<void> {
    const dropped = this.get(name, key);
    if (dropped === undefined) return;
    this.#arrange(this.#indexes.filter((index) => index !== dropped));
    const drop = async (): Promise<void> => {
      try {
        await dropped.drop();
      } catch (error) {
        const message = `the index of the ${dropped.kind.label} is dropped, but some of it is left: ${textOf(error)}`;
        this.#options.onAlarm({ kind: "drop_failed", message });
      }
    };
    this.#drops = Promise.all([this.#drops, drop()]);
    await this.#drops;
  }

  /** Ends all indexes, each as far as it goes; rejects with what went wrong first. */
  async close(): Promise<void> {
    const closings = await Promise.allSettled([...this.#indexes.map((index) => index.close()), this.#drops]);
    for (const closing of closings) if (closing.status === "rejected") throw closing.reason;
  }

  #arrange(indexes: readonly IndexLife[]): void {
    this.#indexes = indexes;
    this.#payload = indexes.filter(isPayload);
    const texts = new Map(indexes.filter(isText).map((index) => [index.kind.key, index]));
    this.#text = this.#indexed.flatMap(({ path, number, generation = 0, otherText }) => {
      const answering = texts.get(textKey(number, generation));
      const other = otherText && texts.get(textKey(number, otherText.number));
      return answering === undefined ? [] : [{ path, answering, other }];
    });
    this.#sparse = new Map(indexes.filter(isSparseIndex).map((index) => [index.kind.field.name, index]));
    const dense = new Map(indexes.filter(isDense).map((index) => [index.kind.key, index]));
    const generations = new Map<string, DenseGenerations>();
    for (const field of this.#fields) {
      const answering = dense.get(denseKey(field.number, generationOf(field)));
      if (answering === undefined) continue;
      const other = field.other && dense.get(denseKey(field.number, field.other.number));
      generations.set(field.name, { field, answering, other });
    }
    this.#dense = generations;
    this.#multi = new Map(indexes.filter(isMulti).map((index) => [index.kind.field.name, index]));
  }
}
