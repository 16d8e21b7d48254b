/** A router of a new release waits for the shard nodes that run the old one. */
import { expect, test } from "vitest";
import { KithError } from "../../libs/base/index.js";
import { ManualClock } from "../../libs/base/testing.js";
import type { NodeRecord, NodeState } from "../../libs/cluster/index.js";
import { type Logger, silentLogger } from "../../libs/telemetry/index.js";
import { isOlder, shardsFirst } from "./shards-first.js";

const record = (id: string, version: string, roles = ["shard"]): NodeRecord => ({
  ...{ id, version, roles, linkAddress: "", address: "", zone: "", state: "up" },
  ...{ startedAtMs: 0, memoryBytes: 0, diskFreeBytes: 0, heartbeat: 0 },
});

test("releases are ordered by their numbers", () => {
  expect(isOlder("0.2.0", "0.10.0")).toBe(true);
  expect(isOlder("0.10.0", "0.2.0")).toBe(false);
  expect(isOlder("1.0.0", "1.0.0")).toBe(false);
  expect(isOlder("1.2.3", "1.2.4-rc.1")).toBe(true);
  // Of a build that is named otherwise nothing is known.
  expect(isOlder("test", "1.0.0")).toBe(false);
});

test("it waits until each shard node that is there has the release, and tells for which", async () => {
  const clock = new ManualClock();
  let records = [record("shard-0", "0.1.0"), record("shard-1", "0.1.0"), record("router-0", "0.1.0", ["router"])];
  let states: Record<string, NodeState> = {};
  const told: string[] = [];
  const logger: Logger = { ...silentLogger, info: (message) => void told.push(message) };
  const nodes = { all: () => records, stateOf: (id: string): NodeState => states[id] ?? "up" };
  let isOver = false;
  const waiting = shardsFirst({ nodes, version: "0.2.0", clock, logger }).then(() => (isOver = true));
  await clock.advance(2_000);
  expect(told).toEqual([expect.stringContaining("shard-0 (0.1.0), shard-1 (0.1.0)")]);
  records = [record("shard-0", "0.1.0"), record("shard-1", "0.2.0"), record("router-0", "0.1.0", ["router"])];
  await clock.advance(2_000);
  expect(isOver).toBe(false);
  expect(told).toHaveLength(2);
  // One that is dead does not hold up the update for ever.
  states = { "shard-0": "down" };
  await clock.advance(2_000);
  await waiting;
  expect(told.at(-1)).toContain("all shard nodes have release 0.2.0");
});

test("the wait ends with the start", async () => {
  const clock = new ManualClock();
  const nodes = { all: () => [record("shard-0", "0.1.0")], stateOf: (): NodeState => "up" };
  const controller = new AbortController();
  const waiting = shardsFirst({ nodes, version: "0.2.0", clock, logger: silentLogger }, controller.signal);
  controller.abort(new KithError("SHUTTING_DOWN", "told to end"));
  await expect(waiting).rejects.toMatchObject({ code: "SHUTTING_DOWN" });
});
