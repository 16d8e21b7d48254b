import { abortReason, type Cancellation, KithError, limits } from "../base/index.js";
import type { IdKey } from "../model/index.js";
import { type Head, partKind } from "./head.js";

/** What one read of many points may bring into memory before it is looked at, in bytes. */
const readBytes = 16 * 1024 * 1024;

/** A vector field as the store addresses it. */
export interface StoredField {
  /** 0..255, never reused within a replica. */
  number: number;
  /** 0 of a sparse one. */
  dimension: number;
  /** Missing: dense. */
  isSparse?: boolean;
}

/** What to read of points, besides their heads. */
export interface PointParts {
  payload: boolean;
  fields: readonly StoredField[];
}

export function throwIfAborted(signal: Cancellation | undefined): void {
  if (signal?.aborted) throw abortReason(signal);
}

/** Bytes of vectors and payload of a point, of those that are asked for. */
export function contentBytes(head: Head, parts: PointParts): number {
  let bytes = parts.payload ? head.payloadBytes : 0;
  for (const field of parts.fields) bytes += vectorBytes(head, field);
  return bytes;
}

/** Bytes of the vector that a point has of a field; 0 where it has none. */
export function vectorBytes(head: Head, { number, dimension, isSparse }: StoredField): number {
  if (isSparse === true) return head.lengthOf(partKind.sparse, number);
  return head.hasVector(number) ? dimension * 4 : 0;
}

/** The most that contentBytes can be. */
export function pointBytesMax({ payload, fields }: PointParts): number {
  const all = fields.reduce(
    (sum, { dimension, isSparse }) => sum + (isSparse === true ? limits.sparseEntries * 8 : dimension * 4),
    payload ? limits.payloadBytes : 0,
  );
  return Math.min(all, limits.pointBytes);
}

/** How many items of at most so many bytes surely fit into readBytes. */
export function rowsAtOnce(itemBytesMax: number): number {
  return Math.floor(readBytes / Math.max(1, itemBytesMax));
}

/** Reads `rows` at a time, until all are read or they are more than a message can hold: BATCH_TOO_LARGE. */
export async function inChunks<T>(
  ids: readonly IdKey[],
  rows: number,
  read: (ids: readonly IdKey[]) => Promise<(T | undefined)[]>,
  bytesOf: (item: T) => number,
  signal: Cancellation | undefined,
): Promise<(T | undefined)[]> {
  const items: (T | undefined)[] = [];
  let sizeBytes = 0;
  for (let from = 0; from < ids.length; from += rows) {
    throwIfAborted(signal);
    for (const item of await read(ids.slice(from, from + rows))) {
      items.push(item);
      if (item !== undefined) sizeBytes += bytesOf(item);
    }
    if (sizeBytes > limits.messageBytes) {
      throw new KithError(
        "BATCH_TOO_LARGE",
        `the first ${items.length} of ${ids.length} points hold ${sizeBytes} bytes; at most ${limits.messageBytes} are sent: ` +
          "ask for fewer points, or without vectors or payloads",
        { details: { sizeBytes, limitBytes: limits.messageBytes } },
      );
    }
  }
  return items;
}
