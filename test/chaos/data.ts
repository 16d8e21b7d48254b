import type { PointInput } from "../../libs/client/index.js";
import { idFromNum } from "../../libs/model/index.js";
import { evenRanges, hashSlotOf } from "../../libs/sharding/index.js";

export const dimension = 16;

/** What a point carries: the serial of the write that made it. */
export interface Stamp extends Record<string, unknown> {
  serial: number;
}

/** A reproducible vector of a point by the write that made it. */
export function vectorOf(id: number, serial: number): Float32Array {
  const vector = new Float32Array(dimension);
  let state = (id * 2_654_435_761 + serial * 40_503 + 1) >>> 0;
  for (let i = 0; i < dimension; i++) {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
    vector[i] = state / 2 ** 31 - 1;
  }
  return vector;
}

export function pointOf(id: number, serial: number): PointInput<Stamp> {
  return { id, vector: vectorOf(id, serial), payload: { serial } };
}

/** The shard of an id in a collection that was made with so many and was never split. */
export function shardOf(id: number, shards: number): number {
  const slot = hashSlotOf(idFromNum(id));
  return evenRanges(shards).findIndex(({ firstSlot, lastSlot }) => slot >= firstSlot && slot <= lastSlot);
}
