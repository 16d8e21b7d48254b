/**
 * A collection with a partition key: points of one value lie on one shard, reads and writes that say the value go to that shard alone, what would change
 * a point's value is refused, and all that stays so when the value gets a shard of its own.
 */
import { describe, expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import type { CollectionHandle, ExplainStep, KithClient } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { startInProcess } from "../cluster/in-process.js";
import { dimension, failureOf, range, vectorOf } from "../cluster/workload.js";

interface Doc extends Record<string, unknown> {
  tenant: string | number;
  at: number;
}

const tenants = ["acme", "globex", "initech", "umbrella", "hooli", 7];
const each = 40;
const cluster = useCluster(() => startInProcess());

/** Each tenant has points with the ids 0 to 39. */
async function given(client: KithClient, name: string, shards = 4): Promise<CollectionHandle<Doc>> {
  const handle = client.collection<Doc>(name);
  await handle.create({ vectors: { dimension, metric: "l2" }, shards, partitionKey: "tenant" });
  const points = tenants.flatMap((tenant, t) =>
    range(0, each).map((id) => ({ id, vector: vectorOf(id, t), payload: { tenant, at: id } })),
  );
  const { errors } = await handle.upsert(points);
  expect(errors).toEqual([]);
  return handle;
}

function skippedIn({ facts, steps }: ExplainStep): number {
  return Number(facts["shards_skipped"] ?? 0) + steps.reduce((sum, step) => sum + skippedIn(step), 0);
}

/** All that is there of each tenant, asked for in the ways there are. */
async function expectWhole(handle: CollectionHandle<Doc>): Promise<void> {
  expect(await handle.count()).toBe(tenants.length * each);
  for (const [t, tenant] of tenants.entries()) {
    expect(await handle.count({ partition: tenant })).toBe(each);
    const found = await handle.get(range(0, each), { partition: tenant });
    expect(found.map(({ id, payload }) => [id, payload?.tenant])).toEqual(range(0, each).map((id) => [id, tenant]));
    const { points } = await handle.query({ vector: vectorOf(3, t), limit: each, partition: tenant });
    expect(points[0]).toMatchObject({ id: 3, payload: { tenant } });
    expect(new Set(points.map(({ payload }) => payload?.tenant))).toEqual(new Set([tenant]));
    expect(points).toHaveLength(each);
    const ids: unknown[] = [];
    for await (const { id } of handle.scroll({ partition: tenant, batch: 17 })) ids.push(id);
    expect(ids).toEqual(range(0, each));
  }
}

test("reads that say the value ask one shard, and find nothing of others", async () => {
  const client = await cluster().connect();
  const handle = await given(client, "read");
  expect((await handle.info()).partitionKey).toBe("tenant");
  await expectWhole(handle);
  const explained = async (options: Parameters<typeof handle.count>[0]): Promise<[count: number, skipped: number]> => {
    let skipped = 0;
    const count = await handle.count({ ...options, onExplain: (step) => (skipped = skippedIn(step)) });
    return [count, skipped];
  };
  expect(await explained({})).toEqual([tenants.length * each, 0]);
  expect(await explained({ partition: "acme" })).toEqual([each, 3]);
  expect(await explained({ filter: 'tenant = "acme"' })).toEqual([each, 3]);
  expect(await explained({ filter: "tenant = 7 and at < 5" })).toEqual([5, 3]);
  expect(await explained({ filter: 'tenant = "acme" or at < 5' })).toEqual([each + 5 * (tenants.length - 1), 0]);
  const [ofTwo] = await explained({ filter: 'tenant in ("acme", "globex")' });
  expect(ofTwo).toBe(2 * each);
  const told = await handle.query({ vector: vectorOf(1, 0), partition: "globex", explain: true });
  expect(told.explain && skippedIn(told.explain)).toBe(3);
  // By an example, without some, in groups, counted by value, and in another order.
  const like = await handle.query({ point: 5, limit: 3, partition: "hooli" });
  expect(like.points.map(({ payload }) => payload?.tenant)).toEqual(["hooli", "hooli", "hooli"]);
  expect(like.points.map(({ id }) => id)).not.toContain(5);
  const tree = await handle.query({ query: { recommend: { positive: [5, 6] } }, limit: 40, partition: "hooli" });
  expect(tree.points).toHaveLength(each - 2);
  const unseen = { must_not: [{ has_id: [0, 1, 2] }] };
  expect(await handle.count({ filter: unseen, partition: "acme" })).toBe(each - 3);
  expect(
    await handle.count({ filter: { must: [{ has_id: [0, 1, 2] }, { key: "tenant", match: { value: "acme" } }] } }),
  ).toBe(3);
  const groups = await handle.queryGroups({ vector: vectorOf(1, 0), groupBy: "tenant", partition: "acme" });
  expect(groups.groups.map(({ value }) => value)).toEqual(["acme"]);
  expect((await handle.facet("tenant", { partition: 7 })).hits).toEqual([{ value: 7, count: each }]);
  expect((await handle.matrix({ partition: "acme", sample: 50 })).ids).toHaveLength(each);
  const latest = handle.scroll({ partition: "acme", orderBy: { key: "at", direction: "desc" } });
  for await (const { id } of latest) {
    expect(id).toBe(each - 1);
    break;
  }
});

test("what is read comes whole into another collection, over the stream of bulk upserts", async () => {
  const client = await cluster().connect();
  const handle = await given(client, "exported");
  const copy = client.collection<Doc>("imported");
  await copy.create({ vectors: { dimension, metric: "l2" }, shards: 3, partitionKey: "tenant" });
  const rejected: unknown[] = [];
  const all = handle.scroll({ withVectors: true, batch: 50 });
  const { upserted } = await copy.upsertMany(all, { batchPoints: 70, onItemError: (error) => rejected.push(error) });
  expect([upserted, rejected]).toEqual([tenants.length * each, []]);
  await expectWhole(copy);
});

test("ids without the value, and payloads without one, are refused", async () => {
  const client = await cluster().connect();
  const handle = await given(client, "refused");
  const missing = { code: "PARTITION_KEY_MISSING" };
  const vector = vectorOf(1, 1);
  expect(await failureOf(handle.get(1))).toMatchObject(missing);
  expect(await failureOf(handle.delete(1))).toMatchObject(missing);
  expect(await failureOf(handle.query({ point: 1 }))).toMatchObject(missing);
  expect(await failureOf(handle.query({ query: { recommend: { positive: [1] } } }))).toMatchObject(missing);
  expect(await failureOf(handle.count({ filter: { must: [{ has_id: [1] }] } }))).toMatchObject(missing);
  expect(await failureOf(handle.updateVectors({ id: 1, vector }))).toMatchObject(missing);
  const upsert = (payload: object) => failureOf(handle.upsert([{ id: 1, vector, payload: payload as Doc }]));
  expect(await upsert({ at: 1 })).toMatchObject(missing);
  expect(await upsert({ tenant: null })).toMatchObject(missing);
  expect(await upsert({ tenant: ["acme"] })).toMatchObject({ code: "INVALID_PAYLOAD" });
  expect(await upsert({ tenant: 1.5 })).toMatchObject({ code: "INVALID_PAYLOAD" });
  expect(await upsert({ tenant: "" })).toMatchObject({ code: "INVALID_ARGUMENT" });
  expect(await upsert({ tenant: "x".repeat(256) })).toMatchObject({ code: "INVALID_ARGUMENT" });
  expect(await upsert({ tenant: "7D444840-9DC0-11D1-B245-5FFDCE74FAD2" })).toMatchObject({ code: "INVALID_PAYLOAD" });
  const plain = client.collection("plain");
  await plain.create({ vectors: { dimension, metric: "l2" } });
  expect(await failureOf(plain.count({ partition: "acme" }))).toMatchObject({ code: "INVALID_ARGUMENT" });
  const arrays = client
    .collection("arrays")
    .create({ vectors: { dimension, metric: "l2" }, partitionKey: "tenants[]" });
  expect(await failureOf(arrays)).toMatchObject({ code: "INVALID_SCHEMA" });
  await expectWhole(handle);
});

test("writes of parts are those of one value's points, and leave the value as it is", async () => {
  const client = await cluster().connect();
  const handle = await given(client, "written");
  const partition = "acme";
  const fixed = { code: "PARTITION_KEY_FIXED" };
  expect((await handle.setPayload([0, 1], { seen: true }, { partition })).affected).toBe(2);
  expect(await handle.count({ filter: "seen = true" })).toBe(2);
  expect((await handle.setPayload(0, { tenant: "acme", seen: false }, { partition })).affected).toBe(1);
  expect(await failureOf(handle.setPayload(0, { tenant: "globex" }, { partition }))).toMatchObject(fixed);
  expect(await failureOf(handle.setPayload({ filter: "at = 0" }, { tenant: "acme" }))).toMatchObject(fixed);
  expect(await failureOf(handle.setPayload(0, { name: 1 }, { partition, path: "tenant" }))).toMatchObject(fixed);
  expect(await failureOf(handle.deletePayload(0, ["at", "tenant"], { partition }))).toMatchObject(fixed);
  expect(await failureOf(handle.clearPayload(0, { partition }))).toMatchObject(fixed);
  expect(await failureOf(handle.overwritePayload(0, { tenant: "hooli", at: 0 }, { partition }))).toMatchObject(fixed);
  expect((await handle.overwritePayload(0, { tenant: "acme", at: 0 }, { partition })).affected).toBe(1);
  expect((await handle.deletePayload(1, "seen", { partition })).affected).toBe(1);
  expect((await handle.updateVectors({ id: 2, vector: vectorOf(2, 0) }, { partition })).affected).toBe(1);
  expect((await handle.setPayload(99, { seen: true }, { partition })).errors).toMatchObject([
    { code: "POINT_NOT_FOUND" },
  ]);
  // By a filter: of one value, and of all.
  expect((await handle.setPayload({ filter: "at < 3" }, { low: true }, { partition: 7 })).affected).toBe(3);
  expect((await handle.setPayload({ filter: "at < 3" }, { low: true })).affected).toBe(3 * tenants.length);
  const batch = await handle.writeBatch([
    { op: "setPayload", target: [4], payload: { at: 4 }, partition },
    { op: "deletePayload", target: { filter: "low = true" }, paths: "low" },
  ]);
  expect(batch.results.map((result) => result.ok && result.result.affected)).toEqual([1, 3 * tenants.length]);
  await expectWhole(handle);
  // The same id may be in several of them: each is another point.
  const insert = await handle.upsert([{ id: 0, vector: vectorOf(0, 9), payload: { tenant: "new", at: 0 } }], {
    mode: "insert",
  });
  expect(insert.errors).toEqual([]);
  expect((await handle.delete([0, 1], { partition: "new" })).deleted).toBe(1);
  expect((await handle.delete({ filter: 'tenant = "globex"' })).deleted).toBe(each);
  expect((await handle.delete({ filter: {} }, { partition: "hooli" })).deleted).toBe(each);
  expect((await handle.delete(range(0, 10), { partition: 7 })).deleted).toBe(10);
  expect(await handle.count()).toBe((tenants.length - 2) * each - 10);
});

describe("with shards that change", () => {
  test("a value gets a shard of its own, under writes and searches", { timeout: 60_000 }, async () => {
    const client = await cluster().connect();
    const handle = await given(client, "isolated", 2);
    const load = { isOver: false, rounds: 0 };
    const loading = (async () => {
      while (!load.isOver) {
        const tenant = tenants[load.rounds++ % tenants.length] as string | number;
        const t = tenants.indexOf(tenant);
        const id = load.rounds % each;
        await handle.upsert([{ id, vector: vectorOf(id, t), payload: { tenant, at: id } }]);
        expect(await handle.count({ partition: tenant })).toBe(each);
        const { points } = await handle.query({ vector: vectorOf(id, t), limit: 1, partition: tenant });
        expect(points[0]).toMatchObject({ id, payload: { tenant } });
      }
    })();
    const { id } = await client.cluster.isolatePartition({ collection: "isolated", partition: "acme" });
    const operation = await eventually(async () => {
      const found = await client.cluster.operation(id);
      expect(["done", "failed", "cancelled"]).toContain(found.state);
      return found;
    }, 30_000);
    load.isOver = true;
    await loading;
    expect(operation).toMatchObject({ state: "done", kind: "split_shard" });
    expect(load.rounds).toBeGreaterThan(3);
    const { shards } = await client.cluster.describe();
    const own = shards.filter(({ collection, state }) => collection === "isolated" && state === "active");
    expect(own).toHaveLength(4);
    const single = own.filter(({ slots }) => slots.first === slots.last);
    expect(single).toHaveLength(1);
    expect(single[0]?.replicas[0]?.pointCount).toBe(each);
    await expectWhole(handle);
    const again = client.cluster.isolatePartition({ collection: "isolated", partition: "acme" });
    expect(await failureOf(again)).toMatchObject({ code: "FAILED_PRECONDITION" });
    await client.collection("unkeyed").create({ vectors: { dimension, metric: "l2" } });
    const unkeyed = client.cluster.isolatePartition({ collection: "unkeyed", partition: "acme" });
    expect(await failureOf(unkeyed)).toMatchObject({ code: "FAILED_PRECONDITION" });
  });

  test("expiry, an alias and a backup live through a split, and so does a restoration into other shards", async () => {
    const client = await cluster().connect();
    const handle = await given(client, "kept", 1);
    await client.aliases.create("current", "kept");
    const aliased = client.collection<Doc>("current");
    const before = await client.backups.create("kept");
    await client.backups.wait(before.operation, { everyMs: 50 });
    const expiresAt = Date.now() + 3_600_000;
    const payload = { tenant: "acme", at: -1 };
    await handle.upsert([{ id: 1_000, vector: vectorOf(1, 1), payload, expiresAt }]);
    await client.cluster.splitShard({ collection: "kept", shard: 0, into: 3 });
    const shardsOf = async (collection: string): Promise<number> => {
      const { shards } = await client.cluster.describe();
      return shards.filter((shard) => shard.collection === collection && shard.state === "active").length;
    };
    await eventually(async () => expect(await shardsOf("kept")).toBe(3), 20_000);
    const [kept] = await aliased.get([1_000], { partition: "acme" });
    expect(kept?.expiresAt?.getTime()).toBe(expiresAt);
    await aliased.setExpiry(1_000, Date.now() - 1_000, { partition: "acme" });
    expect(await handle.get(1_000, { partition: "acme" })).toBeUndefined();
    await handle.upsert([{ id: 1_001, vector: vectorOf(1, 1), payload, expiresAt }]);
    const after = await client.backups.create("kept");
    await client.backups.wait(after.operation, { everyMs: 50 });
    for (const [name, { id }, shards] of [
      ["before", before, 2],
      ["after", after, 4],
    ] as const) {
      const restoring = await client.backups.restore(id, { collection: name, shards });
      await client.backups.wait(restoring.operation, { everyMs: 50 });
      const restored = client.collection<Doc>(name);
      expect((await restored.info()).partitionKey).toBe("tenant");
      expect(await shardsOf(name)).toBe(shards);
      const [found] = await restored.get([1_001], { partition: "acme" });
      expect(found?.expiresAt?.getTime()).toBe(name === "after" ? expiresAt : undefined);
      if (found !== undefined) expect((await restored.delete(1_001, { partition: "acme" })).deleted).toBe(1);
      await expectWhole(restored);
    }
  });

  test("a watch tells ids as clients know them, across a split", async () => {
    const client = await cluster().connect();
    const handle = await given(client, "watched", 1);
    const from = handle.token;
    await client.cluster.isolatePartition({ collection: "watched", partition: "globex" });
    await eventually(async () => {
      const { shards } = await client.cluster.describe();
      expect(shards.filter(({ collection }) => collection === "watched").length).toBeGreaterThan(1);
    }, 20_000);
    await handle.upsert([{ id: 77, vector: vectorOf(1, 1), payload: { tenant: "globex", at: 0 } }]);
    await handle.delete(5, { partition: "globex" });
    await handle.delete(6, { partition: "acme" });
    const told: unknown[] = [];
    for await (const { kind, id } of handle.watch({ from, filter: 'tenant = "globex"' })) {
      told.push([kind, id]);
      if (kind === "delete") break;
    }
    expect(told).toEqual([
      ["insert", 77],
      ["delete", 5],
    ]);
  });
});
