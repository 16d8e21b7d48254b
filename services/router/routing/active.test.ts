import { expect, test } from "vitest";
import { pb } from "../../../libs/wire/index.js";
import { Collections } from "../catalog/collections.js";
import { call, FakeNode, routed } from "../testing/router.js";
import { Writes } from "../write/writes.js";

const upsert = pb.UpsertRequest.fromPartial({
  collection: "c",
  points: [{ id: { id: { $case: "num", value: 1n } }, vectors: { "": { values: Float32Array.of(1, 2) } } }],
  options: { ack: pb.Ack.ALL },
});

async function cluster(...nodes: FakeNode[]) {
  const router = await routed(nodes);
  const writes = new Writes(router.routingTable);
  const collections = new Collections({ ...router.collectionsOptions, logKind: "jetstream" });
  return { writes, collections, close: router.close };
}

const others = [
  ["catching_up", true],
  ["initializing", true],
  ["stale", true],
  ["opening", true],
  ["active", false],
] as const;

test.each(others)(
  "ACK_ALL and WaitIndexed do not wait for a replica that is %s (usable: %s)",
  async (state, usable) => {
    const good = new FakeNode("good").withPoints(7);
    const other = new FakeNode("other", state);
    other.usable = usable;
    other.hangs = true;
    const { writes, collections, close } = await cluster(good, other);
    expect(await writes.upsert(upsert, call)).toMatchObject({ upserted: 1 });
    expect(await collections.waitIndexed({ name: "c", token: undefined }, call)).toEqual({ indexedVectorCount: 7 });
    expect([good.waits, other.waits]).toEqual([2, 0]);
    close();
  },
);

test.each([
  ["joining", "ACK_ALL waits for it once it has caught up, and WaitIndexed does not", 1],
  ["leaving", "neither ACK_ALL nor WaitIndexed waits for it", 0],
] as const)("a replica that is %s: %s", async (state, _, waits) => {
  const nodes = [new FakeNode("good").withPoints(7), new FakeNode("other")] as const;
  const router = await routed(nodes);
  const shards = router.record.shards.map((shard) => ({
    ...shard,
    replicas: shard.replicas.map((each) => (each.node === "other" ? { ...each, state } : each)),
  }));
  await router.catalog.put("collections.c", JSON.stringify({ ...router.record, shards }));
  expect(await new Writes(router.routingTable).upsert(upsert, call)).toMatchObject({ upserted: 1 });
  const collections = new Collections({ ...router.collectionsOptions, logKind: "jetstream" });
  expect(await collections.waitIndexed({ name: "c", token: undefined }, call)).toEqual({ indexedVectorCount: 7 });
  expect(nodes.map((node) => node.waits)).toEqual([2, waits]);
  router.close();
});

test("a joining replica that fails does not make ACK_ALL fail", async () => {
  const nodes = [new FakeNode("good"), new FakeNode("joining")] as const;
  const router = await routed(nodes);
  const shards = router.record.shards.map((shard) => ({
    ...shard,
    replicas: shard.replicas.map((each) => (each.node === "joining" ? { ...each, state: "joining" as const } : each)),
  }));
  await router.catalog.put("collections.c", JSON.stringify({ ...router.record, shards }));
  nodes[1].wait = () => Promise.reject(new Error("broken"));
  expect(await new Writes(router.routingTable).upsert(upsert, call)).toMatchObject({ upserted: 1 });
  router.close();
});

test("ACK_ALL waits for every active replica, also for one that became so since it was last polled", async () => {
  const nodes = [new FakeNode("one"), new FakeNode("two"), new FakeNode("late", "opening")] as const;
  const { writes, close } = await cluster(...nodes);
  nodes[2].state = "active";
  await writes.upsert(upsert, call);
  expect(nodes.map(({ waits }) => waits)).toEqual([1, 1, 1]);
  close();
});

test("a replica that says that it is not active is told what it must have before it is", async () => {
  const behind = new FakeNode("behind", "catching_up");
  const { writes, close } = await cluster(new FakeNode("good"), behind);
  await writes.upsert(upsert, call);
  expect(behind.promised).toBe(1);
  close();
});

test("a replica that is active and fails makes ACK_ALL fail: it may be read without the write", async () => {
  const failing = new FakeNode("failing");
  const { writes, close } = await cluster(new FakeNode("good"), failing);
  failing.wait = () => Promise.reject(new Error("broken"));
  await expect(writes.upsert(upsert, call)).rejects.toMatchObject({ code: "SHARD_UNAVAILABLE" });
  close();
});

test("where no replica is active, ACK_ALL waits for one that catches up", async () => {
  const slow = new FakeNode("slow", "catching_up");
  const { writes, close } = await cluster(slow);
  expect(await writes.upsert(upsert, call)).toMatchObject({ upserted: 1 });
  expect(slow.waits).toBe(1);
  close();
});
