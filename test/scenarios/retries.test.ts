/** Duplicate and retried writes take effect exactly once and give the first one's result. */
import { expect, test } from "vitest";
import type { CollectionHandle, KithClient } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { onBothDrivers, restartShards } from "../cluster/drivers.js";
import { dimension, type Payload, pointOf } from "../cluster/workload.js";

const points = (from: number, count: number, version: number) =>
  Array.from({ length: count }, (_, i) => pointOf(from + i, version));

onBothDrivers({ processes: { shardNodes: 2, replicas: 2 }, inProcess: {} }, (start) => {
  let client: KithClient;
  let handle: CollectionHandle<Payload>;
  const cluster = useCluster(start, async (started) => {
    client = await started.connect();
    handle = client.collection<Payload>("retried");
    await handle.create({ vectors: { dimension, metric: "l2" }, shards: 3 });
  });

  test("an insert repeated with its idempotency key succeeds again, without a second effect", async () => {
    const first = await handle.upsert(points(0, 50, 1), { mode: "insert", idempotencyKey: "a" });
    const again = await handle.upsert(points(0, 50, 1), { mode: "insert", idempotencyKey: "a" });
    expect({ upserted: again.upserted, errors: again.errors }).toEqual({ upserted: 50, errors: [] });
    expect(first.upserted).toBe(50);
    const other = await handle.upsert(points(0, 50, 1), { mode: "insert", idempotencyKey: "b" });
    expect(other.upserted).toBe(0);
    expect(other.errors).toHaveLength(50);
    expect(other.errors[0]).toMatchObject({ index: 0, code: "POINT_EXISTS" });
  });

  test("a late retry of an old write does not undo a newer one", async () => {
    await handle.upsert(points(100, 1, 1), { idempotencyKey: "old" });
    await handle.upsert(points(100, 1, 2));
    await handle.upsert(points(100, 1, 1), { idempotencyKey: "old" });
    const [point] = await handle.get([100]);
    expect(point?.payload).toEqual({ version: 2 });
  });

  test("a retried delete reports what the first one did", async () => {
    await handle.upsert(points(200, 10, 1));
    const ids = Array.from({ length: 12 }, (_, i) => 200 + i);
    expect((await handle.delete(ids, { idempotencyKey: "d" })).deleted).toBe(10);
    await handle.upsert(points(200, 1, 2));
    expect((await handle.delete(ids, { idempotencyKey: "d" })).deleted).toBe(10);
    expect(await handle.get([200])).toHaveLength(1);
  });

  test("the outcome of a write is remembered across a restart", async () => {
    await handle.upsert(points(300, 5, 1), { mode: "insert", idempotencyKey: "restart" });
    await restartShards(cluster(), client);
    const again = await handle.upsert(points(300, 5, 1), { mode: "insert", idempotencyKey: "restart" });
    expect({ upserted: again.upserted, errors: again.errors }).toEqual({ upserted: 5, errors: [] });
  });

  test("a key used again for another write is refused, and the first write stays as it was", async () => {
    await handle.upsert(points(500, 1, 1), { idempotencyKey: "reused" });
    const again = [
      () => handle.upsert(points(500, 1, 2), { idempotencyKey: "reused" }),
      () => handle.delete([500], { idempotencyKey: "reused" }),
    ];
    for (const write of again) {
      await expect(write()).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: expect.stringContaining("used for another write") as string,
      });
    }
    expect((await handle.get([500])).map((point) => point.payload)).toEqual([{ version: 1 }]);
    // At once: both may come into one record of the log.
    const both = await Promise.allSettled(
      [1, 2].map((version) => handle.upsert(points(501, 1, version), { idempotencyKey: "at once" })),
    );
    const first = both.findIndex(({ status }) => status === "fulfilled");
    expect(both[1 - first]).toMatchObject({ status: "rejected", reason: { code: "INVALID_ARGUMENT" } });
    expect((await handle.get([501])).map((point) => point.payload)).toEqual([{ version: first + 1 }]);
  });

  test("update-only refuses what is not there, per item, and writes the rest", async () => {
    await handle.upsert(points(400, 2, 1));
    const result = await handle.upsert(points(400, 4, 2), { mode: "update" });
    expect(result.upserted).toBe(2);
    expect(result.errors.map(({ index, code }) => ({ index, code }))).toEqual([
      { index: 2, code: "POINT_NOT_FOUND" },
      { index: 3, code: "POINT_NOT_FOUND" },
    ]);
  });
});
