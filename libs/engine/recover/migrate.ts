import { abortReason, KithError } from "../../base/index.js";
import { addHash, formatDigest, partHash, partSeed, pointHash, xxh64 } from "../../hash/index.js";
import { type FormerPoint, type Part, partKind, type PointStore } from "../../storage/index.js";
import type { Alarm } from "../replica/options.js";
import { required } from "./identify.js";
import {
  decodeFormerSchema,
  encodeSchema,
  fromJson,
  type Schema,
  type SchemaField,
  type StoreIdentity,
  type StoreState,
  storeFormat,
  storeFormatRelease,
  toJson,
} from "./schema.js";

export interface MigrationOptions {
  /** Ends it between two batches; the next opening goes on. */
  signal: AbortSignal;
  onAlarm: (alarm: Alarm) => void;
  /** Bytes of points that are rewritten in one batch. */
  chunkBytes?: number;
}

const defaultChunkBytes = 4 * 1024 * 1024;

/**
 * Brings a store of format 1 to this one, where it lies. Heads are rewritten, with the hashes of the parts that they name; what
 * the points hold stays as it is. Memory is bounded: some megabytes of points at a time.
 *
 * From before the first head until after the last, the store says that it is on its way, so that neither an older release
 * takes it for its own nor this one for done. Heads of both formats are told apart by themselves: a process that dies on the
 * way leaves some of each, and the next opening goes through all again and rewrites those that are left. The last batch,
 * written when all others are on the disk, puts digest, schema and identity of the new format in place.
 *
 * The digest of the format before is summed up on the way, from what the points hold: CORRUPT_DATA where it is not what the
 * store says, and nothing damaged gets a new digest.
 */
export async function migrate(
  store: PointStore,
  identity: StoreIdentity,
  { signal, onAlarm, chunkBytes = defaultChunkBytes }: MigrationOptions,
): Promise<StoreIdentity> {
  const schema = decodeFormerSchema(await required(store, "schema"));
  const state = fromJson<StoreState>(await required(store, "state"));
  const what = `the ${state.pointCount} points in ${store.directory}`;
  onAlarm({ kind: "migration_started", message: `${what} are brought from format 1 to format ${storeFormat}` });
  const next: StoreIdentity = { ...identity, format: storeFormat, release: storeFormatRelease };
  if (identity.migratesFrom === undefined) await writeIdentity(store, { ...next, migratesFrom: identity.format });
  const { former, digest } = await rewriteHeads(store, schema, chunkBytes, signal);
  const expected = describe(state.digest, state.pointCount, state.fieldCounts);
  if (former !== expected) {
    throw new KithError("CORRUPT_DATA", `the store in ${store.directory} holds ${former}; it should hold ${expected}`);
  }
  // All heads first: the batch below must not be on the disk without them.
  await store.sync(Buffer.from(String(state.appliedSequence)));
  const done: StoreIdentity = { ...next, migratesFrom: undefined };
  const batch = store.batch();
  batch.putMeta("state", toJson({ ...state, digest: formatDigest(digest) }));
  batch.putMeta("schema", encodeSchema(schema));
  batch.putMeta("identity", toJson(done));
  await store.write(batch, { sync: true });
  onAlarm({ kind: "migrated", message: `${what} are of format ${storeFormat} now` });
  return done;
}

async function writeIdentity(store: PointStore, identity: StoreIdentity): Promise<void> {
  const batch = store.batch();
  batch.putMeta("identity", toJson(identity));
  await store.write(batch, { sync: true });
}

/** Gives what the points hold by the digest of format 1, and their new digest. */
async function rewriteHeads(
  store: PointStore,
  schema: Schema,
  chunkBytes: number,
  signal: AbortSignal,
): Promise<{ former: string; digest: bigint }> {
  const byName = [...schema.fields].sort((a, b) => (a.name < b.name ? -1 : 1));
  const fieldCounts = schema.fields.map(() => 0);
  let digest = 0n;
  let formerDigest = 0n;
  let pointCount = 0;
  for await (const points of store.scanFormer(byName, chunkBytes)) {
    if (signal.aborted) throw abortReason(signal);
    const batch = store.batch();
    for (const point of points) {
      const formerHash = formerContentHash(point, byName);
      if (point.contentHash !== undefined && point.contentHash !== formerHash) throw damaged(store, point);
      formerDigest = addHash(formerDigest, formerHash);
      const parts = partsOf(point, byName);
      const contentHash = pointHash(point.id, point.version, undefined, parts);
      digest = addHash(digest, contentHash);
      pointCount++;
      for (const { kind, field } of parts) if (kind === partKind.vector) (fieldCounts[field] as number)++;
      if (point.contentHash === undefined) continue;
      batch.putHead(point.id, { version: point.version, slot: point.slot, contentHash, parts });
    }
    if (batch.sizeBytes > 0) await store.write(batch);
  }
  return { former: describe(formatDigest(formerDigest), pointCount, fieldCounts), digest };
}

function describe(digest: string, pointCount: number, fieldCounts: readonly number[]): string {
  return `${digest}, ${pointCount} points, ${fieldCounts.join("+")} vectors`;
}

function partsOf({ version, payload, vectors }: FormerPoint, byName: readonly SchemaField[]): Part[] {
  const parts: Part[] = [];
  for (const [i, { name, number }] of byName.entries()) {
    const bytes = vectors[i];
    if (bytes === undefined) continue;
    const hash = partHash(partSeed(partKind.vector, name, version), bytes);
    parts.push({ kind: partKind.vector, field: number, version, length: 0, hash });
  }
  if (payload.length > 0) {
    const hash = partHash(partSeed(partKind.payload, "", version), payload);
    parts.push({ kind: partKind.payload, field: 0, version, length: payload.length, hash });
  }
  return parts;
}

let scratch = Buffer.allocUnsafeSlow(64 * 1024);

/**
 * The content hash of format 1: XXH64 of
 *
 *     id length(2) id version(6) payload length(4) payload { name length(1) name vector length(4) vector }*
 *
 * with the vectors in order of name.
 */
function formerContentHash({ id, version, payload, vectors }: FormerPoint, byName: readonly SchemaField[]): bigint {
  let needed = id.length + payload.length + 12;
  for (const [i, { name }] of byName.entries()) needed += name.length + 5 + (vectors[i]?.length ?? 0);
  if (needed > scratch.length) scratch = Buffer.allocUnsafeSlow(needed * 2);
  scratch.writeUInt16LE(id.length, 0);
  scratch.set(id, 2);
  let at = scratch.writeUIntLE(version, 2 + id.length, 6);
  at = scratch.writeUInt32LE(payload.length, at);
  scratch.set(payload, at);
  at += payload.length;
  for (const [i, { name }] of byName.entries()) {
    const bytes = vectors[i];
    if (bytes === undefined) continue;
    at = scratch.writeUInt8(name.length, at);
    at += scratch.write(name, at, "latin1");
    at = scratch.writeUInt32LE(bytes.length, at);
    scratch.set(bytes, at);
    at += bytes.length;
  }
  return xxh64(scratch.subarray(0, at));
}

function damaged(store: PointStore, { id }: FormerPoint): KithError {
  const hex = Buffer.from(id).toString("hex");
  return new KithError(
    "CORRUPT_DATA",
    `the point with the id key ${hex} in ${store.directory} is not what its head says`,
  );
}
