import { limits } from "../../base/index.js";
import { idMapKey, type IdKey, type SlotRange } from "../../model/index.js";
import { contentBytes, type PointRecord, partKind } from "../../storage/index.js";
import type { ipb } from "../../wire/index.js";
import { decodeChanges } from "../apply/change-feed.js";
import type { FormerOutcome, Outcome } from "../apply/outcome.js";
import { decodeOutcomes } from "../apply/outcome-codec.js";
import type { OpenReplica } from "../replica/open-replica.js";
import { slotsAt } from "./lineage.js";
import { encodeSchema, vectorFieldsOf } from "./schema.js";

/** How far a shard's content has been read for another one. In JSON: the next reader goes on from there. */
export interface HandoverPlace {
  /** All that records up to this one changed has been read, as it was behind it or later. */
  sequence: number;
  /** What the operations of records up to this one did has been read. */
  outcomes: number;
  /** Points up to this id have been read, in hexadecimal digits; "" for none. */
  scanned: string;
  /** All points have been read once. */
  isScanned: boolean;
}

/** What goes into one record of the other shard's log. */
export type HandoverPart = Pick<ipb.AdoptPoints, "schema" | "clear" | "points" | "gone" | "outcomes" | "isWhole">;

/** Bytes of one part, about; one point at least. */
const partBytes = limits.recordBytes - 64 * 1024;
/** What a point takes beside its content, about. */
const pointOverhead = 64;
/** Values of the store that are read at once. */
const changeParts = 64;
const outcomeRecords = 256;
/** Points whose heads are looked at at once. */
const pointsAtOnce = 512;

const nothing: HandoverPart = {
  schema: new Uint8Array(0),
  clear: false,
  points: [],
  gone: [],
  outcomes: [],
  isWhole: false,
};

/**
 * Reads all that a replica holds, for the shard that its own is merged into, while the replica goes on: what operations did, then all points in order of id,
 * and again and again those that were changed meanwhile, until nothing comes any more because the log is sealed. Points come as they are when they are
 * read, so that what is told later counts, and a reader may begin at any place that was reached before.
 */
export class Handover {
  readonly #slots: SlotRange;
  #place: HandoverPlace | undefined;
  /** Ids of points that records up to `through` changed, and that are still to be read. */
  #changed: { ids: IdKey[]; through: number } | undefined;
  #toldSchema = 0;

  /** @param place missing where nothing is known: all is read */
  constructor(slots: SlotRange, place: HandoverPlace | undefined) {
    this.#slots = slots;
    this.#place = place;
  }

  get place(): HandoverPlace | undefined {
    return this.#place;
  }

