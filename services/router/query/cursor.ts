import { KithError, xxh32 } from "../../../libs/base/index.js";
import { filterToJson } from "../../../libs/filter/index.js";
import { type Filter, type IdKey, isIdKey, type OrderBy, printJson } from "../../../libs/model/index.js";
import type { OrderPlace } from "../../../libs/shard-api/index.js";

/*
 * A cursor says where the next page of a scroll begins: u32 fingerprint of what is scrolled | u8 kind | f64 value (kind 2) | id.
 * It is the text of nobody but the router's, and says nothing of the state that was read.
 */

const byId = 1;
const byValue = 2;
const idAt = 5;
const idOfValueAt = 13;

/** What is scrolled: a cursor of another scroll is refused. */
export function fingerprintOf(collectionId: string, filter: Filter | undefined, orderBy: OrderBy | undefined): number {
  const { key = "", direction = "", startFrom = "" } = orderBy ?? {};
  const text = printJson([
    collectionId,
    filter === undefined ? null : filterToJson(filter),
    key,
    direction,
    String(startFrom),
  ]);
  return xxh32(Buffer.from(text));
}

export function encodeIdCursor(fingerprint: number, id: IdKey): Uint8Array {
  const cursor = Buffer.alloc(idAt + id.length);
  cursor.writeUInt32LE(fingerprint);
  cursor[4] = byId;
  cursor.set(id, idAt);
  return cursor;
}

export function encodePlaceCursor(fingerprint: number, { value, id }: OrderPlace): Uint8Array {
  const cursor = Buffer.alloc(idOfValueAt + id.length);
  cursor.writeUInt32LE(fingerprint);
  cursor[4] = byValue;
  cursor.writeDoubleLE(value, idAt);
  cursor.set(id, idOfValueAt);
  return cursor;
}

/** The id after which the next page begins; undefined at the start. INVALID_ARGUMENT for a cursor of another scroll. */
export function decodeIdCursor(cursor: Uint8Array, fingerprint: number): IdKey | undefined {
  if (cursor.length === 0) return undefined;
  const id = checked(cursor, fingerprint, byId).subarray(idAt);
  if (!isIdKey(id)) throw foreign();
  return Uint8Array.from(id);
}

/** The place after which the next page begins; undefined at the start. INVALID_ARGUMENT for a cursor of another scroll. */
export function decodePlaceCursor(cursor: Uint8Array, fingerprint: number): OrderPlace | undefined {
  if (cursor.length === 0) return undefined;
  const bytes = checked(cursor, fingerprint, byValue);
  const value = bytes.length < idOfValueAt ? Number.NaN : bytes.readDoubleLE(idAt);
  const id = bytes.subarray(idOfValueAt);
  if (!Number.isFinite(value) || !isIdKey(id)) throw foreign();
  return { value, id: Uint8Array.from(id) };
}

function checked(cursor: Uint8Array, fingerprint: number, kind: number): Buffer {
  const bytes = Buffer.from(cursor.buffer, cursor.byteOffset, cursor.byteLength);
  if (bytes.length <= idAt || bytes.readUInt32LE() !== fingerprint || bytes[4] !== kind) throw foreign();
  return bytes;
}

function foreign(): KithError {
  return new KithError(
    "INVALID_ARGUMENT",
    "the cursor is not one of this scroll: of its collection, filter and order; begin again with an empty one",
    { details: { path: "cursor" } },
  );
}
