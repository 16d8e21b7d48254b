import { assert } from "../../base/index.js";
import { type Part, type PartKind, partKind, type WriteBatch } from "../../storage/index.js";
import { RowChanges } from "../index/changes.js";
import { type NamedField, type Schema, vectorFieldsOf } from "../recover/schema.js";
import type { OpenReplica } from "../replica/open-replica.js";
import { addHash, partHash, pointHash, subtractHash } from "../../hash/index.js";
import {
  bytesAt,
  columnOf,
  sparseColumnOf,
  expiryOf,
  payloadOf,
  type PreparedUpsert,
  type TouchedPoint,
  vectorOf,
  type WrittenPart,
} from "./write-set.js";

/** Puts the final state of the points that a batch of records touches into a LevelDB batch, and sums up what changes. */
export class FinalState {
  readonly rows = new RowChanges();
  /** Points that have the field, by number; of fields of the schema alone. */
  readonly fieldCounts: number[];
  digest: bigint;
  readonly #replica: OpenReplica;
  readonly #batch: WriteBatch;
  readonly #isKept: boolean[] = [];
  /** In order of name, as the content hash wants them: those whose parts come before the payload, and those behind it. */
  readonly #dense: readonly NamedField[];
  readonly #sparse: readonly NamedField[];

  /**
   * @param schema as the records leave it
   * @param isTruncated whether all points of before are gone, and out of the write set
   */
  constructor(replica: OpenReplica, batch: WriteBatch, schema: Schema, isTruncated: boolean) {
    this.#replica = replica;
    this.#batch = batch;
    this.digest = isTruncated ? 0n : replica.digest;
    // Points may still name fields that were dropped since they were written; those count no more.
    this.fieldCounts = new Array<number>(schema.nextField).fill(0);
    const fields = [...vectorFieldsOf(schema)].sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const { number } of fields) {
      this.fieldCounts[number] = isTruncated ? 0 : (replica.fieldCounts[number] ?? 0);
      this.#isKept[number] = true;
    }
    this.#dense = fields.filter(({ kind }) => kind !== partKind.sparse);
    this.#sparse = fields.filter(({ kind }) => kind === partKind.sparse);
  }

  put(point: TouchedPoint): void {
    if (!point.changed) return;
    const { before, upsert, edit } = point;
    if (!point.live) this.#remove(point);
    else if (upsert !== undefined) this.#replace(point, upsert);
    else if (before === undefined) throw new TypeError("a point is alive that was neither stored nor written");
    else if (edit?.vectors !== undefined) this.#replace(point, undefined);
    else this.#keep(point);
  }

  #remove(point: TouchedPoint): void {
    this.#bury(point, []);
    if (point.before !== undefined) this.#batch.deleteHead(point.id);
  }

  /** The point dies under its old slot and comes back under a new one. */
  #replace(point: TouchedPoint, upsert: PreparedUpsert | undefined): void {
    const { id, version, edit } = point;
    const parts = upsert === undefined || edit !== undefined ? this.#parts(point) : this.#putUpsert(point, upsert);
    this.#bury(point, parts);
    const slot = this.#replica.slots.allocate();
    this.rows.insert(slot, point);
    for (const { kind, field } of parts) if (kind !== partKind.payload) this.#count(field, 1);
    const slotVersion = edit?.vectorsVersion ?? upsert?.version ?? version;
    this.#putHead(id, version, slot, slotVersion, expiryOf(point), parts);
  }

  /** The point keeps its slot: its vectors are what they were. */
  #keep(point: TouchedPoint): void {
    const { id, version, before, edit } = point;
    assert(before !== undefined, "a point keeps a slot that it never had");
    const parts = this.#parts(point);
    this.#deleteOthers(point, parts);
    this.digest = subtractHash(this.digest, before.contentHash);
    if (edit?.payload === undefined) this.rows.restamp(before.slot, point);
    else this.rows.update(before.slot, point);
    this.#putHead(id, version, before.slot, before.slotVersion, expiryOf(point), parts);
  }

  /** What the point was before: its slot dies, and so do those of its parts that it has no more. */
  #bury(point: TouchedPoint, parts: readonly Part[]): void {
    const { before } = point;
    if (before === undefined) return;
    this.digest = subtractHash(this.digest, before.contentHash);
    this.rows.tombstone(before.slot, point);
    before.forEachPart((kind, field) => {
      if (kind !== partKind.payload) this.#count(field, -1);
    });
    this.#deleteOthers(point, parts);
  }

  #deleteOthers({ id, before }: TouchedPoint, parts: readonly Part[]): void {
    before?.forEachPart((kind, field) => {
      for (const part of parts) if (part.kind === kind && part.field === field) return;
      deletePart(this.#batch, id, kind, field);
    });
  }

  #putHead(
    id: Uint8Array,
    version: number,
    slot: number,
    slotVersion: number,
    expiresAtMs: number | undefined,
    parts: readonly Part[],
  ): void {
    const contentHash = pointHash(id, version, expiresAtMs, parts);
    this.digest = addHash(this.digest, contentHash);
    this.#batch.putHead(id, { version, slot, slotVersion, expiresAtMs, contentHash, parts });
  }

  /** Puts what an upsert brings for a point, and gives its parts in order of kind and name. */
  #putUpsert(point: TouchedPoint, { version, columns, sparse, payloadSeed }: PreparedUpsert): Part[] {
    const { id, row } = point;
    const parts: Part[] = [];
    for (const column of columns) {
      const { number, seed, kind } = column;
      const bytes = bytesAt(column, row);
      this.#batch.putVector(number, id, version, bytes, kind);
      const length = kind === partKind.vector ? 0 : bytes.length;
      parts.push({ kind, field: number, version, length, hash: partHash(seed, bytes) });
    }
    const payload = payloadOf(point);
    if (payload.length > 0) {
      this.#batch.putPayload(id, version, payload);
      const hash = partHash(payloadSeed, payload);
      parts.push({ kind: partKind.payload, field: 0, version, length: payload.length, hash });
    }
    for (const { number, seed, vectors } of sparse) {
      const bytes = vectors[row];
      if (bytes === undefined) continue;
      this.#batch.putSparse(number, id, version, bytes);
      parts.push({ kind: partKind.sparse, field: number, version, length: bytes.length, hash: partHash(seed, bytes) });
    }
    return inOrder(parts);
  }

  /** Puts those parts that were written, and gives all that the point has, in order of kind and name. */
  #parts(point: TouchedPoint): Part[] {
    const { id, edit, upsert, before } = point;
    const stored = upsert === undefined ? before?.parts() : undefined;
    const parts: Part[] = [];
    const add = (kind: PartKind, field: number, written: WrittenPart | undefined, isWritten: boolean): void => {
      if (!isWritten) {
        // Of a field that was dropped meanwhile nothing is kept: the walk is over the fields of the schema.
        const part = stored?.find((each) => each.kind === kind && each.field === field);
        if (part !== undefined) parts.push(part);
        return;
      }
      if (written === undefined) return;
      const { version, bytes, seed } = written;
      if (kind === partKind.vector || kind === partKind.multi) {
        this.#batch.putVector(field, id, version, bytes, kind);
      } else if (kind === partKind.sparse) this.#batch.putSparse(field, id, version, bytes);
      else this.#batch.putPayload(id, version, bytes);
      const length = kind === partKind.vector ? 0 : bytes.length;
      parts.push({ kind, field, version, length, hash: partHash(seed, bytes) });
    };
    const addField = ({ number, kind }: NamedField): void => {
      const isEdited = edit?.vectors?.has(number) === true;
      add(kind, number, writtenVector(point, number), isEdited || upsert !== undefined);
    };
    this.#dense.forEach(addField);
    const payload = writtenPayload(point);
    add(partKind.payload, 0, payload?.bytes.length === 0 ? undefined : payload, payload !== undefined);
    this.#sparse.forEach(addField);
    return inOrder(parts);
  }

  #count(field: number, by: number): void {
    if (this.#isKept[field] === true) this.fieldCounts[field] = (this.fieldCounts[field] ?? 0) + by;
  }
}

