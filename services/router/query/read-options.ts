import { KithError } from "../../../libs/base/index.js";
import { checkFieldName, type Collection, type Select } from "../../../libs/model/index.js";
import type { Log } from "../../../libs/log/index.js";
import { type Projection, projectionOf } from "../../../libs/query/index.js";
import { pb } from "../../../libs/wire/index.js";
import type { RoutedCollection } from "../routing/routed-collection.js";

/** For each shard, by its id, the sequence that a read must see; 0 for "what is there". */
export type MinSequences = (shard: number) => number;

const nothing: MinSequences = () => 0;

/** What the asked consistency means for each shard. `name`: by which the collection was asked for. */
export function minSequencesOf(
  collection: RoutedCollection,
  consistency: pb.Consistency | undefined,
  log: Log,
  name: string = collection.record.name,
): MinSequences | Promise<MinSequences> {
  const level = consistency?.level;
  if (level === undefined) return nothing;
  if (level.$case === "linearizable") return level.value ? readLog(collection, log) : nothing;
  return tokenSequences(collection, level.value, name);
}

/**
 * What each shard has seen where the writes of the token are seen. INVALID_TOKEN where it is of another collection; where that was asked for by
 * an alias (`name`), `details.alias` tells: it may have been switched.
 */
export function tokenSequences(
  collection: RoutedCollection,
  { shards, collectionId }: pb.Token,
  asked: string = collection.record.name,
): MinSequences {
  if (shards.length === 0) return nothing;
  const { id, name } = collection.record;
  if (collectionId !== "" && collectionId !== id) {
    throw new KithError(
      "INVALID_TOKEN",
      `the token is of the collection ${collectionId}, and "${name}" is ${id}: another one, or made anew since; read without the token`,
      { details: { collectionId, expected: id, ...(asked !== name && { alias: asked }) } },
    );
  }
  const sequences = new Map<number, number>();
  for (const { shard, sequence } of shards) {
    const heirs = collection.heirsOf(shard);
    if (heirs.length === 0) throw unknownShard(collection, shard);
    for (const heir of heirs) sequences.set(heir, Math.max(sequence, sequences.get(heir) ?? 0));
  }
  return (shard) => sequences.get(shard) ?? 0;
}

/** One that is to come is so as soon as this router has heard of it; one that was, and has no heirs, never was one of this collection. */
function unknownShard({ record }: RoutedCollection, shard: number): KithError {
  const message = `the token names shard ${shard}, and the collection "${record.name}" has no such shard; it is of another collection, or of another time: read without the token`;
  return shard >= record.nextShard
    ? new KithError("STALE_EPOCH", message, { details: { unknownShard: shard }, retryAfterMs: 100 })
    : new KithError("INVALID_TOKEN", message, { details: { shard } });
}

/**
 * The end of each shard's log: what the log says, or what is known to be in it where that is more. The log alone is not to
 * be believed: see `Log.state`.
 */
export async function readLog(collection: RoutedCollection, log: Log): Promise<MinSequences> {
  const ends = await Promise.all(
    collection.shards.map(async (shard): Promise<[number, number]> => {
      const known = Math.max(collection.laneOf(shard.id.shard).lastSequence, shard.appliedSequence);
      const [{ lastSequence }, sealedAt] = await Promise.all([log.state(shard.id), log.sealedAt(shard.id)]);
      // Writes may have been acknowledged by other shards already, which have its slots.
      if (sealedAt !== undefined) throw passedOn(shard.id.shard);
      return [shard.id.shard, Math.max(known, lastSequence)];
    }),
  );
  const byShard = new Map(ends);
  return (shard) => byShard.get(shard) ?? 0;
}

function passedOn(shard: number): KithError {
  return new KithError("STALE_EPOCH", `shard ${shard} has passed its hash slots on to other shards; try again`, {
    details: { shard },
    retryAfterMs: 50,
  });
}

const selectNothing: Select = { payload: false, vectors: [] };

/** What comes back with each point, and which part of its payload. */
export interface Selection {
  select: Select;
  payload: PayloadOptions;
}

/** Which part of payloads comes back, and how. */
export interface PayloadOptions {
  /** Undefined: the whole payload. */
  projection: Projection | undefined;
  /** As google.protobuf.Struct instead of JSON. */
  asStruct: boolean;
  /** Of fields whose vectors are matrices: the dimension of a row, by name; missing where there are none. */
  matrices?: ReadonlyMap<string, number> | undefined;
}

function matricesOf({ fields }: Collection): ReadonlyMap<string, number> | undefined {
  const matrices = fields.filter(({ multivector }) => multivector !== undefined);
  return matrices.length === 0 ? undefined : new Map(matrices.map(({ name, dimension }) => [name, dimension]));
}

/** UNKNOWN_VECTOR, and INVALID_ARGUMENT for paths that are none. */
export function selectionOf(collection: Collection, select: pb.Select | undefined): Selection {
  if (select === undefined) return { select: selectNothing, payload: { projection: undefined, asStruct: false } };
  for (const name of select.vectors) checkFieldName(collection, name);
  const projection = projectionOf(select.include, select.exclude);
  const { payloadFormat = pb.PayloadFormat.UNSPECIFIED } = select;
  if (payloadFormat !== pb.PayloadFormat.UNSPECIFIED && payloadFormat !== pb.PayloadFormat.STRUCT) {
    throw new KithError("INVALID_ARGUMENT", `select.payload_format: the format ${payloadFormat} does not exist`, {
      details: { field: "select.payload_format", value: payloadFormat },
    });
  }
  const asStruct = payloadFormat === pb.PayloadFormat.STRUCT;
  const payload = select.payload || projection !== undefined;
  return {
    select: { payload, vectors: select.allVectors ? "all" : select.vectors },
    payload: { projection, asStruct, matrices: matricesOf(collection) },
  };
}
