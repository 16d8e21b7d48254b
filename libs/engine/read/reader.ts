import type { SearchResult } from "../../ann/index.js";
import { assert, type Cancellation, KithError, limits } from "../../base/index.js";
import type {
  Hit,
  IdKey,
  Metric,
  Select,
  ShardCount,
  ShardPage,
  ShardPoints,
  ShardQuery,
  ShardQueryResult,
  StoredPoint,
} from "../../model/index.js";
import { scoreOf } from "../../query/index.js";
import type { ReadHandlers, ShardGet, ShardScroll } from "../../shard-api/index.js";
import type { PointParts, PointRecord, StoredField } from "../../storage/index.js";
import type { CallContext } from "../../call/index.js";
import { histogramOf, startSpan } from "../../telemetry/index.js";
import type { DenseIndex } from "../index/dense-index.js";
import type { SchemaField } from "../recover/schema.js";
import type { OpenReplica } from "../replica/open-replica.js";

const searchDuration = histogramOf("kith.index.search.duration");

const emptyBytes = new Uint8Array(0);
/** A query whose hits were overwritten while it ran is run again; the last time while the applier stands still. */
const attemptsMax = 3;

/** Found points, still by slot. */
interface Found {
  hits: Hit[];
  slots: number[];
}

/** Answers reads from one open replica, which has applied what they ask for: a method for each kind. */
export class Reader implements ReadHandlers {
  readonly #replica: OpenReplica;

  constructor(replica: OpenReplica) {
    this.#replica = replica;
  }

  async query(query: ShardQuery, call: CallContext): Promise<ShardQueryResult> {
    const index = this.#index(query.field);
    const { dimension } = index.kind.field;
    const { k } = query;
    if (!Number.isInteger(k) || k < 1 || k > limits.shardResults) {
      throw new KithError("LIMIT_OUT_OF_RANGE", `k is ${k}; it must be a whole number in 1..${limits.shardResults}`, {
        details: { field: "k", value: k },
      });
    }
    if (query.vector.length !== dimension) {
      throw new KithError(
        "DIMENSION_MISMATCH",
        `the query has ${query.vector.length} dimensions; the field "${query.field}" has ${dimension}`,
        { details: { field: query.field, expected: dimension, got: query.vector.length } },
      );
    }
    for (let attempt = 1; attempt < attemptsMax; attempt++) {
      const result = await this.#attempt(index, query, call);
      if (result !== undefined) return result;
      await this.#replica.writing;
    }
    return this.#lastAttempt(index, query, call);
  }

