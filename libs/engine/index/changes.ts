import { parsePayload } from "../../filter/index.js";
import type { JsonObject } from "../../model/index.js";
import { payloadOf, type TouchedPoint } from "../apply/write-set.js";

/**
 * What one batch of records changes in the rows of the indexes, in columns: position i of the slots belongs to position i of
 * the points. A point whose vectors change dies under its old slot and comes back under a new one. A point of which only the
 * payload changes keeps its slot, and is updated there; one of which only version or expiry change is restamped.
 */
export class RowChanges {
  readonly insertedSlots: number[] = [];
  /** `vectorOf` and `payloadOf` (write-set.ts) give the point's content. */
  readonly insertedPoints: TouchedPoint[] = [];
  readonly tombstoneSlots: number[] = [];
  /** `before` is the point as it was under the slot that died. */
  readonly tombstonePoints: TouchedPoint[] = [];
  readonly updatedSlots: number[] = [];
  /** `payloadBefore` and `payloadOf` (write-set.ts) give the payload that went, and the one that came. */
  readonly updatedPoints: TouchedPoint[] = [];
  readonly restampedSlots: number[] = [];
  readonly restampedPoints: TouchedPoint[] = [];
  readonly #parsed = new Map<TouchedPoint, JsonObject>();
  #deadPayloads: Uint32Array | undefined;

  /** The payload of a point that was inserted or updated: parsed once, whoever asks for it. */
  parsed(point: TouchedPoint): JsonObject {
    let payload = this.#parsed.get(point);
    if (payload === undefined) this.#parsed.set(point, (payload = parsePayload(payloadOf(point))));
    return payload;
  }

  /** The slots that die of points with a payload. To be asked when all changes are in. */
  get deadPayloads(): Uint32Array {
    // Each index of a field asks: five of them spent 144 ms on finding it out, of a deletion of 48,000 points.
    this.#deadPayloads ??= Uint32Array.from(
      this.tombstoneSlots.filter((_, i) => (this.tombstonePoints[i]?.before?.payloadBytes ?? 0) > 0),
    );
    return this.#deadPayloads;
  }

  get size(): number {
    const { insertedSlots, tombstoneSlots, updatedSlots, restampedSlots } = this;
    return insertedSlots.length + tombstoneSlots.length + updatedSlots.length + restampedSlots.length;
  }

  /** The same changes, about so many at a time; what a point's row loses and gains may be in different pieces. */
  *pieces(rows: number): Generator<RowChanges> {
    for (let from = 0; from < this.insertedSlots.length; from += rows) {
      const piece = new RowChanges();
      copy(this.insertedSlots, piece.insertedSlots, from, rows);
      copy(this.insertedPoints, piece.insertedPoints, from, rows);
      yield piece;
    }
    for (let from = 0; from < this.tombstoneSlots.length; from += rows) {
      const piece = new RowChanges();
      copy(this.tombstoneSlots, piece.tombstoneSlots, from, rows);
      copy(this.tombstonePoints, piece.tombstonePoints, from, rows);
      yield piece;
    }
    for (let from = 0; from < this.updatedSlots.length; from += rows) {
      const piece = new RowChanges();
      copy(this.updatedSlots, piece.updatedSlots, from, rows);
      copy(this.updatedPoints, piece.updatedPoints, from, rows);
      yield piece;
    }
    for (let from = 0; from < this.restampedSlots.length; from += rows) {
      const piece = new RowChanges();
      copy(this.restampedSlots, piece.restampedSlots, from, rows);
      copy(this.restampedPoints, piece.restampedPoints, from, rows);
      yield piece;
    }
  }

  insert(slot: number, point: TouchedPoint): void {
    this.insertedSlots.push(slot);
    this.insertedPoints.push(point);
  }

  tombstone(slot: number, point: TouchedPoint): void {
    this.tombstoneSlots.push(slot);
    this.tombstonePoints.push(point);
  }

  update(slot: number, point: TouchedPoint): void {
    this.updatedSlots.push(slot);
    this.updatedPoints.push(point);
  }

  restamp(slot: number, point: TouchedPoint): void {
    this.restampedSlots.push(slot);
    this.restampedPoints.push(point);
  }
}

function copy<T>(from: readonly T[], to: T[], begin: number, count: number): void {
  for (let i = begin; i < Math.min(from.length, begin + count); i++) to.push(from[i] as T);
}
