import { type FormatMark, KithError } from "../../base/index.js";
import {
  type Collection,
  currentField,
  firstFields,
  firstSparseFields,
  type FollowedShard,
  type SlotRange,
  type PayloadIndexRecord,
  type SparseField,
  storeFormat,
  type VectorField,
} from "../../model/index.js";
import { partKind, partKindOf, type StoredField } from "../../storage/index.js";

/** A field of the points, as the store knows it. */
export interface SchemaField extends VectorField {
  /** In keys and heads. Never used again, so that nothing of a dropped field is taken for one of another. */
  number: number;
}

/** A sparse field of the points, as the store knows it. */
export interface SchemaSparseField extends SparseField {
  /** Of the same numbers as those of other fields. */
  number: number;
}

/** An index of a field of the payload, as the store knows it. */
export interface SchemaPayloadIndex extends PayloadIndexRecord {
  /** In the name of its checkpoint. Never used again. */
  number: number;
}

/** What the store must know of its collection. Changes through the log alone, so that all replicas agree at each record. */
export interface Schema {
  /** 1 for the schema that the collection was made with; one more with each change. */
  version: number;
  fields: readonly SchemaField[];
  sparse: readonly SchemaSparseField[];
  /** The number that the next field gets, of whatever kind. */
  nextField: number;
  payloadIndexes: readonly SchemaPayloadIndex[];
  /** The number that the next payload index gets. */
  nextIndex: number;
}

/** What a schema begins with. */
type FirstFields = Pick<Collection, "fields" | "initialFields" | "sparseFields" | "initialSparseFields">;

/** A vector field, of whatever kind. */
export interface NamedField extends StoredField {
  readonly name: string;
  /** Of its parts of points. */
  readonly kind: typeof partKind.vector | typeof partKind.sparse | typeof partKind.multi;
}

const named = new WeakMap<Schema, readonly NamedField[]>();

/** All vector fields, dense ones first. */
export function vectorFieldsOf(schema: Schema): readonly NamedField[] {
  let fields = named.get(schema);
  if (fields === undefined) {
    fields = [
      ...schema.fields.map(({ number, name, dimension, multivector }) => {
        const stored = { number, name, dimension, ...(multivector !== undefined && { multivector }) };
        return { ...stored, kind: partKindOf(stored) };
      }),
      ...schema.sparse.map(({ number, name }) => {
        return { number, name, dimension: 0, isSparse: true, kind: partKind.sparse };
      }),
    ];
    named.set(schema, fields);
  }
  return fields;
}

/** The schema before the first record: replicas that replay the log from its beginning must begin with the same one. */
export function initialSchema(collection: FirstFields): Schema {
  const fields = firstFields(collection);
  const sparse = firstSparseFields(collection);
  return {
    version: 1,
    fields: fields.map(firstField),
    sparse: sparse.map((field, i) => ({ ...field, number: fields.length + i })),
    nextField: fields.length + sparse.length,
    payloadIndexes: [],
    nextIndex: 0,
  };
}

/** Without what is of the catalog alone, and changes there. */
function firstField(field: VectorField, number: number): SchemaField {
  const first = { ...field, number };
  delete first.autoRecall;
  delete first.choice;
  return first;
}

/** Who the store belongs to. Written before the first record is applied. */
export interface StoreIdentity extends FormatMark {
  /** The format of before, while the store is brought to `format`. */
  migratesFrom?: number | undefined;
  /**
   * Differs for each life of the directory, but one that begins with the files of another replica, whose checkpoints of indexes come with them: those of another
   * life are not loaded.
   */
  storeId: string;
  collectionId: string;
  shard: number;
  /** Of the log, from the first contact with it; "" before. */
  incarnation: string;
  /** The shard whose log, of that incarnation, it follows until that is sealed; missing where it follows its own. */
  follows?: FollowedShard | undefined;
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
  /**
   * The changes of all records behind `from` are kept, in the store with this id: a copy has none. Missing where an earlier release wrote the
   * state, which keeps none.
   */
  changes?: { from: number; store: string };
  /** The log of this incarnation ends for good with the record at this sequence. */
  sealed?: { at: number; incarnation: string };
  /** Points that have the field, by number; 0 for a field that was dropped. */
  fieldCounts: number[];
  /** What it has of shards that are merged into its own; missing where none are. */
  adoption?: Adoption;
}

/** Shards that are merged into this one, of which it reads what they hold in its own log. */
export interface Adoption {
  sources: readonly AdoptedShard[];
  /** The record with which it had all of them; missing before. */
  wholeAt?: number;
}

export interface AdoptedShard extends SlotRange {
  shard: number;
  /** Of its latest reader: records of readers of before have no effect. */
  term: number;
  /** Number of that reader's last record. */
  part: number;
  /** It was read to the end of its log. */
  isWhole?: boolean;
}

/** The schema as it is stored: the kind tells an older release that it cannot know the field. */
interface StoredSchema extends Pick<Schema, "version" | "nextField"> {
  fields: ((SchemaField | SchemaSparseField) & { kind: string })[];
  /** Missing where a store was made before there were any. */
  payloadIndexes?: SchemaPayloadIndex[];
  nextIndex?: number;
}

const vectorKind = "vector";
const sparseKind = "sparse";
const multiKind = "multi";

export { storeFormat };
/** The first release that reads the format. */
export const storeFormatRelease = "0.2.0";

export function toJson(value: StoreIdentity | StoreState): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}

/** The checksum was verified, so the JSON is what toJson wrote. */
export function fromJson<T extends StoreIdentity | StoreState>(body: Uint8Array): T {
  return parse(body) as T;
}

function parse(body: Uint8Array): unknown {
  return JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString());
}

export function encodeSchema({ version, nextField, fields, sparse, payloadIndexes, nextIndex }: Schema): Uint8Array {
  const stored: StoredSchema = {
    version,
    nextField,
    fields: [
      ...fields.map((field) => ({ ...field, kind: field.multivector === undefined ? vectorKind : multiKind })),
      ...sparse.map((field) => ({ ...field, kind: sparseKind })),
    ],
    payloadIndexes: [...payloadIndexes],
    nextIndex,
  };
  return Buffer.from(JSON.stringify(stored));
}

/** FAILED_PRECONDITION where a field is of a kind that a newer release has brought. */
export function decodeSchema(body: Uint8Array): Schema {
  const { version, nextField, fields, payloadIndexes = [], nextIndex = 0 } = parse(body) as StoredSchema;
  return {
    version,
    nextField,
    payloadIndexes,
    nextIndex,
    fields: fields.flatMap(({ kind, ...field }) => {
      if (kind === vectorKind || kind === multiKind) return [field as SchemaField];
      if (kind === sparseKind) return [];
      throw new KithError(
        "FAILED_PRECONDITION",
        `the store has the field "${field.name}" of the kind ${kind}, which this release does not know: start the release that made the field, or a later one`,
      );
    }),
    sparse: fields.flatMap(({ kind, ...field }) => (kind === sparseKind ? [field as SchemaSparseField] : [])),
  };
}

/** A schema of format 1: its fields, whose numbers were their positions. */
export function decodeFormerSchema(body: Uint8Array): Schema {
  const { fields } = parse(body) as { fields: VectorField[] };
  return initialSchema({ fields: fields.map(currentField) });
}
