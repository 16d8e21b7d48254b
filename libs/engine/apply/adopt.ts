import { assert } from "../../base/index.js";
import { partSeed } from "../../hash/index.js";
import { idMapKey, type IdKey, type SlotRange } from "../../model/index.js";
import { hashSlotOf } from "../../sharding/index.js";
import { partKind } from "../../storage/index.js";
import type { ipb } from "../../wire/index.js";
import { type AdoptedShard, type Adoption, decodeSchema, type Schema, vectorFieldsOf } from "../recover/schema.js";
import type { OpenReplica } from "../replica/open-replica.js";
import { type FormerOutcome, noFailures, type Outcome } from "./outcome.js";
import type { Turns } from "./turns.js";
import { deletePoints, removePoint } from "./upserts.js";
import type { PreparedUpsert, TouchedPoint, WriteSet, WrittenPart } from "./write-set.js";

/** Ids whose heads are read at once. */
const clearedAtOnce = 1_024;

/** What a record that adopts points finds, and what it leaves. */
export interface AdoptionState {
  schema: Schema;
  adoption: Adoption | undefined;
}

interface AdoptionPlace extends AdoptionState {
  sequence: number;
  /** Wall clock of the record, milliseconds since the Unix epoch. */
  nowMs: number;
  /** What is remembered under the id of an operation. */
  known: (id: string) => Outcome | undefined;
}

/** Points that the record names. */
export function adoptedIds({ points, gone }: ipb.AdoptPoints): IdKey[] {
  return [...points.map(({ id }) => id), ...gone];
}

/** Whether this release knows all kinds of fields of the schema that is adopted. */
export function isKnownAdoption({ schema }: ipb.AdoptPoints): boolean {
  if (schema.length === 0) return true;
  try {
    decodeSchema(schema);
    return true;
  } catch {
    return false;
  }
}

/** Whether the shards that are merged were all read to their ends. */
export function isWhole(adoption: Adoption | undefined): boolean {
  return adoption?.wholeAt !== undefined;
}

/**
 * Evaluates a record that brings a part of another shard; undefined where it has no effect: all shards were read to their ends already, another
 * reader has begun since, or it comes again.
 */
export async function adopt(
  value: ipb.AdoptPoints,
  points: readonly TouchedPoint[],
  place: AdoptionPlace,
  replica: OpenReplica,
  writeSet: WriteSet,
  turns: Turns,
): Promise<(AdoptionState & { outcomes: Map<string, Outcome> }) | undefined> {
  const { sequence, nowMs, known } = place;
  const adoption = advanced(value, place);
  if (adoption === undefined) return undefined;
  const schema = newerSchema(place.schema, value.schema);
  if (value.clear) await clearSlots(value, nowMs, replica, writeSet, turns);
  for (const [row, point] of points.entries()) {
    const brought = value.points[row];
    if (brought !== undefined) putAdopted(point, brought, schema, sequence);
    else if (point.live) removePoint(point);
    if (turns.isDue()) await turns.pass();
  }
  return { schema, adoption, outcomes: adoptedOutcomes(value.outcomes, known) };
}

/** Undefined where the record comes too late. */
function advanced(value: ipb.AdoptPoints, { adoption, sequence }: AdoptionPlace): Adoption | undefined {
  const { shard, firstSlot, lastSlot, term, part, shardCount, isWhole: isEnd } = value;
  if (isWhole(adoption)) return undefined;
  const sources = adoption?.sources ?? [];
  const before = sources.find((each) => each.shard === shard);
  if (before !== undefined && (before.term > term || (before.term === term && before.part >= part))) return undefined;
  const source: AdoptedShard = { shard, firstSlot, lastSlot, term, part, ...(isEnd && { isWhole: true }) };
  const all = [...sources.filter((each) => each !== before), source];
  const isAll = all.length === shardCount && all.every((each) => each.isWhole === true);
  return { sources: all, ...(isAll && { wholeAt: sequence }) };
}

function newerSchema(schema: Schema, body: Uint8Array): Schema {
  if (body.length === 0) return schema;
  const other = decodeSchema(body);
  return other.version > schema.version ? other : schema;
}

