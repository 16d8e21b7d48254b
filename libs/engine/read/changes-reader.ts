import { abortReason, KithError, limits, sleep } from "../../base/index.js";
import type { CallContext } from "../../call/index.js";
import { StoredFilterPoint } from "../../filter/index.js";
import type { Filter, Select, StoredPoint, VectorField } from "../../model/index.js";
import { fieldSimilarity } from "../../query/index.js";
import type { ChangeNear, ChangePlace, ShardChange, ShardChanges, ShardChangesOf } from "../../shard-api/index.js";
import type { PointRecord } from "../../storage/index.js";
import { bytesToFloats } from "../../wire/index.js";
import { decodeChanges, partChanges, type PointImage, type SeenChange, type SeenRecord } from "../apply/change-feed.js";
import { type NamedField, vectorFieldsOf } from "../recover/schema.js";
import type { OpenReplica } from "../replica/open-replica.js";
import { asksForVectors } from "./conditions.js";
import { checkLength, type Hydrator, putVector } from "./hydrator.js";

/** Changes that are looked at for one answer: of those, few may pass. */
const lookedMax = 4_096;
/** Bytes of one answer. */
const answerBytes = 4 * 1024 * 1024;
/** Parts of records that are read from the store at once, of 4,096 changes at most each. */
const storedParts = 64;
/** Changes whose points are read from the store at once. */
const storedChanges = 512;

/** A record that was looked at from some change on; what is known of these. */
interface LookedRecord {
  sequence: number;
  /** Of the first of `changes` within the record. */
  offset: number;
  changes: readonly SeenChange[];
  /** Whether these are the last ones of the record. */
  isEnd: boolean;
}

/** How long who asks for changes waits where none will come. */
const sealedWaitMs = 50;

/** Tells those who watch what has changed: from memory while they keep up, else from what the store has kept of it. */
export class ChangesReader {
  readonly #replica: OpenReplica;
  readonly #hydrator: Hydrator;

  constructor(replica: OpenReplica, hydrator: Hydrator) {
    this.#replica = replica;
    this.#hydrator = hydrator;
  }

