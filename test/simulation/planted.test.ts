/** The simulation finds faults: each that is planted, within some seeds. The product knows nothing of them. */
import { expect, test } from "vitest";
import { plantedFaults } from "./planted.js";
import { runSeed } from "./run.js";

/** So many seeds may pass without a find; see docs/simulation.md for how many it took. */
const seedsMax = 60;
/** Seconds in which nearly all of them are run; a machine that has much else to do takes longer. */
const timeoutMs = 600_000;

test.each(plantedFaults)("$area: $name is found", { timeout: timeoutMs }, async (fault) => {
  // First where it was found before: what changes in Kith changes what chance brings.
  for (let i = 0; i < seedsMax; i++) {
    const seed = 1 + ((fault.foundAt - 1 + i) % seedsMax);
    const { violations } = await runSeed(seed, { planted: fault.plant() });
    if (violations.length > 0) return;
  }
  expect.fail(`no history of ${seedsMax} seeds shows the fault`);
});
