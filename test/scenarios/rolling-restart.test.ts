/**
 * Shard nodes are restarted one by one under load: no search fails, writes are at most repeated by clients, and nothing is lost. KITH_RESTART_ROUNDS
 * sets the number of rounds (npm run test:long: 10). Updates to another release are rehearsed in test/kubernetes.
 */
import { expect, test } from "vitest";
import { runScenario } from "../chaos/run.js";
import { rollingRestart } from "../chaos/scenarios/crashes.js";

const rounds = Number(process.env["KITH_RESTART_ROUNDS"] ?? 1);

test(`${rounds} rolling restarts under load are not noticed`, { timeout: 60_000 + rounds * 60_000 }, async () => {
  const { violations, reads, writes, faults } = await runScenario(rollingRestart, { rounds, seed: 8 });
  expect(violations).toEqual([]);
  expect(reads.failed).toEqual({});
  expect(writes.unknown).toBe(0);
  expect(faults).toEqual({ "orderly restart of a shard node": 3 * rounds });
  expect(reads.ok).toBeGreaterThan(100);
});