  /** What comes next; undefined where there is nothing now. The one that `isWhole` is the last. */
  async next(replica: OpenReplica): Promise<HandoverPart | undefined> {
    const part = await this.#next(replica);
    const { schema } = replica;
    if (part === undefined || (schema.version <= this.#toldSchema && !part.isWhole)) return part;
    this.#toldSchema = schema.version;
    return { ...part, schema: encodeSchema(schema) };
  }

  async #next(replica: OpenReplica): Promise<HandoverPart | undefined> {
    const { appliedSequence: applied, sealedAt } = replica;
    let place = this.#place;
    if (place === undefined || (this.#changed === undefined && replica.changes.from > place.sequence)) {
      return this.#restart(applied);
    }
    // What was read before was read of a replica that was further.
    if (applied < Math.max(place.sequence, place.outcomes, this.#changed?.through ?? 0)) return undefined;
    if (place.outcomes < applied) {
      const read = await this.#outcomes(replica, place, applied);
      this.#place = place = read.place;
      if (read.outcomes.length > 0) return { ...nothing, outcomes: read.outcomes };
    }
    if (this.#changed === undefined && place.sequence < applied) {
      const changed = await this.#readChanges(replica, place, applied);
      if (changed === undefined) return this.#restart(applied);
      if (changed.ids.length > 0) this.#changed = changed;
      else this.#place = place = { ...place, sequence: changed.through };
    }
    if (this.#changed !== undefined) return this.#readChanged(replica, place, this.#changed);
    if (!place.isScanned) {
      const part = await this.#scan(replica, place);
      if (part !== undefined) return part;
    }
    const isEnd = sealedAt !== undefined && place.sequence >= sealedAt && place.outcomes >= sealedAt;
    return isEnd ? { ...nothing, isWhole: true } : undefined;
  }

  /** What was read may be of what is no more, and nobody knows what has changed since. */
  #restart(applied: number): HandoverPart {
    const outcomes = Math.min(this.#place?.outcomes ?? 0, applied);
    this.#place = { sequence: applied, outcomes, scanned: "", isScanned: false };
    this.#changed = undefined;
    return { ...nothing, clear: true };
  }

  async #outcomes(
    { store, lineage }: OpenReplica,
    place: HandoverPlace,
    applied: number,
  ): Promise<{ outcomes: ipb.AdoptedOutcome[]; place: HandoverPlace }> {
    const records = await store.outcomes(place.outcomes, applied, outcomeRecords);
    const outcomes: ipb.AdoptedOutcome[] = [];
    let bytes = 0;
    let through = records.length < outcomeRecords ? applied : place.outcomes;
    for (const { sequence, body } of records) {
      if (bytes > 0 && bytes + body.length > partBytes) {
        through = sequence - 1;
        break;
      }
      bytes += body.length;
      through = Math.max(through, sequence);
      const own = slotsAt(lineage, sequence) ?? this.#slots;
      for (const { id, outcome } of decodeOutcomes(body).operations) {
        // What was refused is nothing that a retry could repeat.
        if (outcome.refused !== undefined || id.length !== idLength) continue;
        outcomes.push({ id: Buffer.from(id, "latin1"), effects: effectsOf(outcome, own) });
      }
    }
    return { outcomes, place: { ...place, outcomes: through } };
  }

  /** The points that were changed; undefined where that is not known, or all were. */
  async #readChanges(
    { store, changes }: OpenReplica,
    place: HandoverPlace,
    applied: number,
  ): Promise<{ ids: IdKey[]; through: number } | undefined> {
    for (let limit = changeParts; ; limit *= 2) {
      const parts = await store.changes(place.sequence + 1, applied + 1, limit);
      if (changes.from > place.sequence) return undefined;
      // The last record that was read may lack parts.
      const cut = parts.length === limit ? parts.at(-1)?.sequence : undefined;
      const whole = parts.filter(({ sequence }) => sequence !== cut);
      if (cut !== undefined && whole.length === 0) continue;
      const ids = new Map<string, IdKey>();
      for (const { body } of whole) {
        for (const { kind, id } of decodeChanges(body)) {
          if (kind === "truncate") return undefined;
          ids.set(idMapKey(id), id);
        }
      }
      const through = cut === undefined ? applied : (whole.at(-1)?.sequence ?? place.sequence);
      return { ids: [...ids.values()], through };
    }
  }

  /** Some of the points that were changed, as they are now. */
  async #readChanged(
    replica: OpenReplica,
    place: HandoverPlace,
    changed: { ids: IdKey[]; through: number },
  ): Promise<HandoverPart> {
    const ids = changed.ids.slice(0, pointsAtOnce);
    const heads = await replica.store.heads(ids);
    const parts = { payload: true, fields: vectorFieldsOf(replica.schema) };
    const bytesOf = (row: number): number => {
      const head = heads[row];
      return pointOverhead + (ids[row] as IdKey).length + (head === undefined ? 0 : contentBytes(head, parts));
    };
    let count = 0;
    for (let bytes = 0; count < ids.length; count++) {
      bytes += bytesOf(count);
      if (count > 0 && bytes > partBytes) break;
    }
    const taken = ids.slice(0, count);
    const records = await replica.store.read(taken, parts);
    const present = records.filter((record) => record !== undefined);
    // They may have grown since their heads were looked at.
    const points = within(present, parts);
    const isCut = points.length < present.length;
    const gone = isCut ? [] : taken.filter((_, row) => records[row] === undefined);
    const told = new Set([...points.map(({ id }) => idMapKey(id)), ...gone.map(idMapKey)]);
    const left = changed.ids.filter((id) => !told.has(idMapKey(id)));
    if (left.length > 0) this.#changed = { ids: left, through: changed.through };
    else {
      this.#changed = undefined;
      this.#place = { ...place, sequence: changed.through };
    }
    return { ...nothing, points: points.map((record) => adoptedPoint(record, replica)), gone };
  }

  /** Points that come next; undefined where no more are there. */
  async #scan(replica: OpenReplica, place: HandoverPlace): Promise<HandoverPart | undefined> {
    const parts = { payload: true, fields: vectorFieldsOf(replica.schema) };
    const after = place.scanned === "" ? undefined : Buffer.from(place.scanned, "hex");
    const { points, end } = await replica.store.scroll(after, pointsAtOnce, parts);
    const taken = within(points, parts);
    const last = taken.at(-1);
    const scanned = last === undefined ? place.scanned : Buffer.from(last.id).toString("hex");
    this.#place = { ...place, scanned, isScanned: end && taken.length === points.length };
    if (taken.length === 0) return undefined;
    return { ...nothing, points: taken.map((record) => adoptedPoint(record, replica)) };
  }
}

/** Bytes of the id of an operation; what is remembered under another one is about a single record. */
const idLength = 16;

/** As many of them as a part may hold. */
function within(points: readonly PointRecord[], parts: Parameters<typeof contentBytes>[1]): PointRecord[] {
  let bytes = 0;
  const end = points.findIndex(({ id, head }, row) => {
    bytes += pointOverhead + id.length + contentBytes(head, parts);
    return row > 0 && bytes > partBytes;
  });
  return end === -1 ? [...points] : points.slice(0, end);
}

function effectsOf({ affected, failures, former = [], isOpen }: Outcome, own: SlotRange): ipb.AdoptedEffect[] {
  const effects: FormerOutcome[] = [...former, ...(isOpen === true ? [] : [{ slots: own, affected, failures }])];
  return effects.map(({ slots, ...each }) => {
    return { ...slots, affected: each.affected, failures: [...each.failures] };
  });
}

function adoptedPoint({ id, head, payload, vectors }: PointRecord, { schema }: OpenReplica): ipb.AdoptedPoint {
  const { version } = head;
  const versionOf = (its: number | undefined): number => (its === undefined || its === version ? 0 : its);
  return {
    id,
    version,
    expiresAtMs: head.expiresAtMs ?? 0,
    payload,
    payloadVersion: versionOf(head.versionOf(partKind.payload, 0)),
    vectors: vectors.flatMap((vector, i) => {
      const field = vectorFieldsOf(schema)[i];
      if (vector === undefined || field === undefined) return [];
      const bytes = new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength);
      return [{ field: field.number, version: versionOf(head.versionOf(field.kind, field.number)), vector: bytes }];
    }),
  };
}
