import fc from "fast-check";
import { expect, test } from "vitest";
import { type ReplicaPlacementState, idFromName, idFromNum, idFromUuid, partitionedId } from "../model/index.js";
import {
  evenRanges,
  hashSlotCount,
  hashSlotOf,
  hashSlotOfPartition,
  rangesAround,
  newShards,
  placeReplicas,
  slotTable,
} from "./index.js";

test("hash slots are part of the data format: fixed vectors", () => {
  expect(hashSlotOf(idFromNum(0))).toMatchInlineSnapshot(`11500`);
  expect(hashSlotOf(idFromNum(18_446_744_073_709_551_615n))).toMatchInlineSnapshot(`9482`);
  expect(hashSlotOf(idFromUuid("00000000-0000-4000-8000-000000000001"))).toMatchInlineSnapshot(`6320`);
  expect(hashSlotOf(idFromName("kith"))).toMatchInlineSnapshot(`5017`);
});

test("even ranges cover every slot once and differ by at most one", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 256 }), (count) => {
      const ranges = evenRanges(count);
      const table = slotTable(ranges);
      expect(table.length).toBe(hashSlotCount);
      const sizes = ranges.map((range) => range.lastSlot - range.firstSlot + 1);
      expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
    }),
  );
});

test("sequential ids spread evenly over the shards", () => {
  const table = slotTable(evenRanges(4));
  const counts = [0, 0, 0, 0];
  for (let i = 0; i < 40_000; i++) (counts[table[hashSlotOf(idFromNum(i))] as number] as number)++;
  for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500);
});

const nodes = [
  { id: "a", zone: "z1", replicaCount: 0 },
  { id: "b", zone: "z1", replicaCount: 0 },
  { id: "c", zone: "z2", replicaCount: 0 },
];

const active = { state: "active", sinceMs: 7 } as const;
const nodesOf = ({ replicas }: { replicas: readonly { node: string }[] }): string[] => replicas.map(({ node }) => node);

test("replicas of a shard go to different nodes and zones, and the load is balanced", () => {
  const placed = placeReplicas(newShards(6), 2, nodes, active);
  for (const shard of placed) {
    expect(new Set(nodesOf(shard)).size).toBe(2);
    expect(nodesOf(shard)).toContain("c");
  }
  expect(placed.filter((shard) => nodesOf(shard).includes("a")).length).toBe(3);
});

test("replicas that are placed stay as they are, and those that leave are replaced", () => {
  const replicas = (state: ReplicaPlacementState) => [{ node: "b", state, sinceMs: 1 }];
  const place = (state: ReplicaPlacementState) =>
    placeReplicas(
      newShards(1).map((shard) => ({ ...shard, replicas: replicas(state) })),
      2,
      nodes,
      { state: "joining", sinceMs: 7 },
    )[0]?.replicas;
  const joining = (node: string) => ({ node, state: "joining", sinceMs: 7 });
  expect(place("active")).toEqual([...replicas("active"), joining("c")]);
  expect(place("leaving")).toEqual([...replicas("leaving"), joining("a"), joining("c")]);
});

test("the slots of shards in any order lead to their positions", () => {
  const table = slotTable([
    { firstSlot: 100, lastSlot: 16_383 },
    { firstSlot: 0, lastSlot: 99 },
  ]);
  expect([table[0], table[99], table[100], table[16_383]]).toEqual([1, 1, 0, 0]);
  expect(() => slotTable([{ firstSlot: 1, lastSlot: 16_383 }])).toThrow(/no shard/);
  expect(() => slotTable([...evenRanges(2), { firstSlot: 5, lastSlot: 5 }])).toThrow(/slot 5 belongs to two/);
});

test("too few nodes is an error that says what to do", () => {
  expect(() => placeReplicas([], 4, nodes, active)).toThrow(/4 replicas need 4 shard nodes, and 3 are up/);
});

test("all ids of a partition are in its hash slot, and its slot can be cut out", () => {
  const slot = hashSlotOfPartition("acme");
  for (let i = 0; i < 100; i++) expect(hashSlotOf(partitionedId("acme", idFromNum(i)))).toBe(slot);
  expect(hashSlotOfPartition("globex")).not.toBe(slot);
  const ranges = (firstSlot: number, lastSlot: number, at: number) =>
    rangesAround({ firstSlot, lastSlot }, at).map((range) => [range.firstSlot, range.lastSlot]);
  expect(ranges(0, 9, 4)).toEqual([
    [0, 3],
    [4, 4],
    [5, 9],
  ]);
  expect(ranges(0, 9, 0)).toEqual([
    [0, 0],
    [1, 9],
  ]);
  expect(ranges(0, 9, 9)).toEqual([
    [0, 8],
    [9, 9],
  ]);
  expect(ranges(9, 9, 9)).toEqual([[9, 9]]);
  expect(() => rangesAround({ firstSlot: 0, lastSlot: 9 }, 10)).toThrow();
});
