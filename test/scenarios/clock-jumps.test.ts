/**
 * The wall clock of a process jumps a day forwards, back, and a day into the past. Deadlines, leases, heartbeats and the
 * memory of repeated writes go by time that cannot jump, or do no harm: everything goes on.
 */
import { afterEach, expect, test, vi } from "vitest";
import type { KithClient } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { startInProcess } from "../cluster/in-process.js";
import { dimension, expectCaughtUp, failureOf, Ledger, type Payload, pointOf, range } from "../cluster/workload.js";

const dayMs = 86_400_000;
const realNow = Date.now.bind(Date);
let client: KithClient;
const cluster = useCluster(
  () => startInProcess(),
  async (started) => {
    client = await started.connect();
  },
);

function jump(ms: number): void {
  vi.spyOn(Date, "now").mockImplementation(() => realNow() + ms);
}
afterEach(() => {
  vi.restoreAllMocks();
});

test("writes, reads and new collections go on through jumps of a day in both directions", {
  timeout: 60_000,
}, async () => {
  const handle = client.collection<Payload>("jumping");
  await handle.create({ vectors: { dimension, metric: "l2" }, shards: 2 });
  const ledger = new Ledger(handle);
  for (const [i, ms] of [0, dayMs, 0, -dayMs, dayMs, -dayMs, 0].entries()) {
    // The clock jumps while calls are under way. gRPC keeps the deadline of a call that is just being sent or received as a
    // time of the wall clock: such a call may end at once, and says that its outcome is unknown.
    const busy = range(0, 10).map((each) => ledger.write(range(i * 500 + each * 50, 50), { deadlineMs: 10_000 }));
    jump(ms);
    await Promise.all(busy);
    expect([...ledger.failures.keys()].filter((code) => code !== "DEADLINE_EXCEEDED")).toEqual([]);
    expect(await ledger.write(range(0, 50))).toBe(true);
    await ledger.verify();
    // The coordinator still holds its lease and the node still counts as up, or nothing could be placed.
    const other = client.collection(`at-${i}`);
    await other.create({ vectors: { dimension, metric: "l2" }, deadlineMs: 10_000 });
    await other.drop();
    expect((await client.cluster.describe()).nodes.map((node) => node.state)).toEqual(["up"]);
  }
  await expectCaughtUp(client, 1);
});

test("a deadline neither fires early nor is forgotten when the clock jumps during the call", {
  timeout: 60_000,
}, async () => {
  const handle = client.collection<Payload>("deadlines");
  await handle.create({ vectors: { dimension, metric: "l2" } });
  await handle.upsert(range(0, 10).map((id) => pointOf(id, 1)));
  for (const ms of [dayMs, -dayMs]) {
    // Waits for a sequence that never comes, so that only the deadline ends it.
    const startedMs = performance.now();
    const waiting = failureOf(
      handle.count({ consistency: { atLeast: { collectionId: "", shards: { 0: 1_000 } } }, deadlineMs: 1_000 }),
    );
    // Long enough for the call to wait in the replica: then its deadline is monotonic on both sides.
    await handle.count();
    await handle.count();
    jump(ms);
    expect((await waiting)?.code, `${ms} ms`).toBe("DEADLINE_EXCEEDED");
    expect(performance.now() - startedMs).toBeGreaterThan(900);
    jump(0);
  }
});

test("a repeated write takes effect once although the clock jumped between", { timeout: 60_000 }, async () => {
  const handle = client.collection<Payload>("repeated");
  await handle.create({ vectors: { dimension, metric: "l2" } });
  const insert = (idempotencyKey: string) => handle.upsert([pointOf(1, 1)], { mode: "insert", idempotencyKey });
  expect((await insert("before")).upserted).toBe(1);
  jump(-dayMs);
  expect((await insert("before")).upserted).toBe(1);
  // A day later by the routers' clocks, with other writes between: a newer value is not undone by the late repetition.
  jump(dayMs);
  await handle.upsert([pointOf(1, 2)], { idempotencyKey: "newer" });
  await handle.upsert([pointOf(1, 2)], { idempotencyKey: "newer" });
  expect((await handle.get([1])).map((point) => point.payload)).toEqual([{ version: 2 }]);
});

test("a write whose reply was lost is not applied again over a newer one, although the clock jumped ahead between", {
  timeout: 60_000,
}, async () => {
  const handle = client.collection<Payload>("lost-reply");
  await handle.create({ vectors: { dimension, metric: "l2" } });
  await handle.upsert([pointOf(1, 1)], { idempotencyKey: "lost" });
  // Longer than a key is remembered.
  jump(11 * 60_000);
  await handle.upsert([pointOf(1, 2)]);
  await handle.upsert([pointOf(1, 1)], { idempotencyKey: "lost" });
  expect((await handle.get([1])).map((point) => point.payload)).toEqual([{ version: 2 }]);
});

test("a node started with a clock a day behind takes its data and its log as they are", {
  timeout: 60_000,
}, async () => {
  const handle = client.collection<Payload>("restarted");
  await handle.create({ vectors: { dimension, metric: "l2" } });
  const ledger = new Ledger(handle);
  await ledger.fill(0, 200);
  for (const ms of [-dayMs, dayMs, 0]) {
    await cluster().stop("all");
    jump(ms);
    await cluster().start("all");
    await ledger.verify();
    expect(await ledger.write(range(100, 200))).toBe(true);
  }
  await ledger.verify();
});
