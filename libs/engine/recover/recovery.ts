import { KithError } from "../../base/index.js";
import type { Collection, IdKey } from "../../model/index.js";
import type { PointStore } from "../../storage/index.js";
import { addHash, formatDigest } from "../../hash/index.js";
import { OutcomeWindow } from "../apply/outcomes.js";
import { denseName } from "../index/dense-index.js";
import type { IndexKind } from "../index/derived-index.js";
import { IndexSet } from "../index/index-set.js";
import { SlotTable } from "../index/slots.js";
import { storeDirectory, tidyIndexes } from "../replica/layout.js";
import { OpenReplica, type ReplicaContext } from "../replica/open-replica.js";
import type { Alarm } from "../replica/options.js";
import { identify, required } from "./identify.js";
import { decodeLineage } from "./lineage.js";
import { IndexRecovery, type IndexRecoveryOptions } from "./index-recovery.js";
import { migrate } from "./migrate.js";
import { decodeSchema, fromJson, type Schema, type StoreState, storeFormat, vectorFieldsOf } from "./schema.js";

export type OpenStore = (directory: string) => Promise<PointStore>;

/** What a walk through all heads finds. */
interface Heads {
  slots: SlotTable;
  expiries: Map<number, number>;
  digest: bigint;
  fieldCounts: number[];
}

/**
 * Opens a replica's directory. The heads are walked through (1.7 µs each): that fills the slot table, and proves that
 * count and digest are what was written. Index checkpoints are then brought to the state of the store: rows younger than
 * the checkpoint are added, rows that died since are removed. There is no journal to replay, and a checkpoint that does
 * not fit, for whatever reason, is dropped and its index filled from the store.
 *
 * Every point is searchable when this resolves, exactly scanned at first where the graph is still being built.
 */
