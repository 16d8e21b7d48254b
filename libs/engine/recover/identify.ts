import { KithError, type Random, refuseNewer } from "../../base/index.js";
import type { Collection, FollowedShard } from "../../model/index.js";
import type { PointStore } from "../../storage/index.js";
import { formatDigest } from "../../hash/index.js";
import {
  encodeSchema,
  fromJson,
  initialSchema,
  type StoreIdentity,
  type StoreState,
  storeFormat,
  storeFormatRelease,
  toJson,
} from "./schema.js";

/** What a store is made with. */
interface MadeStore {
  random: Random;
  /** The shard whose log it is filled from. */
  follows?: FollowedShard | undefined;
  /** The sequence behind which its log begins. Default 0. */
  beginsBehind?: number | undefined;
}

/** Reads who the store belongs to; a new one is made for this replica. FAILED_PRECONDITION where it is not for it. */
export async function identify(
  store: PointStore,
  collection: Collection,
  shard: number,
  made: MadeStore,
): Promise<StoreIdentity> {
  const body = await store.getMeta("identity");
  if (body === undefined) return makeStore(store, collection, shard, made);
  const identity = fromJson<StoreIdentity>(body);
  refuseNewer(`the store in ${store.directory}`, identity, storeFormat);
  if (identity.collectionId !== collection.id || identity.shard !== shard) {
    throw new KithError(
      "FAILED_PRECONDITION",
      `${store.directory} belongs to shard ${identity.shard} of collection ${identity.collectionId}, not to shard ${shard} of ${collection.id}`,
    );
  }
  return identity;
}

async function makeStore(
  store: PointStore,
  collection: Collection,
  shard: number,
  { random, follows, beginsBehind = 0 }: MadeStore,
): Promise<StoreIdentity> {
  const identity: StoreIdentity = {
    format: storeFormat,
    release: storeFormatRelease,
    storeId: random.uuid(),
    collectionId: collection.id,
    shard,
    incarnation: "",
    ...(follows && { follows }),
  };
  const state: StoreState = {
    appliedSequence: beginsBehind,
    digest: formatDigest(0n),
    logTimeMs: 0,
    slotEnd: 0,
    pointCount: 0,
    fieldCounts: new Array<number>(initialSchema(collection).nextField).fill(0),
  };
  const batch = store.batch();
  batch.putMeta("identity", toJson(identity));
  batch.putMeta("schema", encodeSchema(initialSchema(collection)));
  batch.putMeta("state", toJson(state));
  await store.write(batch, { sync: true });
  return identity;
}

/** What every store that has an identity has under this name; CORRUPT_DATA where it is lost. */
export async function required(store: PointStore, name: string): Promise<Uint8Array> {
  const body = await store.getMeta(name);
  if (body === undefined) throw new KithError("CORRUPT_DATA", `the store in ${store.directory} has lost its ${name}`);
  return body;
}
