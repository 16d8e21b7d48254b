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
  /** Whether a point has a matrix there, of rows of the dimension. */
  multivector?: string | undefined;
}

/** What a vector of the field is among the parts of a point. */
export function partKindOf({
  multivector,
}: Pick<StoredField, "multivector">): typeof partKind.vector | typeof partKind.multi {
  return multivector === undefined ? partKind.vector : partKind.multi;
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
  for (const field of parts.fields) bytes += head.vectorBytes(field);
  return bytes;
}

/** The most that contentBytes can be. */
export function pointBytesMax({ payload, fields }: PointParts): number {
  const most = ({ dimension, isSparse, multivector }: StoredField): number => {
    if (isSparse === true) return limits.sparseEntries * 8;
    return multivector === undefined ? dimension * 4 : limits.pointBytes;
  };
  const all = fields.reduce((sum, field) => sum + most(field), payload ? limits.payloadBytes : 0);
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
