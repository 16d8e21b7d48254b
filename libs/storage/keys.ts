/**
 * The key families of a replica's database. One byte names the family; ids are in key form (order of bytes = order of
 * ids), numbers are big-endian, so that LevelDB's order is the order in which we read. Part of the data format: see
 * docs/format.md.
 *
 *     0x00 name                  meta: identity, schema, state, synced
 *     0x01 id                    head: version, slot, and which parts the point has
 *     0x02 field(1) id           dense vector: little-endian f32
 *     0x03 id                    payload: JSON text
 *     0x04 sequence(8)           what the operations of one record did
 *     0x05 field(1) id           sparse vector: little-endian u32 indices, then f32 values
 *     0x06 field(1) id           kept for texts
 *     0x07 field(1) id           matrix: rows of little-endian f32
 *     0x08 sequence(8) part(4)   which points one record changed
 */
export const family = {
  meta: 0,
  head: 1,
  vector: 2,
  payload: 3,
  outcome: 4,
  sparse: 5,
  text: 6,
  multi: 7,
  change: 8,
} as const;

/** Of dense vectors, and of matrices. */
type VectorFamily = typeof family.vector | typeof family.multi;

export interface KeyRange {
  gte: Uint8Array;
  lt: Uint8Array;
}

export function metaKey(name: string): Uint8Array {
  return prefixed([family.meta], Buffer.from(name, "latin1"));
}

export function headKey(id: Uint8Array): Uint8Array {
  return prefixed([family.head], id);
}

export function vectorKey(field: number, id: Uint8Array, kind: VectorFamily = family.vector): Uint8Array {
  return prefixed([kind, field], id);
}

export function sparseKey(field: number, id: Uint8Array): Uint8Array {
  return prefixed([family.sparse, field], id);
}

export function payloadKey(id: Uint8Array): Uint8Array {
  return prefixed([family.payload], id);
}

export function outcomeKey(sequence: number): Uint8Array {
  const key = Buffer.allocUnsafe(9);
  key[0] = family.outcome;
  key.writeBigUInt64BE(BigInt(sequence), 1);
  return key;
}

export function outcomeSequence(key: Uint8Array): number {
  return Number(Buffer.from(key.buffer, key.byteOffset, key.byteLength).readBigUInt64BE(1));
}

export function changeKey(sequence: number, part: number): Uint8Array {
  const key = Buffer.allocUnsafe(13);
  key[0] = family.change;
  key.writeBigUInt64BE(BigInt(sequence), 1);
  key.writeUInt32BE(part, 9);
  return key;
}

/** Of the changes of records from `from` to before `to`; of `from` itself those in its parts from `fromPart` on. */
export function changeRange(from: number, to: number, fromPart = 0): KeyRange {
  return { gte: changeKey(from, fromPart), lt: changeKey(to, 0) };
}

export const headRange: KeyRange = { gte: Buffer.from([family.head]), lt: Buffer.from([family.head + 1]) };
export const wholeRange: KeyRange = { gte: Buffer.from([family.meta]), lt: Buffer.from([family.multi + 1]) };
/** With which points records have changed. */
export const wholeRangeWithChanges: KeyRange = {
  gte: wholeRange.gte,
  lt: Buffer.from([family.change + 1]),
};
export const outcomeRange: KeyRange = { gte: Buffer.from([family.outcome]), lt: Buffer.from([family.outcome + 1]) };

export const payloadRange: KeyRange = { gte: Buffer.from([family.payload]), lt: Buffer.from([family.payload + 1]) };

export function vectorRange(field: number, kind: VectorFamily = family.vector): KeyRange {
  return fieldRange(kind, field);
}

export function sparseRange(field: number): KeyRange {
  return fieldRange(family.sparse, field);
}

function fieldRange(first: number, field: number): KeyRange {
  const next = field === 255 ? [first + 1] : [first, field + 1];
  return { gte: Buffer.from([first, field]), lt: Buffer.from(next) };
}

function prefixed(prefix: readonly number[], rest: Uint8Array): Uint8Array {
  const key = Buffer.allocUnsafe(prefix.length + rest.length);
  for (let i = 0; i < prefix.length; i++) key[i] = prefix[i] as number;
  key.set(rest, prefix.length);
  return key;
}
