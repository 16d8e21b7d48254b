import fc from "fast-check";
import { expect, test } from "vitest";
import { idFromName, idFromNum, idFromUuid } from "../model/index.js";
import { evenRanges, hashSlotCount, hashSlotOf, placeReplicas, slotTable } from "./index.js";

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

test("replicas of a shard go to different nodes and zones, and the load is balanced", () => {
  const placed = placeReplicas(
    evenRanges(6).map((range) => ({ ...range, nodes: [] })),
    2,
    nodes,
  );
  for (const { nodes: chosen } of placed) {
    expect(new Set(chosen).size).toBe(2);
    expect(chosen).toContain("c");
  }
  expect(placed.filter((shard) => shard.nodes.includes("a")).length).toBe(3);
});

test("replicas that are placed stay", () => {
  const placed = placeReplicas([{ shard: 0, firstSlot: 0, lastSlot: 16_383, nodes: ["b"] }], 2, nodes);
  expect(placed[0]?.nodes).toEqual(["b", "c"]);
});

test("too few nodes is an error that says what to do", () => {
  expect(() => placeReplicas([], 4, nodes)).toThrow(/4 replicas need 4 shard nodes, and 3 are up/);
});
