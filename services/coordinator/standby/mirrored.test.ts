import { expect, test } from "vitest";
import type { Collection, ShardPlacement } from "../../../libs/model/index.js";
import { type MirrorContext, mirrored, shownState } from "./mirrored.js";
import { settled } from "./settle.js";

const nowMs = 1_000_000;

function shardOf(
  shard: number,
  firstSlot: number,
  lastSlot: number,
  more: Partial<ShardPlacement> = {},
): ShardPlacement {
  const replicas = [{ node: "theirs", state: "active" as const, sinceMs: 1 }];
  return { shard, firstSlot, lastSlot, epoch: 1, state: "active", replicas, ...more };
}

function recordOf(shards: ShardPlacement[], more: Partial<Collection> = {}): Collection {
  return {
    ...{ id: "one", name: "films", replicationFactor: 1, epoch: 1, createdAtMs: 0, labels: {}, state: "ready" },
    ...{ nextShard: 10, payloadIndexes: [], schemaVersion: 1, shards },
    fields: [{ name: "", dimension: 4, metric: "l2", datatype: "f32", m: 8, efConstruction: 64, efSearch: 64 }],
    ...more,
  };
}

function context(more: Partial<MirrorContext> = {}): MirrorContext {
  return {
    place: (shards) =>
      shards.map((each) => ({ ...each, replicas: [{ node: "ours", state: "active", sinceMs: nowMs }] })),
    sourcesOf: () => [{ node: "theirs", address: "there:1" }],
    isReady: () => false,
    isCutOff: () => false,
    isResting: () => false,
    nowMs,
    ...more,
  };
}

/** "0 active", in order; with what a shard follows. */
function shown({ shards }: Collection): string[] {
  return shards.map(
    ({ shard, state, origin }) => `${shard} ${state}${origin === undefined ? "" : ` of ${origin.parents.join("+")}`}`,
  );
}

const ready = (...shards: number[]): Partial<MirrorContext> => ({ isReady: ({ shard }) => shards.includes(shard) });
const origin = { parents: [0], ancestors: [0] };
const whole = recordOf([shardOf(0, 0, 99, { operation: "backup" })]);
const split = recordOf(
  [
    shardOf(0, 0, 99, { state: "sealed" }),
    shardOf(1, 0, 49, { origin, epoch: 2 }),
    shardOf(2, 50, 99, { origin, epoch: 2 }),
  ],
  { epoch: 2 },
);

test("a collection has the primary's schema and shards, on nodes of its own", () => {
  const ours = mirrored(whole, undefined, context());
  expect(ours.shards).toEqual([
    {
      ...{ shard: 0, firstSlot: 0, lastSlot: 99, epoch: 1, state: "active" },
      replicas: [{ node: "ours", state: "active", sinceMs: nowMs }],
      sources: [{ node: "theirs", address: "there:1" }],
    },
  ]);
  expect(mirrored({ ...whole, labels: { a: "b" } }, ours, context())).toEqual({ ...ours, labels: { a: "b" } });
});

test("a split is made here when the new shards have what they took over, and in one step", () => {
  const ours = mirrored(whole, undefined, context());
  const begun = mirrored(split, ours, context());
  expect(shown(begun)).toEqual(["0 active", "1 preparing of 0", "2 preparing of 0"]);
  expect(begun.epoch).toBe(1);
  expect(shown(mirrored(split, begun, context(ready(1))))).toEqual(shown(begun));
  const made = mirrored(split, begun, context(ready(1, 2)));
  expect(shown(made)).toEqual(["0 sealed", "1 active of 0", "2 active of 0"]);
  expect([made.epoch, ...made.shards.map(({ epoch }) => epoch)]).toEqual([2, 2, 2, 2]);
  expect(shown(mirrored(split, made, context({ nowMs: nowMs + 60_000 })))).toEqual(["1 active of 0", "2 active of 0"]);
  // Where the primary has undone it, it is undone.
  expect(mirrored(whole, begun, context())).toEqual(ours);
});

