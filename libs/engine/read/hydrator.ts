import { type Cancellation, KithError } from "../../base/index.js";
import type { CallContext } from "../../call/index.js";
import {
  type Hit,
  type IdKey,
  type Metric,
  type Select,
  sparseFromBytes,
  type StoredPoint,
  type VectorField,
} from "../../model/index.js";
import { scoreOf } from "../../query/index.js";
import { contentBytes, type PointParts, type PointRecord } from "../../storage/index.js";
import { counterOf, startSpan } from "../../telemetry/index.js";
import { bytesToFloats } from "../../wire/index.js";
import type { VectorLife } from "../index/index-set.js";
import type { SparseIndex } from "../index/sparse-kind.js";
import { type NamedField, vectorFieldsOf } from "../recover/schema.js";
import type { OpenReplica } from "../replica/open-replica.js";
import type { ReadNotes } from "./explain.js";

const emptyBytes = new Uint8Array(0);
const lookups = counterOf("kith.cache.lookups");
const hit = { "kith.cache": "payloads", "kith.cache.hit": true };
const miss = { "kith.cache": "payloads", "kith.cache.hit": false };

/** Rows as an index finds them, nearest first. */
export interface FoundRows {
  readonly slots: Uint32Array;
  readonly distances: ArrayLike<number>;
}

/** Found points, still by slot. */
export interface Found {
  hits: Hit[];
  slots: number[];
}

/** Makes points of the rows that an index has found, with what is asked of them. */
export class Hydrator {
  readonly #replica: OpenReplica;

  constructor(replica: OpenReplica) {
    this.#replica = replica;
  }

  /**
   * Slots become points. The index has found the rows that were alive when the search began. A slot that died since is
   * still right as of `sequence`, as long as nothing else is asked of the point, and nothing in the answer is younger:
   * a search that begins while a batch becomes visible may find the rows of before beside those of after, even of one
   * point. A point that was updated in its slot is found where it was, with its new version: right, unless it was chosen by what
   * was updated (`isChosen`). Undefined where the query must be run again.
   */
  collect(
    metric: Metric,
    result: FoundRows,
    sequence: number,
    slotEpoch: number,
    isStored: boolean,
    isChosen = false,
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
      if ((hasDead && (released || isStored || hasYounger)) || (hasYounger && (released || isChosen))) return undefined;
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
  async hydrate(found: Found, select: Select, call: CallContext, notes?: ReadNotes): Promise<boolean> {
    const span = startSpan(call.trace, "hydrate");
    let readCount: number | undefined;
    try {
      const signal = cancellationOf(call);
      readCount =
        select.vectors.length > 0
          ? await this.#readPoints(found, select, signal, notes)
          : await this.#readPayloads(found, signal, notes);
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
  async #readPayloads(
    found: Found,
    signal: Cancellation | undefined,
    notes: ReadNotes | undefined,
  ): Promise<number | undefined> {
    const { slots, payloads, store } = this.#replica;
    const wanted: number[] = [];
    let cachedCount = 0;
    for (let i = 0; i < found.hits.length; i++) {
      const slot = found.slots[i] as number;
      if (!slots.hasPayload(slot)) continue;
      const cached = payloads.get(slot);
      if (cached === undefined) {
        wanted.push(i);
        continue;
      }
      cachedCount++;
      (found.hits[i] as Hit).payload = cached;
    }
    if (cachedCount > 0) lookups.add(cachedCount, hit);
    if (wanted.length === 0) return 0;
    lookups.add(wanted.length, miss);
    const isStill = this.#stillness();
    const ids = wanted.map((i) => (found.hits[i] as Hit).id);
    const read = await store.payloads(ids, signal);
    notes?.read(
      ids.length,
      read.reduce((sum, payload) => sum + (payload?.value.length ?? 0), 0),
    );
    for (let n = 0; n < wanted.length; n++) {
      const i = wanted[n] as number;
      const hit = found.hits[i] as Hit;
      const slot = found.slots[i] as number;
      const payload = read[n];
      // It may be older than the point's version, if something else was written last; never younger.
      if (payload === undefined || payload.version > hit.version) {
        if (isStill()) throw lostValue(hit.id, "payload");
        return undefined;
      }
      hit.payload = payload.value;
      if (slots.isAlive(slot) && slots.versionOf(slot) === hit.version) payloads.set(slot, payload.value);
    }
    return wanted.length;
  }

  /** Whole points, where vectors are asked for; gives their number, undefined where one was overwritten meanwhile. */
  async #readPoints(
    found: Found,
    select: Select,
    signal: Cancellation | undefined,
    notes: ReadNotes | undefined,
  ): Promise<number | undefined> {
    const { parts, fields } = this.parts(select);
    const isStill = this.#stillness();
    const ids = found.hits.map(({ id }) => id);
    const read = await this.#replica.store.read(ids, parts, signal);
    notes?.read(ids.length, bytesOf(read, parts));
    for (let i = 0; i < ids.length; i++) {
      const hit = found.hits[i] as Hit;
      const point = read[i];
      if (point?.head.version !== hit.version) {
        if (isStill()) throw lostValue(hit.id, "head");
        return undefined;
      }
      const stored = storedPoint(point, fields);
      hit.payload = stored.payload;
      if (stored.vectors) hit.vectors = stored.vectors;
      if (stored.sparse) hit.sparse = stored.sparse;
    }
    return ids.length;
  }

  /** Tells whether no batch was written since: then the store and the memory must agree. */
  #stillness(): () => boolean {
    const before = this.#replica.writeEpoch;
    return () => before % 2 === 0 && before === this.#replica.writeEpoch;
  }

