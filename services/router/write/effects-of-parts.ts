import type { OperationEffect, SlotRange } from "../../../libs/model/index.js";
import { hashSlotOf } from "../../../libs/sharding/index.js";
import type { pb } from "../../../libs/wire/index.js";
import type { PlannedPart } from "./planned-write.js";
import type { Segment } from "./point-batch.js";
import type { WriteResult } from "./write-lane.js";

/** What a call did: the points that it has written, and the errors of single ones, at the positions that the client knows. */
export interface Effects {
  affected: number;
  errors: pb.ItemError[];
}

/**
 * What the parts of a call did together. A retry may find its operations applied by a shard that has been split since: then each of the shards that
 * have its slots now tells what the operation did to all of them, and it counts once. A part without an outcome (LOG) counts for nothing.
 */
export function effectsOf(results: readonly WriteResult[], parts: readonly PlannedPart[]): Effects {
  const former = formerCuts(results, parts);
  const effects: Effects = { affected: 0, errors: [] };
  results.forEach(({ outcome }, i) => {
    const { positions, segment } = parts[i] as PlannedPart;
    if (outcome === undefined || outcome.slots !== undefined) return;
    const isTold = former?.get(segment)?.some(({ covered }) => positions.every((each) => covered.has(each)));
    if (isTold !== true) add(effects, outcome, positions);
  });
  for (const cuts of former?.values() ?? []) {
    for (const { outcome, positions } of cuts) add(effects, outcome, positions);
  }
  effects.errors.sort((a, b) => a.index - b.index);
  return effects;
}

function add(effects: Effects, { affected, failures }: OperationEffect, positions: readonly number[]): void {
  effects.affected += affected;
  for (const { index, code, message } of failures) {
    effects.errors.push({ index: positions[index] as number, code, message });
  }
}

/** A part of a segment as it was cut by shards of before. */
interface FormerCut {
  slots: SlotRange;
  outcome: OperationEffect;
  /** Of its points, in order. */
  positions: readonly number[];
  covered: ReadonlySet<number>;
}

/** Undefined where all parts are as their shards have applied them. */
function formerCuts(
  results: readonly WriteResult[],
  parts: readonly PlannedPart[],
): Map<Segment, FormerCut[]> | undefined {
  if (results.every(({ outcome }) => outcome?.slots === undefined)) return undefined;
  const former = new Map<Segment, FormerCut[]>();
  results.forEach(({ outcome }, i) => {
    if (outcome?.slots === undefined) return;
    const { slots } = outcome;
    const { segment } = parts[i] as PlannedPart;
    const cuts = former.get(segment) ?? [];
    former.set(segment, cuts);
    if (cuts.some((each) => each.slots.firstSlot === slots.firstSlot && each.slots.lastSlot === slots.lastSlot)) return;
    const positions = segment.positions.filter((_, row) => {
      const slot = hashSlotOf(segment.ids[row] as (typeof segment.ids)[number]);
      return slot >= slots.firstSlot && slot <= slots.lastSlot;
    });
    cuts.push({ slots, outcome, positions, covered: new Set(positions) });
  });
  return former;
}
