import { KithError } from "../../../libs/base/index.js";
import { xxh32 } from "../../../libs/hash/index.js";
import { filterToJson } from "../../../libs/filter/index.js";
import { type Filter, type IdKey, isIdKey, type OrderBy, printJson } from "../../../libs/model/index.js";
import type { OrderPlace } from "../../../libs/shard-api/index.js";

/*
 * A cursor says where the next page of a scroll begins: u32 hash of the collection's id | u32 hash of filter and order | u8 kind |
 * f64 value (kind 2) | id. It is the text of nobody but the router's, and says nothing of the state that was read.
 */

const byId = 1;
const byValue = 2;
const kindAt = 8;
const idAt = 9;
const idOfValueAt = 17;

/** What is scrolled: a cursor of another scroll is refused. */
export interface ScrollMark {
  collection: number;
  scroll: number;
}

export function scrollMark(
  collectionId: string,
  filter: Filter | undefined,
  orderBy: OrderBy | undefined,
  partition?: string,
): ScrollMark {
  const { key = "", direction = "", startFrom = "" } = orderBy ?? {};
  const asked = filter === undefined ? null : filterToJson(filter);
  const ofPartition = partition === undefined ? [] : [partition];
  const text = printJson([asked, key, direction, String(startFrom), ...ofPartition]);
  return { collection: xxh32(Buffer.from(collectionId)), scroll: xxh32(Buffer.from(text)) };
}

export function encodeIdCursor(mark: ScrollMark, id: IdKey): Uint8Array {
  const cursor = Buffer.alloc(idAt + id.length);
  writeMark(cursor, mark, byId);
  cursor.set(id, idAt);
  return cursor;
}

export function encodePlaceCursor(mark: ScrollMark, { value, id }: OrderPlace): Uint8Array {
  const cursor = Buffer.alloc(idOfValueAt + id.length);
  writeMark(cursor, mark, byValue);
  cursor.writeDoubleLE(value, idAt);
  cursor.set(id, idOfValueAt);
  return cursor;
}

/**
 * The id after which the next page begins; undefined at the start. INVALID_ARGUMENT for a cursor of another scroll,
 * COLLECTION_NOT_FOUND where its collection is no more and another one has the name.
 */
export function decodeIdCursor(cursor: Uint8Array, mark: ScrollMark): IdKey | undefined {
  if (cursor.length === 0) return undefined;
  const id = checked(cursor, mark, byId).subarray(idAt);
  if (!isIdKey(id)) throw foreign();
  return Uint8Array.from(id);
}

/**
 * The place after which the next page begins; undefined at the start. INVALID_ARGUMENT for a cursor of another scroll,
 * COLLECTION_NOT_FOUND where its collection is no more and another one has the name.
 */
export function decodePlaceCursor(cursor: Uint8Array, mark: ScrollMark): OrderPlace | undefined {
  if (cursor.length === 0) return undefined;
  const bytes = checked(cursor, mark, byValue);
  const value = bytes.length < idOfValueAt ? Number.NaN : bytes.readDoubleLE(idAt);
  const id = bytes.subarray(idOfValueAt);
  if (!Number.isFinite(value) || !isIdKey(id)) throw foreign();
  return { value, id: Uint8Array.from(id) };
}

function writeMark(cursor: Buffer, { collection, scroll }: ScrollMark, kind: number): void {
  cursor.writeUInt32LE(collection);
  cursor.writeUInt32LE(scroll, 4);
  cursor[kindAt] = kind;
}

function checked(cursor: Uint8Array, { collection, scroll }: ScrollMark, kind: number): Buffer {
  const bytes = Buffer.from(cursor.buffer, cursor.byteOffset, cursor.byteLength);
  if (bytes.length <= idAt || bytes.readUInt32LE(4) !== scroll || bytes[kindAt] !== kind) throw foreign();
  if (bytes.readUInt32LE() === collection) return bytes;
  throw new KithError(
    "COLLECTION_NOT_FOUND",
    "the collection of the cursor is no more, and another one has its name: begin again with an empty cursor",
  );
}

function foreign(): KithError {
  return new KithError(
    "INVALID_ARGUMENT",
    "the cursor is not one of this scroll: of its collection, filter and order; begin again with an empty one",
    { details: { path: "cursor" } },
  );
}
