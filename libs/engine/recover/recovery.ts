import { assert, KithError, type Random } from "../../base/index.js";
import type { LoadedIndex } from "../../ann/index.js";
import type { Collection, IdKey } from "../../model/index.js";
import { type PointStore, removeDirectory } from "../../storage/index.js";
import { addHash, formatDigest } from "../apply/digest.js";
import { textOf } from "../replica/faults.js";
import { FieldIndex, indexOptionsOf } from "../index/field-index.js";
import { OutcomeWindow } from "../apply/outcomes.js";
import {
  fromJson,
  initialSchema,
  type Schema,
  type StoreIdentity,
  type StoreState,
  storedSchema,
  storeFormat,
  toJson,
} from "./schema.js";
import {
  indexDirectory,
  OpenReplica,
  type ReplicaContext,
  storeDirectory,
  storedField,
} from "../replica/open-replica.js";
import { SlotTable } from "../index/slots.js";

export type OpenStore = (directory: string) => Promise<PointStore>;

/**
 * Up to this share, points are read back one by one rather than by a walk through all vectors. A start of 1,000,000 points on
 * two shards that lacked 16 %: 1.0 s (6.6 µs each) instead of 9.3 s (9.3 µs for every vector, with the writers at work
 * beside). A checkpoint lacks 20 % before the next one is due, and what came while that was written.
 */
const pickedShare = 0.3;
const pickedRows = 2_048;

/** What a walk through all heads finds. */
interface Heads {
  slots: SlotTable;
  digest: bigint;
  fieldCounts: number[];
  /** For each field: points that the checkpoint may lack. */
  missing: Missing[];
}

