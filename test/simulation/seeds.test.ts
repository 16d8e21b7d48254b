/** Whole clusters in virtual time, each from a seed: see docs/simulation.md. A red seed says how it is run again. */
import { expect, test } from "vitest";
import { runSeed } from "./run.js";

const seedCount = 200;
const seedsAtOnce = 25;
/** They take some seconds; a machine that has much else to do takes longer. */
const timeoutMs = 600_000;

const firstSeeds = Array.from({ length: seedCount / seedsAtOnce }, (_, i) => 1 + i * seedsAtOnce);

test.each(firstSeeds)(
  "nothing is lost and nothing is wrong in 25 histories from seed %i",
  { timeout: timeoutMs },
  async (first) => {
    for (let seed = first; seed < first + seedsAtOnce; seed++) {
      const { violations } = await runSeed(seed);
      expect(violations, `npm run test:simulation -- --seed ${seed} --verbose`).toEqual([]);
    }
  },
);

/** Histories beyond these that have found a fault. */
const foundBySeed = [
  [342, "two splits of one shard, begun at once, waited for each other"],
  [253, "a coordinator that took over while its cluster was being promoted left the primary's last records out"],
  [343, "the same, with several shards"],
  [393, "a cluster was promoted while it waited to go on after an outage, without what its primary had"],
  [241, "a collection was to be restored to a time whose shard was split that moment, and was told to be nowhere"],
  [1206, "a replica that was behind its log was backed up without what was acknowledged before"],
  [3103, "a coordinator that had just taken over told of no logs, and its cluster was promoted without whole replicas"],
] as const;

test.each(foundBySeed)("seed %i, which has found: %s", { timeout: timeoutMs }, async (seed) => {
  expect((await runSeed(seed)).violations).toEqual([]);
});

test("a seed gives one history, event by event", async () => {
  let readCount = 0;
  let writeCount = 0;
  for (const seed of [3, 7, 12, 20, 41]) {
    const first = await runSeed(seed);
    const second = await runSeed(seed);
    expect(second.lines).toEqual(first.lines);
    expect(second.hash).toBe(first.hash);
    readCount += first.readCount;
    writeCount += first.writes.ok;
  }
  expect(readCount).toBeGreaterThan(20);
  expect(writeCount).toBeGreaterThan(20);
  expect((await runSeed(4)).hash).not.toBe((await runSeed(3)).hash);
});
