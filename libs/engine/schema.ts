import { KithError, limits } from "../base/index.js";
import { type Collection, parseCollection, type VectorField } from "../model/index.js";

/** What records have made of the collection so far. The position of a field is its number, and never changes. */
export interface Schema {
  /**
   * The shard map's version: records of an older one are refused. Raised by schema records only, not by the catalog
   * and not by other records, so that every replica refuses the same ones, also one that replays the log much later.
   */
  epoch: number;
  fields: readonly VectorField[];
}

export function initialSchema(collection: Collection): Schema {
  return { epoch: 0, fields: collection.fields };
}

/**
 * The schema after a record that carries the collection as JSON. Known fields keep their build parameters; new ones come
 * behind. INVALID_SCHEMA where the text is no collection.
 */
export function changeSchema(schema: Schema, json: string): Schema {
  const collection = parsed(json);
  const named = new Map(collection.fields.map((field) => [field.name, field]));
  const known = schema.fields.map((field) => ({
    ...field,
    efSearch: named.get(field.name)?.efSearch ?? field.efSearch,
  }));
  const names = new Set(schema.fields.map((field) => field.name));
  const added = collection.fields.filter((field) => !names.has(field.name));
  return {
    epoch: Math.max(schema.epoch, collection.epoch),
    fields: [...known, ...added].slice(0, limits.vectorFieldsMax),
  };
}

function parsed(json: string): Collection {
  try {
    return parseCollection(json);
  } catch (cause) {
    throw new KithError("INVALID_SCHEMA", `a schema record holds no collection: ${(cause as Error).message}`, {
      cause,
    });
  }
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
}

/** What is written with every batch. */
export interface StoreState {
  appliedSequence: number;
  digest: string;
  logTimeMs: number;
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