  parts(select: Select): { parts: PointParts; fields: readonly NamedField[] } {
    const all = vectorFieldsOf(this.#replica.schema);
    const fields = select.vectors === "all" ? all : select.vectors.map((name) => this.#field(name));
    return { parts: { payload: select.payload, fields }, fields };
  }

  #field(name: string): NamedField {
    for (const field of vectorFieldsOf(this.#replica.schema)) if (field.name === name) return field;
    throw this.unknown(name);
  }

  sparseIndex(name: string): SparseIndex {
    const index = this.#replica.indexes.sparse(name);
    if (index === undefined) throw this.unknown(name);
    return index;
  }

  index(name: string): VectorLife {
    const index = this.#replica.indexes.vectors(name);
    if (index === undefined) throw this.unknown(name);
    return index;
  }

  notBuilt(label: string): KithError {
    return new KithError("SHARD_UNAVAILABLE", `the index of the ${label} is still being built; try again later`, {
      retryAfterMs: 1_000,
    });
  }

  unknown(name: string): KithError {
    const known = vectorFieldsOf(this.#replica.schema)
      .map((field) => `"${field.name}"`)
      .join(", ");
    return new KithError("UNKNOWN_VECTOR", `the collection has no vector field "${name}"; it has ${known}`, {
      // By which routers tell that there is no such field from that this replica has not heard of it yet.
      details: { field: name, schemaVersion: this.#replica.schema.version },
    });
  }
}

/** DIMENSION_MISMATCH where a vector cannot be compared with those of the field; `what`: what it is. */
export function checkLength(field: VectorField, vector: Float32Array, what: string): void {
  const { name, dimension, multivector } = field;
  const rows = vector.length / dimension;
  if (multivector === undefined ? rows === 1 : Number.isInteger(rows) && rows >= 1) return;
  throw new KithError(
    "DIMENSION_MISMATCH",
    `${what} has ${vector.length} dimensions; the field "${name}" has ${dimension}`,
    { details: { field: name, expected: dimension, got: vector.length } },
  );
}

/** What was read of points, without their heads. */
export function bytesOf(points: readonly (PointRecord | undefined)[], parts: PointParts): number {
  return points.reduce((sum, point) => sum + (point === undefined ? 0 : contentBytes(point.head, parts)), 0);
}

export function cancellationOf(call: CallContext): Cancellation | undefined {
  return call.cancellation ?? call.signal;
}

/** `fields`: those that were read of the point, in this order. */
export function storedPoint(point: PointRecord, fields: readonly NamedField[]): StoredPoint {
  const stored: StoredPoint = { id: point.id, version: point.head.version, payload: point.payload };
  if (fields.length > 0) {
    stored.vectors = new Map<string, Float32Array>();
    for (const [i, bytes] of point.vectors.entries()) {
      if (bytes !== undefined) putVector(stored, fields[i] as NamedField, bytes);
    }
  }
  const { expiresAtMs } = point.head;
  if (expiresAtMs !== undefined) stored.expiresAtMs = expiresAtMs;
  return stored;
}

/** Adds a vector as it is stored to a point. */
export function putVector(point: StoredPoint, { name, isSparse }: NamedField, bytes: Uint8Array): void {
  if (isSparse === true) (point.sparse ??= new Map()).set(name, sparseFromBytes(bytes));
  else (point.vectors ??= new Map()).set(name, bytesToFloats(bytes));
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