/** The vector that the records wrote; undefined where it is what is stored, or gone. */
function writtenVector(point: TouchedPoint, number: number): WrittenPart | undefined {
  const { edit, upsert } = point;
  if (edit?.vectors?.has(number) === true) return edit.vectors.get(number);
  if (upsert === undefined) return undefined;
  const column = columnOf(upsert, number) ?? sparseColumnOf(upsert, number);
  const bytes = column && vectorOf(point, number);
  return bytes && column && { version: upsert.version, bytes, seed: column.seed };
}

/** Parts of vectors and matrices, by name, and the payload, in the order of the content hash: by kind, and by name. */
function inOrder(parts: Part[]): Part[] {
  for (const { kind } of parts) if (kind === partKind.multi) return parts.sort((a, b) => a.kind - b.kind);
  return parts;
}

/** The payload that the records wrote; undefined where it is what is stored. */
function writtenPayload(point: TouchedPoint): WrittenPart | undefined {
  const { edit, upsert } = point;
  if (edit?.payload !== undefined) return edit.payload;
  return upsert && { version: upsert.version, bytes: payloadOf(point), seed: upsert.payloadSeed };
}

function deletePart(batch: WriteBatch, id: Uint8Array, kind: PartKind, field: number): void {
  if (kind === partKind.payload) return batch.deletePayload(id);
  if (kind === partKind.sparse) return batch.deleteSparse(field, id);
  assert(kind === partKind.vector || kind === partKind.multi, `a point has a part of the unknown kind ${kind}`);
  batch.deleteVector(field, id, kind);
}
