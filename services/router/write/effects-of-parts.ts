import type { IdKey, OperationEffect, SlotRange } from "../../../libs/model/index.js";
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
 * What the parts of a call did together. A retry may find its operations applied by shards that have been split or merged since: then each of the shards that
 * have their slots now tells what the operation did to all of them, and it counts once. A part without an outcome (LOG) counts for nothing.
 */
export function effectsOf(results: readonly WriteResult[], parts: readonly PlannedPart[]): Effects {
  const former = formerCuts(results, parts);
  const effects: Effects = { affected: 0, errors: [] };
  results.forEach(({ outcome }, i) => {
    const part = parts[i] as PlannedPart;
    const { positions, segment } = part;
    if (outcome === undefined || outcome.slots !== undefined) return;
    const others = outcome.former ?? [];
    const isTold = former?.get(segment)?.some((cut) => cut.isOfSplit && isWithin(part, cut));
    if (others.length === 0 && isTold === true) return;
    const done = positionsIn(segment, others);
    add(effects, outcome, done.size === 0 ? positions : positions.filter((each) => !done.has(each)));
  });
  for (const cuts of former?.values() ?? []) {
    for (const { effect, positions } of cuts) add(effects, effect, positions);
  }
  effects.errors.sort((a, b) => a.index - b.index);
  return effects;
}

/** Whether all that the part is about is told with the cut. */
function isWithin({ positions, slots }: PlannedPart, cut: FormerCut): boolean {
  if (slots === undefined) return positions.every((each) => cut.covered.has(each));
  return cut.slots.firstSlot <= slots.firstSlot && slots.lastSlot <= cut.slots.lastSlot;
}

function add(effects: Effects, { affected, failures }: Effect, positions: readonly number[]): void {
  effects.affected += affected;
  for (const { index, code, message } of failures) {
    effects.errors.push({ index: positions[index] as number, code, message });
  }
}

type Effect = Pick<OperationEffect, "affected" | "failures">;

/** A part of a segment as it was cut by shards of before. */
interface FormerCut {
  slots: SlotRange;
  /** Whether the shard was split; else it was merged. */
  isOfSplit: boolean;
  effect: Effect;
  /** Of its points, in order. */
  positions: readonly number[];
  covered: ReadonlySet<number>;
}

/** Undefined where all parts are as their shards have applied them. */
function formerCuts(
  results: readonly WriteResult[],
  parts: readonly PlannedPart[],
): Map<Segment, FormerCut[]> | undefined {
  if (results.every(({ outcome }) => outcome?.slots === undefined && outcome?.former === undefined)) return undefined;
  const former = new Map<Segment, FormerCut[]>();
  results.forEach(({ outcome }, i) => {
    if (outcome === undefined) return;
    const { segment } = parts[i] as PlannedPart;
    const cuts = former.get(segment) ?? [];
    former.set(segment, cuts);
    const { slots: own, former: others = [] } = outcome;
    const effects = [
      ...others.map((each) => ({ slots: each.slots, effect: each, isOfSplit: false })),
      ...(own === undefined ? [] : [{ slots: own, effect: outcome, isOfSplit: true }]),
    ];
    for (const [at, { slots, effect, isOfSplit }] of effects.entries()) {
      if (cuts.some((each) => each.slots.firstSlot === slots.firstSlot && each.slots.lastSlot === slots.lastSlot))
        continue;
      // The first that has a slot is the one that has applied it.
      const before = positionsIn(segment, effects.slice(0, at));
      const positions = [...positionsIn(segment, [{ slots }])].filter((each) => !before.has(each));
      cuts.push({ slots, effect, isOfSplit, positions, covered: new Set(positions) });
    }
  });
  return former;
}

/** Those of the points of a segment that are in some hash slots, in order. */
function positionsIn({ ids, positions }: Segment, ranges: readonly { slots: SlotRange }[]): Set<number> {
  if (ranges.length === 0) return new Set();
  return new Set(
    positions.filter((_, row) => {
      const slot = hashSlotOf(ids[row] as IdKey);
      return ranges.some(({ slots }) => slot >= slots.firstSlot && slot <= slots.lastSlot);
    }),
  );
}