test("new shards whose old one cannot be read to its end are copied from the primary", () => {
  const begun = mirrored(split, mirrored(whole, undefined, context()), context());
  const cutOff: Partial<MirrorContext> = { isCutOff: () => true };
  const dropped = mirrored(split, begun, context({ ...cutOff, isResting: () => true }));
  expect(shown(dropped)).toEqual(["0 active"]);
  const again = mirrored(split, dropped, context(cutOff));
  // Not of the old one: they follow a log of their own.
  expect(shown(again)).toEqual(["0 active", "1 preparing", "2 preparing"]);
  expect(shown(mirrored(split, again, context({ ...cutOff, ...ready(1, 2) })))).toEqual([
    "0 sealed",
    "1 active of 0",
    "2 active of 0",
  ]);
});

test("a merge is made here when its shard is whole", () => {
  const merge = { beginsBehind: 1_000, ends: { parents: [{ shard: 1, sequence: 5 }], adopted: 1_010 } };
  const theirs = recordOf([shardOf(3, 0, 99, { origin: { parents: [1, 2], ancestors: [0, 1, 2], merge } })], {
    epoch: 3,
  });
  const ours = recordOf([shardOf(1, 0, 49), shardOf(2, 50, 99)], { epoch: 2 });
  const begun = mirrored(theirs, ours, context());
  expect(shown(begun)).toEqual(["1 active", "2 active", "3 preparing of 1+2"]);
  expect(begun.shards[2]?.origin?.merge).toEqual({ beginsBehind: 1_000 });
  const made = mirrored(theirs, begun, context(ready(3)));
  expect(shown(made)).toEqual(["1 sealed", "2 sealed", "3 active of 1+2"]);
  expect(made.shards[2]?.origin?.merge).toEqual(merge);
});

test("what the primary was at when it was lost goes on where the old log has its end, and is undone else", async () => {
  const begun = mirrored(split, mirrored(whole, undefined, context()), context());
  const undone = await settled(begun, () => Promise.resolve(undefined));
  expect(shown(undone.record)).toEqual(["0 active"]);
  expect([undone.operations, undone.dropped]).toEqual([[], [1, 2]]);
  const goesOn = await settled(begun, () => Promise.resolve(77));
  expect(shown(goesOn.record)).toEqual(shown(begun));
  expect(
    goesOn.record.shards.every(
      ({ operation, sources }) => operation === "split-one-0-promoted" && sources === undefined,
    ),
  ).toBe(true);
  expect(goesOn.operations).toMatchObject([
    {
      kind: "split_shard",
      step: "switch",
      data: {
        children: [1, 2],
        sealedAt: 77,
        ranges: [
          { firstSlot: 0, lastSlot: 49 },
          { firstSlot: 50, lastSlot: 99 },
        ],
      },
    },
  ]);
  const made = mirrored(split, begun, context(ready(1, 2)));
  const switched = await settled(made, () => Promise.resolve(undefined));
  expect([shown(switched.record), switched.dropped]).toEqual([["1 active of 0", "2 active of 0"], [0]]);
  const merging = recordOf([
    shardOf(1, 0, 49),
    shardOf(2, 50, 99),
    shardOf(3, 0, 99, {
      state: "preparing",
      origin: { parents: [1, 2], ancestors: [1, 2], merge: { beginsBehind: 9 } },
    }),
  ]);
  const merged = await settled(merging, (shard) => Promise.resolve(shard === 2 ? 8 : undefined));
  expect(merged.operations).toMatchObject([
    { kind: "merge_shards", step: "seal", data: { parents: [1, 2], child: 3 } },
  ]);
  expect(shown((await settled(merging, () => Promise.resolve(undefined))).record)).toEqual(["1 active", "2 active"]);
});

test("only a shard whose slots nobody else has stands in the way of a promotion while it is copied", () => {
  expect(shownState("following", "active", false)).toBe("copying");
  expect(shownState("following", "preparing", false)).toBe("preparing");
  expect(shownState("following", "active", true)).toBe("following");
  expect(shownState("failed", "active", false)).toBe("failed");
});