/** The point becomes what it is in the other shard, with the versions of all its parts. What it has of dropped fields is left behind. */
function putAdopted(point: TouchedPoint, brought: ipb.AdoptedPoint, schema: Schema, sequence: number): void {
  const { version, payload, payloadVersion, expiresAtMs } = brought;
  const vectors = new Map<number, WrittenPart>();
  for (const { field, version: its, vector } of brought.vectors) {
    const known = vectorFieldsOf(schema).find(({ number }) => number === field);
    if (known === undefined) continue;
    const isWhole = known.kind !== partKind.vector || vector.length === known.dimension * 4;
    assert(isWhole, `an adopted vector of "${known.name}" has ${vector.length} bytes`);
    const written = its || version;
    vectors.set(field, {
      version: written,
      bytes: vector,
      seed: partSeed(known.kind, known.name, written),
    });
  }
  const writtenPayload = payloadVersion || version;
  const seed = partSeed(partKind.payload, "", writtenPayload);
  const upsert: PreparedUpsert = { version, columns: [], sparse: [], payloads: [], payloadSeed: seed, expiresAtMs: [] };
  point.live = true;
  point.changed = true;
  point.version = version;
  point.upsert = upsert;
  point.row = 0;
  point.edit = {
    ...(payload.length > 0 && { payload: { version: writtenPayload, bytes: payload, seed } }),
    vectors,
    // Indexes compare it with sequences of this log.
    vectorsVersion: sequence,
    expiry: { atMs: expiresAtMs || undefined },
  };
}

/** Removes all points of some hash slots; gives how many there were for who writes at `nowMs`. */
export async function clearSlots(
  { firstSlot, lastSlot }: SlotRange,
  nowMs: number,
  replica: OpenReplica,
  writeSet: WriteSet,
  turns: Turns,
): Promise<number> {
  const isIn = (slot: number): boolean => slot >= firstSlot && slot <= lastSlot;
  return clearWhere((id) => isIn(hashSlotOf(id)), nowMs, replica, writeSet, turns);
}

/** As `clearSlots`, of all points that pass. */
export async function clearWhere(
  passes: (id: IdKey) => boolean,
  nowMs: number,
  { slots }: OpenReplica,
  writeSet: WriteSet,
  turns: Turns,
): Promise<number> {
  let affected = 0;
  let ids: IdKey[] = [];
  const remove = async (): Promise<void> => {
    const points = writeSet.touch(ids);
    ids = [];
    await writeSet.readHeads();
    affected += deletePoints(points, nowMs).affected;
    if (turns.isDue(points.length)) await turns.pass();
  };
  // What the record has written so far.
  for (const { id, live } of [...writeSet.points.values()]) if (live && passes(id)) ids.push(id);
  // The applier alone changes slots, and stands here.
  for (let slot = 0; slot < slots.end; slot++) {
    if (!slots.isAlive(slot)) continue;
    const id = slots.idOf(slot);
    if (passes(id)) ids.push(id);
    if (ids.length >= clearedAtOnce) await remove();
  }
  await remove();
  return affected;
}

/** Whether what a shard of before had done of an operation was about the point. */
export function isCovered(former: readonly FormerOutcome[], id: IdKey): boolean {
  const slot = hashSlotOf(id);
  return former.some(({ slots }) => slot >= slots.firstSlot && slot <= slots.lastSlot);
}

/** What is remembered from here on: several shards may have had their parts of one operation. */
function adoptedOutcomes(
  outcomes: readonly ipb.AdoptedOutcome[],
  known: (id: string) => Outcome | undefined,
): Map<string, Outcome> {
  const adopted = new Map<string, Outcome>();
  for (const { id, effects } of outcomes) {
    const key = idMapKey(id);
    const before = adopted.get(key) ?? known(key);
    const former = [...(before?.former ?? [])];
    for (const { firstSlot, lastSlot, affected, failures } of effects) {
      const isSame = ({ slots }: FormerOutcome): boolean =>
        slots.firstSlot === firstSlot && slots.lastSlot === lastSlot;
      if (former.some(isSame)) continue;
      former.push({ slots: { firstSlot, lastSlot }, affected, failures: Uint32Array.from(failures) });
    }
    adopted.set(key, { affected: 0, failures: noFailures, former, isOpen: true });
  }
  return adopted;
}