  /** A method of its own: a closure in `query` would cost every query an allocation. */
  async #lastAttempt(index: DenseIndex, query: ShardQuery, call: CallContext): Promise<ShardQueryResult> {
    const attempt = (): Promise<ShardQueryResult | undefined> => this.#attempt(index, query, call);
    const result = await this.#replica.fairLock.read(attempt, cancellationOf(call));
    assert(result !== undefined, `the index of "${query.field}" found rows that were dead before the search began`);
    return result;
  }

  /** Those that exist, in the order asked. */
  async get({ ids, select }: ShardGet, call: CallContext): Promise<ShardPoints> {
    const { parts, names } = this.#parts(select);
    const points = await this.#replica.store.read(ids, parts, cancellationOf(call));
    return {
      points: points.flatMap((point) => (point === undefined ? [] : [storedPoint(point, names)])),
      sequence: this.#replica.writtenSequence,
    };
  }

  async scroll({ after, limit, select }: ShardScroll, call: CallContext): Promise<ShardPage> {
    if (!Number.isInteger(limit) || limit < 1 || limit > limits.scrollLimit) {
      throw new KithError(
        "LIMIT_OUT_OF_RANGE",
        `limit is ${limit}; it must be a whole number in 1..${limits.scrollLimit}`,
        {
          details: { field: "limit", value: limit },
        },
      );
    }
    const { parts, names } = this.#parts(select);
    const { points, end } = await this.#replica.store.scroll(after, limit, parts, cancellationOf(call));
    return {
      points: points.map((point) => storedPoint(point, names)),
      end,
      sequence: this.#replica.writtenSequence,
    };
  }

  count(): Promise<ShardCount> {
    const { pointCount, appliedSequence } = this.#replica;
    return Promise.resolve({ count: pointCount, sequence: appliedSequence });
  }

  /** Undefined where points were overwritten meanwhile, so that the query must be run again. */
  async #attempt(index: DenseIndex, query: ShardQuery, call: CallContext): Promise<ShardQueryResult | undefined> {
    const { appliedSequence: sequence, slotEpoch } = this.#replica;
    const { kind, serving } = index;
    if (serving === undefined) throw notBuilt(kind.label);
    const span = startSpan(call.trace, "index.search");
    let result: SearchResult;
    try {
      const ef = query.ef > 0 ? query.ef : kind.field.efSearch;
      const signal = cancellationOf(call);
      result = await serving.search(query.vector, {
        k: query.k,
        ef,
        exact: query.exact,
        ...(signal && { signal }),
      });
      searchDuration.record((result.queueUs + result.searchUs) / 1e6);
      span.set("plan", result.plan);
      span.set("ef", ef);
      span.set("computed", result.computed);
      span.set("queue_us", result.queueUs);
      span.set("search_us", result.searchUs);
    } catch (error) {
      span.end(error);
      throw error;
    }
    span.end();
    const { select } = query;
    const isStored = select.payload || select.vectors.length > 0;
    const found = this.#collect(kind.field.metric, result, sequence, slotEpoch, isStored);
    if (found === undefined) return undefined;
    if (isStored && found.hits.length > 0 && !(await this.#hydrate(found, select, call))) return undefined;
    // Not the sequence of before: deletions since then may have been seen, and younger hits.
    return { hits: found.hits, plan: result.plan, sequence: this.#replica.appliedSequence };
  }

  /**
   * Slots become points. The index has found the rows that were alive when the search began. A slot that died since is
   * still right as of `sequence`, as long as nothing else is asked of the point, and nothing in the answer is younger:
   * a search that begins while a batch becomes visible may find the rows of before beside those of after, even of one
   * point. Undefined where the query must be run again.
   */
  #collect(
    metric: Metric,
    result: SearchResult,
    sequence: number,
    slotEpoch: number,
    isStored: boolean,
  ): Found | undefined {
    const { slots } = this.#replica;
    // From then on a slot may belong to another point than the one that was found.
    const released = slotEpoch !== this.#replica.slotEpoch;
    const count = result.slots.length;
    const found: Found = { hits: [], slots: [] };
    let hasDead = false;
    let hasYounger = false;
    for (let i = 0; i < count; i++) {
      const slot = result.slots[i] as number;
      const version = slots.versionOf(slot);
      if (!slots.isAlive(slot)) hasDead = true;
      if (version > sequence) hasYounger = true;
      if ((hasDead && (released || isStored || hasYounger)) || (hasYounger && released)) return undefined;
      found.slots.push(slot);
      found.hits.push({
        id: slots.idOf(slot),
        score: scoreOf(metric, result.distances[i] as number),
        version,
        payload: emptyBytes,
      });
    }
    this.#orderTies(found);
    return found;
  }

  /** The index orders ties by slot, which differs between replicas; results order them by id. */
  #orderTies(found: Found): void {
    const { hits, slots } = found;
    for (let start = 0; start + 1 < hits.length; start++) {
      let end = start + 1;
      while (end < hits.length && (hits[end] as Hit).score === (hits[start] as Hit).score) end++;
      if (end - start < 2) continue;
      const order = Array.from({ length: end - start }, (_, i) => ({
        hit: hits[start + i] as Hit,
        slot: slots[start + i] as number,
      }));
      order.sort((a, b) => Buffer.compare(a.hit.id, b.hit.id));
      for (const [i, { hit, slot }] of order.entries()) {
        hits[start + i] = hit;
        slots[start + i] = slot;
      }
      start = end - 1;
    }
  }

  /** Reads what the store knows of the hits. False where one was overwritten meanwhile. */
  async #hydrate(found: Found, select: Select, call: CallContext): Promise<boolean> {
    const span = startSpan(call.trace, "hydrate");
    let readCount: number | undefined;
    try {
      const signal = cancellationOf(call);
      readCount =
        select.vectors.length > 0
          ? await this.#readPoints(found, select, signal)
          : await this.#readPayloads(found, signal);
      span.set("points", found.hits.length);
      if (readCount !== undefined) span.set("read", readCount);
    } catch (error) {
      span.end(error);
      throw error;
    }
    span.end();
    return readCount !== undefined;
  }

  /** Payloads from the cache, the others in one read; gives their number, undefined where one was overwritten meanwhile. */
  async #readPayloads(found: Found, signal: Cancellation | undefined): Promise<number | undefined> {
    const { slots, payloads, store } = this.#replica;
    const wanted: number[] = [];
    for (let i = 0; i < found.hits.length; i++) {
      const slot = found.slots[i] as number;
      if (!slots.hasPayload(slot)) continue;
      const cached = payloads.get(slot);
      if (cached === undefined) wanted.push(i);
      else (found.hits[i] as Hit).payload = cached;
    }
    if (wanted.length === 0) return 0;
    const isStill = this.#stillness();
    const ids = wanted.map((i) => (found.hits[i] as Hit).id);
    const read = await store.payloads(ids, signal);
    for (let n = 0; n < wanted.length; n++) {
      const i = wanted[n] as number;
      const hit = found.hits[i] as Hit;
      const slot = found.slots[i] as number;
      const payload = read[n];
      if (payload?.version !== hit.version) {
        if (isStill()) throw lostValue(hit.id, "payload");
        return undefined;
      }
      hit.payload = payload.value;
      if (slots.isAlive(slot) && slots.versionOf(slot) === hit.version) payloads.set(slot, payload.value);
    }
    return wanted.length;
  }

  /** Whole points, where vectors are asked for; gives their number, undefined where one was overwritten meanwhile. */
  async #readPoints(found: Found, select: Select, signal: Cancellation | undefined): Promise<number | undefined> {
    const { parts, names } = this.#parts(select);
    const isStill = this.#stillness();
    const ids = found.hits.map(({ id }) => id);
    const read = await this.#replica.store.read(ids, parts, signal);
    for (let i = 0; i < ids.length; i++) {
      const hit = found.hits[i] as Hit;
      const point = read[i];
      if (point?.head.version !== hit.version) {
        if (isStill()) throw lostValue(hit.id, "head");
        return undefined;
      }
      const stored = storedPoint(point, names);
      hit.payload = stored.payload;
      if (stored.vectors) hit.vectors = stored.vectors;
    }
    return ids.length;
  }

  /** Tells whether no batch was written since: then the store and the memory must agree. */
  #stillness(): () => boolean {
    const before = this.#replica.writeEpoch;
    return () => before % 2 === 0 && before === this.#replica.writeEpoch;
  }

  #parts(select: Select): { parts: PointParts; names: string[] } {
    const { fields } = this.#replica.schema;
    const wanted = select.vectors === "all" ? fields : select.vectors.map((name) => this.#field(name));
    const names: string[] = [];
    const stored: StoredField[] = [];
    for (const { number, name, dimension } of wanted) {
      names.push(name);
      stored.push({ number, dimension });
    }
    return { parts: { payload: select.payload, fields: stored }, names };
  }

  #field(name: string): SchemaField {
    for (const field of this.#replica.schema.fields) if (field.name === name) return field;
    throw this.#unknown(name);
  }

  #index(name: string): DenseIndex {
    const index = this.#replica.indexes.dense(name);
    if (index === undefined) throw this.#unknown(name);
    return index;
  }

  #unknown(name: string): KithError {
    const known = this.#replica.schema.fields.map((field) => `"${field.name}"`).join(", ");
    return new KithError("UNKNOWN_VECTOR", `the collection has no vector field "${name}"; it has ${known}`, {
      details: { field: name },
    });
  }
}

function notBuilt(label: string): KithError {
  return new KithError("SHARD_UNAVAILABLE", `the index of the ${label} is still being built; try again later`, {
    retryAfterMs: 1_000,
  });
}

function cancellationOf(call: CallContext): Cancellation | undefined {
  return call.cancellation ?? call.signal;
}

function storedPoint(point: PointRecord, names: readonly string[]): StoredPoint {
  const stored: StoredPoint = { id: point.id, version: point.head.version, payload: point.payload };
  if (names.length > 0) {
    const vectors = new Map<string, Float32Array>();
    for (const [i, vector] of point.vectors.entries()) if (vector) vectors.set(names[i] as string, vector);
    stored.vectors = vectors;
  }
  return stored;
}

function lostValue(id: IdKey, what: string): KithError {
  const hex = Buffer.from(id.buffer, id.byteOffset, id.byteLength).toString("hex");
  return new KithError(
    "CORRUPT_DATA",
    `the ${what} of the point with the id key ${hex} is missing or of another version`,
    {
      details: { id: hex },
    },
  );
}
