import fc from "fast-check";
import { expect, test } from "vitest";
import { type BalanceMove, type BalanceNode, type BalanceShard, planRebalance } from "./index.js";

const mib = 1024 * 1024;
const options = { threshold: 0.2, minBytes: 64 * mib };

function nodes(count: number, zones = 1): BalanceNode[] {
  return Array.from({ length: count }, (_, i) => ({ id: `n${i}`, zone: `z${i % zones}` }));
}

function shard(id: number, placed: string[], sizeBytes = 100 * mib, readsPerSecond = 0): BalanceShard {
  return { collectionId: "c", collection: "things", shard: id, nodes: placed, sizeBytes, readsPerSecond };
}

/** What is placed after the moves. Fails where one cannot be made. */
function apply(shards: readonly BalanceShard[], moves: readonly BalanceMove[]): BalanceShard[] {
  const after = shards.map((each) => ({ ...each, nodes: [...each.nodes] }));
  for (const move of moves) {
    const found = after.find((each) => each.shard === move.shard);
    expect(found?.nodes).toContain(move.from);
    expect(found?.nodes).not.toContain(move.to);
    found?.nodes.splice(found.nodes.indexOf(move.from), 1, move.to);
  }
  return after;
}

function bytesOf(present: readonly BalanceNode[], shards: readonly BalanceShard[]): number[] {
  return present.map(({ id }) =>
    shards.reduce((sum, each) => sum + (each.nodes.includes(id) ? each.sizeBytes + mib : 0), 0),
  );
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** The sum of what each node is away from the mean. */
function imbalance(present: readonly BalanceNode[], shards: readonly BalanceShard[]): number {
  const bytes = bytesOf(present, shards);
  const mean = sum(bytes) / bytes.length;
  return sum(bytes.map((each) => Math.abs(each - mean)));
}

test("a fourth node gets about a quarter, and nothing else is moved", () => {
  const shards = Array.from({ length: 24 }, (_, i) => shard(i, [`n${i % 3}`, `n${(i + 1) % 3}`]));
  expect(planRebalance(nodes(3), shards, options)).toEqual([]);
  const moves = planRebalance(nodes(4), shards, options);
  expect(new Set(moves.map(({ to }) => to))).toEqual(new Set(["n3"]));
  const moved = sum(moves.map(({ sizeBytes }) => sizeBytes));
  const total = 48 * 100 * mib;
  expect(moved).toBeLessThanOrEqual(total / 4);
  expect(moved).toBeGreaterThanOrEqual(total / 5);
});

test("one more node of many gets its share, though no other has much more than the mean", () => {
  // 20 nodes with two or three of 51 equal replicas.
  const shards = Array.from({ length: 51 }, (_, i) => shard(i, [`n${i % 20}`]));
  expect(Math.max(...bytesOf(nodes(20), shards))).toBeLessThan(1.2 * (sum(bytesOf(nodes(20), shards)) / 20));
  const moves = planRebalance(nodes(21), shards, options);
  expect(moves).toHaveLength(2);
  expect(new Set(moves.map(({ to }) => to))).toEqual(new Set(["n20"]));
  const after = apply(shards, moves);
  expect(bytesOf(nodes(21), after)[20]).toBe(2 * 101 * mib);
  expect(planRebalance(nodes(21), after, options)).toEqual([]);
  // A replica that no other place is better for stays.
  expect(planRebalance(nodes(3), [shard(0, ["n1"])], options)).toEqual([]);
});

test("small differences and small data stay as they are", () => {
  const uneven = [shard(0, ["n0"], 110 * mib), shard(1, ["n1"], 100 * mib)];
  expect(planRebalance(nodes(2), uneven, options)).toEqual([]);
  const small = Array.from({ length: 10 }, (_, i) => shard(i, ["n0"], mib));
  expect(planRebalance(nodes(2), small, options)).toEqual([]);
  expect(planRebalance(nodes(2), small, { ...options, minBytes: 0 })).toHaveLength(5);
});

test("load counts as bytes do", () => {
  const shards = Array.from({ length: 8 }, (_, i) => shard(i, [i < 4 ? "n0" : "n1"], 100 * mib, i < 4 ? 100 : 1));
  const moves = planRebalance(nodes(2), shards, options);
  expect(moves.length).toBeGreaterThan(0);
  expect(new Set(moves.map(({ from }) => from))).toEqual(new Set(["n0"]));
});

test("two moves of a shard that cross each other are two that can be made", () => {
  const shards = [
    shard(0, ["n2", "n0"], 611 * mib),
    shard(1, ["n0"], 307 * mib),
    shard(2, ["n2", "n0"], 0),
    shard(3, ["n2"], 857 * mib),
    shard(4, ["n0"], 242 * mib),
    shard(5, ["n0"], 488 * mib),
  ];
  const after = apply(shards, planRebalance(nodes(3), shards, options));
  expect(planRebalance(nodes(3), after, options)).toEqual([]);
});

test("no shard loses a zone, and what cannot be improved stays", () => {
  // Two zones; n2 is alone in the second, and must keep its replica of each shard.
  const present: BalanceNode[] = [
    { id: "n0", zone: "a" },
    { id: "n1", zone: "a" },
    { id: "n2", zone: "b" },
  ];
  const shards = Array.from({ length: 12 }, (_, i) => shard(i, ["n0", "n2"]));
  const moves = planRebalance(present, shards, options);
  expect(moves.every(({ from, to }) => from === "n0" && to === "n1")).toBe(true);
  expect(moves).not.toEqual([]);
});

const clusters = fc
  .record({
    nodeCount: fc.integer({ min: 2, max: 9 }),
    zones: fc.integer({ min: 1, max: 3 }),
    shards: fc.array(
      fc.record({ size: fc.integer({ min: 0, max: 900 }), at: fc.array(fc.nat(), { minLength: 1, maxLength: 3 }) }),
      {
        maxLength: 40,
      },
    ),
  })
  .map(({ nodeCount, zones, shards }) => ({
    present: nodes(nodeCount, zones),
    shards: shards.map(({ size, at }, i) => shard(i, [...new Set(at.map((n) => `n${n % nodeCount}`))], size * mib)),
  }));

test("any plan can be made, brings the nodes nearer to each other, keeps zones, and leaves nothing to plan", () => {
  fc.assert(
    fc.property(clusters, ({ present, shards }) => {
      const moves = planRebalance(present, shards, options);
      const after = apply(shards, moves);
      const zoneOf = new Map(present.map(({ id, zone }) => [id, zone]));
      const zonesOf = (each: BalanceShard): number => new Set(each.nodes.map((id) => zoneOf.get(id))).size;
      shards.forEach((each, i) => expect(zonesOf(after[i] as BalanceShard)).toBeGreaterThanOrEqual(zonesOf(each)));
      if (moves.length > 0) expect(imbalance(present, after)).toBeLessThan(imbalance(present, shards));
      expect(planRebalance(present, after, options)).toEqual([]);
      expect(planRebalance([...present].reverse(), shards, options)).toEqual(moves);
    }),
    { numRuns: 300 },
  );
});

test("never more is moved than the excess above the mean, and one replica for each node", () => {
  fc.assert(
    fc.property(clusters, ({ present, shards }) => {
      const moves = planRebalance(present, shards, options);
      const largest = Math.max(0, ...shards.map(({ sizeBytes }) => sizeBytes + mib));
      const moved = sum(moves.map(({ sizeBytes }) => sizeBytes));
      expect(moved).toBeLessThanOrEqual(imbalance(present, shards) / 2 + largest * present.length);
    }),
    { numRuns: 300 },
  );
});
