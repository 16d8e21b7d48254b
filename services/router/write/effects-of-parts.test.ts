import { expect, test } from "vitest";
import type { OperationEffect } from "../../../libs/model/index.js";
import { effectsOf } from "./effects-of-parts.js";
import type { PlannedPart } from "./planned-write.js";

/** What a write did is what all its shards did, however these have been split since. */

const segment = { ids: [], positions: [] };

/** A write by filter, of every shard. */
function byFilter(shard: number, firstSlot: number, lastSlot: number): PlannedPart {
  const target = { ids: [], filter: new Uint8Array(1), expectedVersions: [], onlyIf: new Uint8Array(0) };
  const mutation: PlannedPart["mutation"] = { $case: "clearPayload", value: { target } };
  return { shard, segment, sizeBytes: 1, isAlone: true, positions: [], slots: { firstSlot, lastSlot }, mutation };
}

const did = (affected: number, more: Partial<OperationEffect> = {}) => ({
  sequence: 1,
  outcome: { affected, failures: [], ...more },
});

test("a write by filter counts what shards did that were not split, and what a split one did once", () => {
  const slots = { firstSlot: 0, lastSlot: 99 };
  const parts = [byFilter(1, 0, 49), byFilter(2, 50, 99), byFilter(3, 100, 199)];
  const results = [did(2, { slots }), did(2, { slots }), did(5)];
  expect(effectsOf(results, parts)).toEqual({ affected: 7, errors: [] });
  expect(effectsOf([...results].reverse(), [...parts].reverse())).toEqual({ affected: 7, errors: [] });
});

test("a shard that has the slots of a split one by itself does not count again", () => {
  const slots = { firstSlot: 0, lastSlot: 99 };
  const parts = [byFilter(1, 0, 49), byFilter(2, 50, 99)];
  expect(effectsOf([did(3, { slots }), did(0)], parts)).toEqual({ affected: 3, errors: [] });
});

test("shards that were not split count as they are", () => {
  expect(effectsOf([did(1), did(2)], [byFilter(0, 0, 9), byFilter(1, 10, 19)])).toEqual({ affected: 3, errors: [] });
});