interface Missing {
  count: number;
  /** Kept up to a bound; beyond it all vectors are walked through anyway. */
  ids: IdKey[];
  slots: number[];
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
    const identity = await identify(store, collection, shard, context.random);
    const schema = storedSchema(await required(store, "schema"));
    const state = fromJson<StoreState>(await required(store, "state"));
    const outcomes = new OutcomeWindow({
      timeMs: context.tuning.operationWindowMs,
      count: context.tuning.operationWindowCount,
    });
    for await (const { sequence, body } of store.scanOutcomes()) outcomes.restore(sequence, body);
    const { logTimeMs, newestAppendedAtMs = logTimeMs } = state;
    outcomes.restoreTime({ logTimeMs, newestAppendedAtMs });
    const loaded = await loadCheckpoints(context, schema, identity, state);
    let replica: OpenReplica | undefined;
    let heads: Heads;
    try {
      heads = await walkHeads(store, schema, state, loaded);
      const fields = schema.fields.map((field, number) => {
        const index = loaded[number]?.index ?? context.indexes.create(indexOptionsOf(field));
        return new FieldIndex(number, field, index, (error) => replica?.fail(error));
      });
      replica = new OpenReplica(context, {
        store,
        identity,
        schema,
        slots: heads.slots,
        fields,
        outcomes,
        appliedSequence: state.appliedSequence,
        lastChecksum: state.lastChecksum,
        digest: heads.digest,
        fieldCounts: heads.fieldCounts,
      });
    } catch (error) {
      for (const each of loaded) await each?.index.close();
      throw error;
    }
    try {
      await recoverIndexes(replica, loaded, heads.missing);
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

/** Reads who the store belongs to; a new one is made for this replica. */
async function identify(
  store: PointStore,
  collection: Collection,
  shard: number,
  random: Random,
): Promise<StoreIdentity> {
  const body = await store.getMeta("identity");
  if (body === undefined) {
    const identity: StoreIdentity = {
      format: storeFormat,
      storeId: random.uuid(),
      collectionId: collection.id,
      shard,
      incarnation: "",
    };
    const state: StoreState = {
      appliedSequence: 0,
      digest: formatDigest(0n),
      logTimeMs: 0,
      slotEnd: 0,
      pointCount: 0,
      fieldCounts: collection.fields.map(() => 0),
    };
    const batch = store.batch();
    batch.putMeta("identity", toJson(identity));
    batch.putMeta("schema", toJson(initialSchema(collection)));
    batch.putMeta("state", toJson(state));
    await store.write(batch, { sync: true });
    return identity;
  }
  const identity = fromJson<StoreIdentity>(body);
  if (identity.format !== storeFormat) {
    throw new KithError(
      "FAILED_PRECONDITION",
      `${store.directory} has the data format ${identity.format}; this version reads ${storeFormat}: use the version that wrote it`,
    );
  }
  if (identity.collectionId !== collection.id || identity.shard !== shard) {
    throw new KithError(
      "FAILED_PRECONDITION",
      `${store.directory} belongs to shard ${identity.shard} of collection ${identity.collectionId}, not to shard ${shard} of ${collection.id}`,
    );
  }
  return identity;
}

async function required(store: PointStore, name: string): Promise<Uint8Array> {
  const body = await store.getMeta(name);
  if (body === undefined) throw new KithError("CORRUPT_DATA", `the store in ${store.directory} has lost its ${name}`);
  return body;
}

/** The checkpoint of each field, where there is one that fits the store. */
async function loadCheckpoints(
  context: ReplicaContext,
  schema: Schema,
  identity: StoreIdentity,
  state: StoreState,
): Promise<(LoadedIndex | undefined)[]> {
  return Promise.all(
    schema.fields.map(async (field, number) => {
      const directory = indexDirectory(context.directory, number);
      let loaded: LoadedIndex | undefined;
      try {
        loaded = await context.indexes.load(directory, indexOptionsOf(field));
        if (loaded === undefined) return undefined;
        if (loaded.extra["storeId"] === identity.storeId && loaded.sequence <= state.appliedSequence) return loaded;
        await loaded.index.close();
        throw new KithError(
          "CORRUPT_DATA",
          `it is of sequence ${loaded.sequence} of store ${loaded.extra["storeId"]}; the store is at ${state.appliedSequence} of ${identity.storeId}`,
        );
      } catch (error) {
        context.onAlarm({
          kind: "checkpoint_dropped",
          message: `the index checkpoint in ${directory} is not used, the index is built from the store: ${textOf(error)}`,
        });
        await removeDirectory(directory);
        return undefined;
      }
    }),
  );
}

async function walkHeads(
  store: PointStore,
  schema: Schema,
  state: StoreState,
  loaded: readonly (LoadedIndex | undefined)[],
): Promise<Heads> {
  const slots = new SlotTable();
  slots.setEnd(state.slotEnd);
  const fieldCounts = schema.fields.map(() => 0);
  const missing = schema.fields.map((): Missing => ({ count: 0, ids: [], slots: [] }));
  const since = schema.fields.map((_, number) => loaded[number]?.sequence ?? -1);
  const pickedMax = Math.max(pickedRows, state.pointCount * pickedShare);
  let digest = 0n;
  for await (const { ids, heads } of store.scanHeads()) {
    for (let i = 0; i < heads.length; i++) {
      const head = heads[i] as (typeof heads)[number];
      const id = ids[i] as IdKey;
      if (head.slot >= state.slotEnd || slots.isAlive(head.slot)) {
        throw new KithError("CORRUPT_DATA", `two points claim the slot ${head.slot}, or it was never given out`);
      }
      slots.insert(head.slot, id, head.version, head.payloadBytes > 0);
      digest = addHash(digest, head.contentHash);
      for (let number = 0; number < fieldCounts.length; number++) {
        if (((head.fields >> number) & 1) === 0) continue;
        (fieldCounts[number] as number)++;
        if (head.version <= (since[number] as number)) continue;
        const lacking = missing[number] as Missing;
        if (lacking.count++ < pickedMax && since[number] !== -1) {
          lacking.ids.push(id);
          lacking.slots.push(head.slot);
        }
      }
    }
  }
  const found = `${formatDigest(digest)}, ${slots.aliveCount} points, ${fieldCounts.join("+")} vectors`;
  const expected = `${state.digest}, ${state.pointCount} points, ${state.fieldCounts.join("+")} vectors`;
  if (found !== expected) {
    throw new KithError("CORRUPT_DATA", `the store in ${store.directory} holds ${found}; it should hold ${expected}`);
  }
  return { slots, digest, fieldCounts, missing };
}

/** Brings the loaded indexes to the state of the store, and fills those that were not loaded. */
async function recoverIndexes(
  replica: OpenReplica,
  loaded: readonly (LoadedIndex | undefined)[],
  missing: readonly Missing[],
): Promise<void> {
  const dead = replica.slots.deadSlots();
  let isFreshOrClean = true;
  for (const field of replica.fields) {
    const { number } = field;
    const lacking = missing[number] as Missing;
    if (loaded[number] === undefined) {
      await fillIndex(replica, field);
    } else {
      field.remove(dead);
      if (lacking.count === lacking.ids.length) await pickVectors(replica, field, lacking);
      else await fillIndex(replica, field);
      const { aliveCount } = field.stats;
      const expected = replica.fieldCounts[number] ?? 0;
      if (aliveCount !== expected) {
        replica.context.onAlarm({
          kind: "checkpoint_dropped",
          message: `the index checkpoint of "${field.field.name}" led to ${aliveCount} vectors instead of ${expected}; the index is built from the store`,
        });
        await field.index.close();
        await removeDirectory(indexDirectory(replica.context.directory, number));
        field.index = replica.context.indexes.create(indexOptionsOf(field.field));
        await fillIndex(replica, field);
      }
    }
    const { rowCount, aliveCount } = field.stats;
    assert(
      aliveCount === replica.fieldCounts[number],
      `the index of "${field.field.name}" misses vectors of the store`,
    );
    if (rowCount !== aliveCount) isFreshOrClean = false;
    replica.changedRows = Math.max(replica.changedRows, lacking.count);
    field.recovered(replica.context.tuning.recoveryHeadroomRows);
  }
  // Where an index holds dead rows, some checkpoint may name dead slots: they wait for the next generation.
  if (isFreshOrClean && dead.length > 0) replica.slots.release(dead);
}

/**
 * Adds every vector of the store that the index lacks. The index copies rows before `add` returns its promise; the
 * memory of the chunks is used again, since those promises last until the graph has caught up, and would hold it.
 */
async function fillIndex(replica: OpenReplica, field: FieldIndex): Promise<void> {
  const { dimension } = field.field;
  const isEmpty = field.stats.rowCount === 0;
  for await (const chunk of replica.store.scanVectors(storedField(field.number, field.field))) {
    if (isEmpty) {
      field.recover(chunk.slots, chunk.matrix);
      continue;
    }
    const rows: number[] = [];
    for (let row = 0; row < chunk.slots.length; row++) {
      if (field.index.get(chunk.slots[row] as number) === undefined) rows.push(row);
    }
    if (rows.length === 0) continue;
    const { matrix } = chunk;
    rows.forEach((row, i) => matrix.copyWithin(i * dimension, row * dimension, (row + 1) * dimension));
    field.recover(
      Uint32Array.from(rows, (row) => chunk.slots[row] as number),
      matrix.subarray(0, rows.length * dimension),
    );
  }
}

async function pickVectors(replica: OpenReplica, field: FieldIndex, missing: Missing): Promise<void> {
  const { dimension } = field.field;
  const memory = new Float32Array(Math.min(pickedRows, missing.ids.length) * dimension);
  for (let from = 0; from < missing.ids.length; from += pickedRows) {
    const rows: number[] = [];
    for (let i = from; i < Math.min(from + pickedRows, missing.ids.length); i++) {
      if (field.index.get(missing.slots[i] as number) === undefined) rows.push(i);
    }
    const vectors = await replica.store.vectors(
      storedField(field.number, field.field),
      rows.map((i) => missing.ids[i] as IdKey),
    );
    const matrix = memory.subarray(0, rows.length * dimension);
    for (const [i, vector] of vectors.entries()) {
      if (vector === undefined)
        throw new KithError("CORRUPT_DATA", `a point has lost its vector of "${field.field.name}"`);
      matrix.set(vector.value, i * dimension);
    }
    field.recover(
      Uint32Array.from(rows, (i) => missing.slots[i] as number),
      matrix,
    );
  }
}
