/**
 * Shards that are split while points are written, searched, scrolled and watched: nothing is lost, comes twice or is missing, versions rise,
 * retries count once, and a cancelled split leaves everything as it was.
 */
import { describe, expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import type { ChangeEvent, KithClient } from "../../libs/client/index.js";
import { type Cluster, useCluster } from "../cluster/cluster.js";
import { startInProcess } from "../cluster/in-process.js";
import { ended, resharded, shardsOf, underLoad, watched } from "../cluster/resharding.js";
import type { Ledger } from "../cluster/workload.js";
import { compareDigests, dimension, failureOf, type Payload, pointOf, range } from "../cluster/workload.js";

const size = { pointCount: 1_500, steady: 300 };
const { pointCount } = size;

/** Begins a split, and resolves when the new shards have the slots. */
async function split(client: KithClient, collection: string, shard: number, into = 2): Promise<void> {
  await client.cluster.splitShard({ collection, shard, into });
  await eventually(async () => expect(await shardsOf(client, collection)).not.toContain(shard), 20_000);
}

function given(client: KithClient, name: string, shards = 1): Promise<Ledger> {
  return resharded(client, name, shards, size);
}

function scenario(cluster: () => Cluster, replicas: number): void {
  test("a shard is split under load, and split again", { timeout: 120_000 }, async () => {
    const client = await cluster().connect();
    const ledger = await given(client, "films");
    const { handle } = ledger;
    const early = handle.token;
    const result = await underLoad(ledger, size, async () =>
      ended(client, await client.cluster.splitShard({ collection: "films", shard: 0 })),
    );
    expect(result).toMatchObject({ state: "done", kind: "split_shard", resharding: { from: [0], to: [1, 2] } });
    expect(await shardsOf(client, "films")).toEqual([1, 2]);
    await ledger.verify();
    await ledger.verify({ atLeast: early });
    expect(await ledger.selfRecall()).toBeGreaterThanOrEqual(0.99);
    await split(client, "films", 2, 3);
    expect(await shardsOf(client, "films")).toEqual([1, 3, 4, 5]);
    expect(await ledger.write(range(0, pointCount))).toBe(true);
    expect(await ledger.delete(range(10, 20))).toBe(true);
    await ledger.verify();
    if (replicas > 1) await eventually(() => compareDigests(client, replicas), 20_000);
  });
}

describe("on one node", () => {
  const cluster = useCluster(() => startInProcess());
  scenario(cluster, 1);

  test("retries count once, however they are cut, and tokens stay good", { timeout: 60_000 }, async () => {
    const client = await cluster().connect();
    const { handle } = await given(client, "retried");
    const ids = range(5_000, 40);
    const points = ids.map((id) => pointOf(id, 1));
    const insert = { mode: "insert", idempotencyKey: "before the split" } as const;
    const first = await handle.upsert([...points.slice(0, 30), ...[1, 2, 3].map((id) => pointOf(id, 9))], insert);
    expect(first.upserted).toBe(30);
    const removed = await handle.delete(ids.slice(0, 7), { idempotencyKey: "removal" });
    const { token } = handle;
    await split(client, "retried", 0);
    // The first of them are gone since: a retry does not bring them back, and tells what the first attempt did.
    const again = await handle.upsert([...points.slice(0, 30), ...[1, 2, 3].map((id) => pointOf(id, 9))], insert);
    expect({ upserted: again.upserted, errors: again.errors }).toEqual({ upserted: 30, errors: first.errors });
    expect((await handle.delete(ids.slice(0, 7), { idempotencyKey: "removal" })).deleted).toBe(removed.deleted);
    expect(await handle.count()).toBe(pointCount + 23);
    const read = await handle.get([5_010, 5_000], { consistency: { atLeast: token } });
    expect(read.map(({ id }) => id)).toEqual([5_010]);
    // With a router that has heard of the split, and one of its tokens.
    const { token: later } = handle;
    expect(await handle.count({ consistency: { atLeast: later } })).toBe(pointCount + 23);
    const unknown = { ...later, shards: { ...later.shards, 77: 1 } };
    expect(await failureOf(handle.count({ consistency: { atLeast: unknown } }))).toMatchObject({
      code: "INVALID_TOKEN",
    });
  });

  test("a watch goes on across a split, from old tokens too", { timeout: 60_000 }, async () => {
    const client = await cluster().connect();
    const { handle } = await given(client, "watched", 1);
    const { token: early } = handle;
    await handle.upsert(range(7_000, 50).map((id) => pointOf(id, 1)));
    const isLast = ({ id }: ChangeEvent<Payload>): boolean => id === 9_999;
    const live = watched(handle, early, isLast);
    const operation = await client.cluster.splitShard({ collection: "watched", shard: 0 });
    for (let round = 2; (await shardsOf(client, "watched")).length < 2; round++) {
      await handle.upsert(range(7_000, 50).map((id) => pointOf(id, round)));
    }
    await handle.delete(range(7_000, 10));
    const late = watched(handle, early, isLast);
    await eventually(
      async () => expect(await client.cluster.operation(operation.id)).toMatchObject({ state: "done" }),
      20_000,
    );
    await handle.upsert([pointOf(9_999, 1)]);
    for (const changes of await Promise.all([live, late])) {
      for (const id of range(7_000, 50)) {
        const own = changes.filter((change) => change.id === id);
        const sequences = own.map(({ sequence }) => sequence);
        expect(sequences).toEqual([...new Set(sequences)].sort((a, b) => a - b));
        expect(own[0]?.kind).toBe("insert");
        expect(own.at(-1)?.kind).toBe(id < 7_010 ? "delete" : "update");
      }
    }
  });

  test("a split that is cancelled leaves everything as it was", { timeout: 60_000 }, async () => {
    const client = await cluster().connect();
    const ledger = await given(client, "kept");
    await client.cluster.updateSettings({ copyBytesPerSecond: 20_000 });
    try {
      const begun = await client.cluster.splitShard({ collection: "kept", shard: 0 });
      await eventually(async () => {
        const { step, resharding } = await client.cluster.operation(begun.id);
        expect(step).toBe("copy");
        expect(resharding?.to).toEqual([1, 2]);
        expect(resharding?.copiedBytes).toBeGreaterThan(0);
      }, 20_000);
      const refused = client.cluster.splitShard({ collection: "kept", shard: 0 });
      expect((await failureOf(refused))?.message).toMatch(/is being changed already, by the operation split-/);
      expect(await ledger.write(range(0, 100))).toBe(true);
      await client.cluster.cancelOperation(begun.id);
      expect(await ended(client, begun)).toMatchObject({ state: "cancelled" });
    } finally {
      await client.cluster.updateSettings({ copyBytesPerSecond: 0 });
    }
    const { shards } = await client.cluster.describe();
    expect(shards.filter(({ collection }) => collection === "kept")).toMatchObject([{ shard: 0, state: "active" }]);
    expect(await ledger.write(range(0, 100))).toBe(true);
    await ledger.verify();
    // Ids of shards are not given out again.
    await split(client, "kept", 0);
    expect(await shardsOf(client, "kept")).toEqual([3, 4]);
    await ledger.verify();
  });

  test("what cannot be split is refused with the reason, and a collection goes in the middle of a split", async () => {
    const client = await cluster().connect();
    await client.collection("refused").create({ vectors: { dimension, metric: "l2" }, shards: 2 });
    const refusal = async (request: { shard?: number; into?: number }) =>
      failureOf(client.cluster.splitShard({ collection: "refused", shard: 0, ...request }));
    expect(await refusal({ shard: 7 })).toMatchObject({ code: "INVALID_ARGUMENT", message: /no shard 7; it has 0, 1/ });
    expect(await refusal({ into: 1 })).toMatchObject({ code: "LIMIT_OUT_OF_RANGE" });
    expect(await refusal({ into: 17 })).toMatchObject({ code: "LIMIT_OUT_OF_RANGE" });
    const unknown = client.cluster.splitShard({ collection: "nowhere", shard: 0 });
    expect(await failureOf(unknown)).toMatchObject({ code: "COLLECTION_NOT_FOUND" });
    const begun = await client.cluster.splitShard({ collection: "refused", shard: 0 });
    await client.collection("refused").drop();
    expect((await ended(client, begun)).state).toBe("cancelled");
    expect(await shardsOf(client, "refused")).toEqual([]);
  });
});
describe("on two nodes with two replicas", () => {
  scenario(
    useCluster(() => startInProcess({ shardNodes: 2, replicas: 2 })),
    2,
  );
});