  async read(request: ShardChangesOf, call: CallContext): Promise<ShardChanges> {
    const { after, limit, select, filter, near, before, waitMs } = request;
    if (!Number.isInteger(limit) || limit < 1 || limit > limits.scrollLimit) {
      throw new KithError(
        "LIMIT_OUT_OF_RANGE",
        `limit is ${limit}; it must be a whole number in 1..${limits.scrollLimit}`,
      );
    }
    const { changes, appliedSequence } = this.#replica;
    // A deletion passes by what was there.
    const needsVectors = near !== undefined || (filter !== undefined && asksForVectors(filter));
    const wants = { before: before || filter !== undefined, vectors: select.vectors.length > 0 || needsVectors };
    changes.watch(wants, appliedSequence);
    const place = after ?? { sequence: appliedSequence, offset: 0 };
    this.#checkKept(place);
    if (place.sequence >= appliedSequence && waitMs > 0) {
      // Nothing more comes here: those who ask shall soon find the shards that go on.
      await this.#wait(this.#replica.sealedAt === undefined ? waitMs : Math.min(waitMs, sealedWaitMs), call);
    }
    if (after === undefined) return { changes: [], place, sequence: this.#replica.appliedSequence };
    const looked = await this.#looked(place);
    const passing = new Passing(this.#replica, this.#hydrator, { filter, near, before, select });
    const answer: ShardChange[] = [];
    let [count, bytes] = [0, 0];
    let last = place;
    for (const { sequence, offset, changes: all, isEnd } of looked) {
      for (const [i, change] of all.entries()) {
        if (count >= lookedMax || answer.length >= limit || bytes >= answerBytes) {
          return { changes: answer, place: last, sequence: this.#replica.appliedSequence };
        }
        count++;
        const passed = passing.of(change, sequence);
        if (passed !== undefined) {
          answer.push(passed);
          bytes += bytesOf(passed);
        }
        last = { sequence: sequence - 1, offset: offset + i + 1 };
      }
      if (isEnd && sequence > last.sequence) last = { sequence, offset: 0 };
    }
    return { changes: answer, place: last, sequence: this.#replica.appliedSequence };
  }

  #checkKept({ sequence }: ChangePlace): void {
    const { from } = this.#replica.changes;
    if (sequence >= from) return;
    throw new KithError(
      "TOKEN_EXPIRED",
      `the changes behind sequence ${sequence} are not kept any more: those behind ${from} are; read the points anew, and watch from then on`,
      { details: { sequence, keptFrom: from } },
    );
  }

  async #wait(waitMs: number, call: CallContext): Promise<void> {
    const { changes, context, stopped } = this.#replica;
    const over = new AbortController();
    const signals = [over.signal, stopped, ...(call.signal ? [call.signal] : [])];
    const pause = sleep(context.clock, waitMs, AbortSignal.any(signals));
    const ended = pause.catch(() => undefined);
    await Promise.race([changes.next(), ended]);
    over.abort();
    await ended;
    if (stopped.aborted) {
      throw new KithError("SHARD_UNAVAILABLE", "the replica has stopped", { retryAfterMs: 100 });
    }
    if (call.signal?.aborted === true) throw abortReason(call.signal);
  }

  /** The records behind a place, as far as they are looked at; up to what is applied. */
  async #looked(place: ChangePlace): Promise<LookedRecord[]> {
    const { changes, appliedSequence } = this.#replica;
    const recent = changes.recent(place.sequence);
    if (recent !== undefined) {
      const records = recent.map((record, i) =>
        cut(record, i === 0 && record.sequence === place.sequence + 1 ? place.offset : 0),
      );
      return withEnd(records, appliedSequence);
    }
    // Up to where the memory begins, which knows more.
    const to = Math.min(changes.recentFrom ?? appliedSequence, appliedSequence);
    return this.#stored(place, Math.max(to, place.sequence + 1));
  }

  /** From the store: which points, and what these are now. */
  async #stored(place: ChangePlace, to: number): Promise<LookedRecord[]> {
    const { store, changes, schema } = this.#replica;
    // A record may have more parts than are read at once: those that were told are passed over.
    const toldParts = Math.floor(place.offset / partChanges);
    const parts = await store.changes(place.sequence + 1, to + 1, storedParts, toldParts);
    // Trimmed meanwhile: what was read may lack some.
    if (changes.from > place.sequence) this.#checkKept(place);
    const bySequence = new Map<number, SeenChange[]>();
    // The last record that was read may lack parts.
    let cutSequence = parts.length === storedParts ? parts.at(-1)?.sequence : undefined;
    let decoded = 0;
    for (const { sequence, body } of parts) {
      if (decoded >= storedChanges + partChanges) {
        cutSequence = [...bySequence.keys()].at(-1);
        break;
      }
      const list = bySequence.get(sequence) ?? [];
      const part = decodeChanges(body);
      for (const change of part) list.push({ ...change, before: undefined, after: undefined });
      bySequence.set(sequence, list);
      decoded += part.length;
    }
    const records: LookedRecord[] = [];
    let count = 0;
    for (const [sequence, all] of bySequence) {
      const isBegun = sequence === place.sequence + 1;
      const offset = isBegun ? place.offset : 0;
      const from = isBegun ? offset - toldParts * partChanges : 0;
      const taken = all.slice(from, from + storedChanges - count);
      count += taken.length;
      const live = taken.filter(({ kind }) => kind === "insert" || kind === "update");
      const read = await store.read(
        live.map(({ id }) => id),
        { payload: true, fields: vectorFieldsOf(schema) },
      );
      const now = new Map(live.map((change, i) => [change, read[i]]));
      const isEnd = from + taken.length === all.length && sequence !== cutSequence;
      const known = taken.map((change): SeenChange => ({ ...change, after: this.#image(now.get(change), sequence) }));
      records.push({ sequence, offset, changes: known, isEnd });
      if (count >= storedChanges || !isEnd) return records;
    }
    return withEnd(records, to);
  }

  /** Undefined where the point has been changed again. */
  #image(record: PointRecord | undefined, sequence: number): PointImage | undefined {
    if (record?.head.version !== sequence) return undefined;
    const vectors = new Map<number, Uint8Array>();
    const fields = vectorFieldsOf(this.#replica.schema);
    for (const [i, vector] of record.vectors.entries()) {
      const number = fields[i]?.number;
      if (vector !== undefined && number !== undefined) vectors.set(number, vector);
    }
    return { version: sequence, payload: record.payload, vectors };
  }
}

function cut({ sequence, changes }: SeenRecord, offset: number): LookedRecord {
  return { sequence, offset, changes: changes.slice(offset), isEnd: true };
}

/** Records that changed nothing are behind, too. */
function withEnd(records: LookedRecord[], sequence: number): LookedRecord[] {
  if ((records.at(-1)?.sequence ?? 0) < sequence) records.push({ sequence, offset: 0, changes: [], isEnd: true });
  return records;
}

/** What of the changes a watcher gets. */
class Passing {
  readonly #replica: OpenReplica;
  readonly #test: ((point: StoredFilterPoint) => boolean) | undefined;
  readonly #near: (ChangeNear & { number: number; of: VectorField }) | undefined;
  readonly #isBeforeWanted: boolean;
  readonly #fields: readonly NamedField[];
  readonly #withPayload: boolean;

  constructor(
    replica: OpenReplica,
    hydrator: Hydrator,
    wanted: { filter: Filter | undefined; near: ChangeNear | undefined; before: boolean; select: Select },
  ) {
    const { filter, near, before, select } = wanted;
    const { fields } = replica.schema;
    this.#replica = replica;
    this.#test = filter && replica.masks.testOf(filter);
    this.#isBeforeWanted = before;
    this.#withPayload = select.payload;
    this.#fields = hydrator.parts(select).fields;
    if (near !== undefined) {
      const { field } = hydrator.index(near.field).kind;
      const number = fields.find(({ name }) => name === near.field)?.number ?? 0;
      checkLength(field, near.vector, "the vector");
      this.#near = { ...near, number, of: field };
    }
  }

  of({ kind, id, before, after }: SeenChange, sequence: number): ShardChange | undefined {
    const change: ShardChange = { kind, id, sequence };
    if (kind === "truncate") return this.#near === undefined ? change : undefined;
    if (this.#near !== undefined) {
      const score = this.#scoreOf(after);
      if (score === undefined) return undefined;
      change.score = score;
    }
    if (this.#test !== undefined) {
      // What is not known passes: better once too often than not at all. What was changed again comes once more.
      const isUnknown = kind === "delete" && before === undefined;
      const passes = [before, after].some((image) => image !== undefined && this.#passes(id, image));
      if (!isUnknown && !passes) return undefined;
    }
    if (before !== undefined && this.#isBeforeWanted) change.before = this.#point(id, before);
    if (after !== undefined) change.after = this.#point(id, after);
    return change;
  }

  #passes(id: Uint8Array, { payload, vectors }: PointImage): boolean {
    const fields = vectorFieldsOf(this.#replica.schema);
    const has = (name: string): boolean => fields.some((field) => field.name === name && vectors.has(field.number));
    return this.#test?.(new StoredFilterPoint(id, payload, { has })) === true;
  }

  /** As queries tell it; undefined where the vector is too far away, or there is none. */
  #scoreOf(after: PointImage | undefined): number | undefined {
    const near = this.#near;
    const bytes = near && after?.vectors.get(near.number);
    if (near === undefined || bytes === undefined) return undefined;
    const { metric } = near.of;
    const value = fieldSimilarity(near.of, near.vector, bytesToFloats(bytes));
    if (metric === "l2") {
      const distance = Math.sqrt(Math.max(0, -value));
      return distance <= near.threshold ? distance : undefined;
    }
    return value >= near.threshold ? value : undefined;
  }

  #point(id: Uint8Array, { version, payload, vectors }: PointImage): StoredPoint {
    const point: StoredPoint = { id, version, payload: this.#withPayload ? payload : noBytes };
    if (this.#fields.length === 0) return point;
    point.vectors = new Map<string, Float32Array>();
    for (const field of this.#fields) {
      const bytes = vectors.get(field.number);
      if (bytes !== undefined) putVector(point, field, bytes);
    }
    return point;
  }
}

const noBytes = new Uint8Array(0);

function bytesOf({ before, after }: ShardChange): number {
  let bytes = 64;
  for (const point of [before, after]) {
    if (point === undefined) continue;
    bytes += point.payload.length;
    for (const vector of point.vectors?.values() ?? []) bytes += vector.byteLength;
    for (const { indices } of point.sparse?.values() ?? []) bytes += 2 * indices.byteLength;
  }
  return bytes;
}
