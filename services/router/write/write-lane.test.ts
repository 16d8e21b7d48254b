import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { beforeEach, expect, test } from "vitest";
import { deferred, KithError, limits, systemRuntime } from "../../../libs/base/index.js";
import { FakeLog } from "../../../libs/log/testing.js";
import type { OperationOutcome, ReplicaPlacement, ReplicaStatus, ShardPlacement } from "../../../libs/model/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import { noTrace } from "../../../libs/telemetry/index.js";
import type { ipb } from "../../../libs/wire/index.js";
import { ReplicaHandle } from "../routing/replica-handle.js";
import { RoutedShard } from "../routing/routed-shard.js";
import { collectionRecord, FakeNode } from "../testing/router.js";
import { WriteLane } from "./write-lane.js";

const call: CallContext = { trace: noTrace };
const done: OperationOutcome = { affected: 1, failures: [] };
const id = { collectionId: "c", shard: 3 };

let log: FakeLog;
let node: FakeNode;
let lane: WriteLane;
beforeEach(async () => {
  log = await FakeLog.open();
  await log.create(id);
  node = new FakeNode("a");
  lane = new WriteLane({ log, ...systemRuntime, id, collection: "c" });
  const [placement] = collectionRecord("c", ["a"], [id.shard]).shards as [ShardPlacement];
  const [replica] = placement.replicas as [ReplicaPlacement];
  lane.route(new RoutedShard(id, placement, [new ReplicaHandle(node, replica)], "", systemRuntime), 1);
});

let next = 0;
function operation(): ipb.Operation {
  const operationId = Buffer.from(String(next++).padStart(16, "0"));
  return { operationId, traceparent: "", mutation: { $case: "delete", value: { ids: [] } } };
}

test("a record that comes in behind what replicas have applied is not acknowledged: its log was put back", async () => {
  await log.fill(id, 4);
  const [placement] = collectionRecord("c", ["a"], [id.shard]).shards as [ShardPlacement];
  const [replica] = placement.replicas as [ReplicaPlacement];
  const handle = new ReplicaHandle(node, replica);
  lane.route(new RoutedShard(id, placement, [handle], "", systemRuntime), 1);
  handle.status = { appliedSequence: 9 } as ReplicaStatus;
  await expect(lane.write(operation(), 1, "log", call)).rejects.toMatchObject({
    code: "LOG_UNAVAILABLE",
    message: expect.stringMatching(
      /gave the write the sequence 5, and replicas have applied 9; the outcome is unknown/,
    ) as string,
  });
  handle.status = { appliedSequence: 5 } as ReplicaStatus;
  expect((await lane.write(operation(), 1, "log", call)).sequence).toBe(6);
});

test("the wait for a replica ends when every writer of the record has gone", async () => {
  const asked = deferred<AbortSignal | undefined>();
  node.wait = (...[, , , context]: [unknown, unknown, unknown, CallContext?]) => {
    asked.resolve(context?.signal);
    return new Promise(() => undefined);
  };
  const [one, other] = [new AbortController(), new AbortController()];
  const writes = [one, other].map(({ signal }) => lane.write(operation(), 1, "applied", { ...call, signal }));
  const signal = await asked.promise;
  expect(await log.state(id)).toMatchObject({ lastSequence: 1 });
  one.abort();
  await expect(writes[0]).rejects.toMatchObject({ code: "CANCELLED" });
  expect(signal?.aborted).toBe(false);
  other.abort();
  await expect(writes[1]).rejects.toMatchObject({ code: "CANCELLED" });
  await expect.poll(() => signal?.aborted).toBe(true);
});

test("what was written does not stay in memory while a replica is waited for", async () => {
  setFlagsFromString("--expose_gc");
  const collectGarbage = runInNewContext("gc") as () => void;
  const asked = deferred<void>();
  const applied = deferred<OperationOutcome[]>();
  node.wait = () => {
    asked.resolve();
    return applied.promise;
  };
  let written: WeakRef<ipb.Operation> | undefined;
  const write = ((): Promise<unknown> => {
    const one = operation();
    written = new WeakRef(one);
    return lane.write(one, 1, "applied", call);
  })();
  await asked.promise;
  await expect
    .poll(() => {
      collectGarbage();
      return written?.deref();
    })
    .toBeUndefined();
  applied.resolve([done]);
  expect(await write).toEqual({ sequence: 1, outcome: done });
});

test("so many records may wait for a replica, then writers are refused until one is applied", async () => {
  const applied: (() => void)[] = [];
  node.wait = () => new Promise((resolve) => applied.push(() => resolve([done])));
  const writes: Promise<unknown>[] = [];
  for (let i = 1; i <= limits.unconfirmedRecords; i++) {
    writes.push(lane.write(operation(), 1, "applied", call));
    while (applied.length < i) await new Promise((resolve) => setImmediate(resolve));
  }
  await expect(lane.write(operation(), 1, "applied", call)).rejects.toMatchObject({
    code: "RESOURCE_EXHAUSTED",
    retryAfterMs: 100,
  });
  expect(await lane.write(operation(), 1, "log", call)).toEqual({ sequence: limits.unconfirmedRecords + 1 });
  applied[0]?.();
  await writes[0];
  writes.push(lane.write(operation(), 1, "applied", call));
  while (applied.length <= limits.unconfirmedRecords) await new Promise((resolve) => setImmediate(resolve));
  for (const apply of applied) apply();
  await Promise.all(writes);
});

test("a refused operation fails its own writer, not those who share its record", async () => {
  const refusal = new KithError("DIMENSION_MISMATCH", "too long");
  node.wait = () => Promise.resolve([done, refusal, done]);
  const written = await Promise.allSettled([1, 2, 3].map(() => lane.write(operation(), 1, "applied", call)));
  expect(await log.state(id)).toMatchObject({ lastSequence: 1 });
  expect(written).toMatchObject([
    { status: "fulfilled", value: { sequence: 1, outcome: done } },
    { status: "rejected", reason: { code: "DIMENSION_MISMATCH" } },
    { status: "fulfilled", value: { sequence: 1, outcome: done } },
  ]);
});

test("operations with the same id go into records of their own, so that each has its own outcome", async () => {
  const refusal = new KithError("INVALID_ARGUMENT", "used before");
  node.wait = (...[, sequence, ids]: [unknown, number, readonly Uint8Array[]]) =>
    Promise.resolve(ids.map(() => (sequence === 1 ? done : refusal)));
  const same = operation();
  const all = [same, operation(), same, operation()].map((each) => lane.write(each, 1, "applied", call));
  const written = await Promise.allSettled(all);
  expect(written.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected", "rejected"]);
  expect(await log.state(id)).toMatchObject({ lastSequence: 2 });
});

test("where no replica confirms, the writers learn that the record is durable", async () => {
  node.wait = () => Promise.reject(new KithError("INTERNAL", "broken"));
  await expect(lane.write(operation(), 1, "applied", call)).rejects.toMatchObject({
    code: "SHARD_UNAVAILABLE",
    message: expect.stringContaining("durable at sequence 1") as string,
  });
});