export async function openReplica(
  context: ReplicaContext,
  collection: Collection,
  shard: number,
  openStore: OpenStore,
): Promise<OpenReplica> {
  const store = await openStore(storeDirectory(context.directory));
  try {
    const onAlarm = (alarm: Alarm): void => context.onAlarm(alarm);
    const made = { random: context.random, follows: context.follows?.(), beginsBehind: context.beginsBehind };
    let identity = await identify(store, collection, shard, made);
    if (identity.format < storeFormat || identity.migratesFrom !== undefined) {
      identity = await migrate(store, identity, { signal: context.closing, onAlarm });
    }
    const schema = decodeSchema(await required(store, "schema"));
    await clearDropped(store, schema, context.closing);
    const state = fromJson<StoreState>(await required(store, "state"));
    const outcomes = new OutcomeWindow({
      timeMs: context.tuning.operationWindowMs,
      count: context.tuning.operationWindowCount,
    });
    for await (const { sequence, body } of store.scanOutcomes()) outcomes.restore(sequence, body);
    const { logTimeMs, newestAppendedAtMs = logTimeMs } = state;
    outcomes.restoreTime({ logTimeMs, newestAppendedAtMs });
    let replica: OpenReplica | undefined;
    const onError = (error: unknown): void => void replica?.fail(error);
    const { directory } = context;
    const recoveries = await beginIndexes(context.kindsOf(schema), {
      directory,
      storeId: identity.storeId,
      appliedSequence: state.appliedSequence,
      pointCount: state.pointCount,
      slotEnd: state.slotEnd,
      onAlarm,
      onError,
    });
    const lives = recoveries.map(({ life }) => life);
    const indexes = new IndexSet(lives, schema, { directory, onAlarm, onError });
    try {
      const heads = await walkHeads(store, schema, state, recoveries);
      replica = new OpenReplica(context, {
        store,
        identity,
        schema,
        slots: heads.slots,
        expiries: heads.expiries,
        indexes,
        outcomes,
        appliedSequence: state.appliedSequence,
        lastChecksum: state.lastChecksum,
        digest: heads.digest,
        fieldCounts: heads.fieldCounts,
        sealedAt: state.sealed?.incarnation === identity.incarnation ? state.sealed.at : undefined,
        lineage: decodeLineage(await store.getMeta("lineage")),
        adoption: state.adoption,
        changesFrom: state.changes?.store === identity.storeId ? state.changes.from : state.appliedSequence,
      });
    } catch (error) {
      await indexes.close();
      throw error;
    }
    try {
      await recoverIndexes(replica, recoveries);
    } catch (error) {
      await replica.close();
      throw error;
    }
    return replica;
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** A process that died may have left vectors of fields that were dropped. */
async function clearDropped(store: PointStore, schema: Schema, closing: AbortSignal): Promise<void> {
  const { nextField } = schema;
  const live = new Set(vectorFieldsOf(schema).map(({ number }) => number));
  for (let number = 0; number < nextField; number++) if (!live.has(number)) await store.clearVectors(number, closing);
}

/** Up to where a store goes that could not be opened as a whole; undefined where not even that can be read. */
export async function storedState(directory: string, openStore: OpenStore): Promise<StoreState | undefined> {
  let store: PointStore | undefined;
  try {
    store = await openStore(storeDirectory(directory));
    const body = await store.getMeta("state");
    return body && fromJson<StoreState>(body);
  } catch {
    return undefined;
  } finally {
    await store?.close();
  }
}

/** Loads the checkpoints, all at once. */
async function beginIndexes(kinds: readonly IndexKind[], options: IndexRecoveryOptions): Promise<IndexRecovery[]> {
  await tidyIndexes(options.directory, kinds, denseName);
  const begun = await Promise.allSettled(kinds.map((kind) => IndexRecovery.begin(kind, options)));
  const recoveries: IndexRecovery[] = [];
  for (const each of begun) if (each.status === "fulfilled") recoveries.push(each.value);
  for (const each of begun) {
    if (each.status === "fulfilled") continue;
    for (const { life } of recoveries) await life.close();
    throw each.reason;
  }
  return recoveries;
}

/** Fills the slot table, and lets each index know every point. */
async function walkHeads(
  store: PointStore,
  schema: Schema,
  state: StoreState,
  indexes: readonly IndexRecovery[],
): Promise<Heads> {
  const slots = new SlotTable();
  slots.setEnd(state.slotEnd);
  const fieldCounts = new Array<number>(schema.nextField).fill(0);
  const fields = vectorFieldsOf(schema);
  const expiries = new Map<number, number>();
  let digest = 0n;
  for await (const { ids, heads } of store.scanHeads()) {
    for (let i = 0; i < heads.length; i++) {
      const head = heads[i] as (typeof heads)[number];
      const id = ids[i] as IdKey;
      if (head.slot >= state.slotEnd || slots.isAlive(head.slot)) {
        throw new KithError("CORRUPT_DATA", `two points claim the slot ${head.slot}, or it was never given out`);
      }
      slots.insert(head.slot, id, head.version, head.payloadBytes > 0);
      if (head.expiresAtMs !== undefined) expiries.set(head.slot, head.expiresAtMs);
      digest = addHash(digest, head.contentHash);
      for (const { number } of fields) if (head.hasVector(number)) (fieldCounts[number] as number)++;
      for (const index of indexes) index.meet(id, head);
    }
  }
  const found = `${formatDigest(digest)}, ${slots.aliveCount} points, ${fieldCounts.join("+")} vectors`;
  const expected = `${state.digest}, ${state.pointCount} points, ${state.fieldCounts.join("+")} vectors`;
  if (found !== expected) {
    throw new KithError("CORRUPT_DATA", `the store in ${store.directory} holds ${found}; it should hold ${expected}`);
  }
  return { slots, expiries, digest, fieldCounts };
}

/** Brings the indexes to the state of the store. */
async function recoverIndexes(replica: OpenReplica, recoveries: readonly IndexRecovery[]): Promise<void> {
  const { store, slots, context } = replica;
  const dead = slots.deadSlots();
  let isFreshOrClean = true;
  for (const recovery of recoveries) {
    const missingCount = await recovery.finish(store);
    replica.changedRows = Math.max(replica.changedRows, missingCount);
    if (recovery.life.stats().deadCount > 0) isFreshOrClean = false;
    recovery.life.recovered(context.tuning.recoveryHeadroomRows);
  }
  // Where an index holds dead rows, some checkpoint may name dead slots: they wait for the next generation.
  if (isFreshOrClean && dead.length > 0) slots.release(dead);
}
