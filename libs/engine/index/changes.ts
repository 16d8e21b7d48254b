import type { TouchedPoint } from "../apply/write-set.js";

/**
 * What one batch of records changes in the rows of the indexes, in columns: position i of the slots belongs to position i of
 * the points. A point that is overwritten dies under its old slot and comes back under a new one.
 */
export class RowChanges {
  readonly insertedSlots: number[] = [];
  /** What `upsert` and `row` say is the point's content. */
  readonly insertedPoints: TouchedPoint[] = [];
  readonly tombstoneSlots: number[] = [];
  /** `before` is the point as it was under the slot that died. */
  readonly tombstonePoints: TouchedPoint[] = [];

  insert(slot: number, point: TouchedPoint): void {
    this.insertedSlots.push(slot);
    this.insertedPoints.push(point);
  }

  tombstone(slot: number, point: TouchedPoint): void {
    this.tombstoneSlots.push(slot);
    this.tombstonePoints.push(point);
  }
}
