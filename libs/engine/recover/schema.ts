import { type Collection, currentField, type VectorField } from "../../model/index.js";

/** What the store must know of its collection. The position of a field is its number, and never changes. */
export interface Schema {
  fields: readonly VectorField[];
}

export function initialSchema(collection: Collection): Schema {
  return { fields: collection.fields };
}

/** Who the store belongs to. Written before the first record is applied. */
export interface StoreIdentity {
  format: number;
  /** Differs for each life of the directory: index checkpoints of another life are not loaded. */
  storeId: string;
  collectionId: string;
  shard: number;
  /** Of the log, from the first contact with it; "" before. */
  incarnation: string;
  /** Whether the replica has once had all that the log held. */
  hasCaughtUp?: boolean;
}

/** What is written with every batch. */
export interface StoreState {
  appliedSequence: number;
  /** CRC-32C of the record `appliedSequence`; missing before the first, and where an earlier version wrote this. */
  lastChecksum?: number | undefined;
  digest: string;
  logTimeMs: number;
  /** Largest appended_at_ms so far; missing where an earlier version wrote it, for which it was the log's time. */
  newestAppendedAtMs?: number;
  /** One more than the highest slot ever given out. */
  slotEnd: number;
  pointCount: number;
  /** Points that have the field, by number. */
  fieldCounts: number[];
}

export const storeFormat = 1;

export function toJson(value: StoreIdentity | StoreState | Schema): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}

/** The checksum was verified, so the JSON is what toJson wrote. */
export function fromJson<T extends StoreIdentity | StoreState | Schema>(body: Uint8Array): T {
  return JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString()) as T;
}

export function storedSchema(body: Uint8Array): Schema {
  const { fields } = fromJson<Schema>(body);
  return { fields: fields.map(currentField) };
}
