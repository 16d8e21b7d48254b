/**
 * Shards that are merged while points are written, searched, scrolled and watched: nothing is lost, comes twice or is missing, versions rise,
 * retries count once, and a cancelled merge leaves everything as it was.
 */
import { describe, expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import type { ChangeEvent, KithClient } from "../../libs/client/index.js";
import { type Cluster, useCluster } from "../cluster/cluster.js";
import { startInProcess } from "../cluster/in-process.js";
import { ended, resharded, shardsOf, underLoad, watched } from "../cluster/resharding.js";
import type { Ledger } from "../cluster/workload.js";
import { compareDigests, dimension, failureOf, type Payload, pointOf, range } from "../cluster/workload.js";

const size = { pointCount: 800, steady: 200 };
const { pointCount } = size;

/** Merges shards, and waits until the new one has their slots. */
async function merge(client: KithClient, collection: string, shards: readonly number[]): Promise<void> {
  const operation = await ended(client, await client.cluster.mergeShards({ collection, shards }));
  expect(operation).toMatchObject({ state: "done" });
}

function given(client: KithClient, name: string, shards = 2): Promise<Ledger> {
  return resharded(client, name, shards, size);
}

function scenario(cluster: () => Cluster, replicas: number): void {
  test("shards are merged under load, and split and merged again", { timeout: 120_000 }, async () => {
    const client = await cluster().connect();
    const ledger = await given(client, "films", 3);
    const { handle } = ledger;
    const early = handle.token;
    const result = await underLoad(ledger, size, async () =>
      ended(client, await client.cluster.mergeShards({ collection: "films", shards: [1, 0] })),
    );
    expect(result).toMatchObject({ state: "done", kind: "merge_shards", resharding: { from: [0, 1], to: [3] } });
    expect(await shardsOf(client, "films")).toEqual([2, 3]);
    await ledger.verify();
    await ledger.verify({ atLeast: early });
    expect(await ledger.selfRecall()).toBeGreaterThanOrEqual(0.99);
    if (replicas > 1) {
      await eventually(() => compareDigests(client, replicas), 20_000);
      return;
    }
    const split = await client.cluster.splitShard({ collection: "films", shard: 3, into: 2 });
    expect(await ended(client, split)).toMatchObject({ state: "done" });
    expect(await ledger.write(range(0, pointCount))).toBe(true);
    await merge(client, "films", [2, 4, 5]);
    expect(await shardsOf(client, "films")).toEqual([6]);
    expect(await ledger.write(range(0, pointCount))).toBe(true);
    expect(await ledger.delete(range(10, 20))).toBe(true);
    await ledger.verify();
  });
}

describe("on one node", () => {
  const cluster = useCluster(() => startInProcess());
  scenario(cluster, 1);

  test("retries count once, however they are cut, and tokens stay good", { timeout: 60_000 }, async () => {
    const client = await cluster().connect();
    const { handle } = await given(client, "retried", 2);
    const ids = range(5_000, 40);
    const points = ids.map((id) => pointOf(id, 1));
    const insert = { mode: "insert", idempotencyKey: "before the merge" } as const;
    const items = [...points.slice(0, 30), ...[1, 2, 3].map((id) => pointOf(id, 9))];
    const first = await handle.upsert(items, insert);
    expect(first.upserted).toBe(30);
    const removed = await handle.delete(ids.slice(0, 7), { idempotencyKey: "removal" });
    const marked = { filter: "version = 1", payload: { version: 2 }, idempotencyKey: "marked" } as const;
    const set = await handle.setPayload({ filter: marked.filter }, marked.payload, {
      idempotencyKey: marked.idempotencyKey,
    });
    const { token } = handle;
    await merge(client, "retried", [0, 1]);
    // The first of them are gone since: a retry does not bring them back, and tells what the first attempt did.
    const again = await handle.upsert(items, insert);
    expect({ upserted: again.upserted, errors: again.errors }).toEqual({ upserted: 30, errors: first.errors });
    expect((await handle.delete(ids.slice(0, 7), { idempotencyKey: "removal" })).deleted).toBe(removed.deleted);
    const setAgain = await handle.setPayload({ filter: marked.filter }, marked.payload, {
      idempotencyKey: marked.idempotencyKey,
    });
    expect(setAgain.affected).toBe(set.affected);
    expect(await handle.count()).toBe(pointCount + 23);
    const read = await handle.get([5_010, 5_000], { consistency: { atLeast: token } });
    expect(read.map(({ id }) => id)).toEqual([5_010]);
    const { token: later } = handle;
    expect(await handle.count({ consistency: { atLeast: later } })).toBe(pointCount + 23);
  });

  test("a watch goes on across a merge", { timeout: 60_000 }, async () => {
    const client = await cluster().connect();
    const { handle } = await given(client, "watched", 2);
    const { token: early } = handle;
    await handle.upsert(range(7_000, 50).map((id) => pointOf(id, 1)));
    const isLast = ({ id }: ChangeEvent<Payload>): boolean => id === 9_999;
    const live = watched(handle, early, isLast);
    const operation = await client.cluster.mergeShards({ collection: "watched", shards: [0, 1] });
    for (let round = 2; (await shardsOf(client, "watched")).length > 1; round++) {
      await handle.upsert(range(7_000, 50).map((id) => pointOf(id, round)));
    }
    // The old shards are still there for a moment.
    const late = watched(handle, early, isLast);
    await handle.delete(range(7_000, 10));
    expect(await ended(client, operation)).toMatchObject({ state: "done" });
    const { token } = handle;
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
    expect((await watched(handle, token, isLast)).map(({ id }) => id)).toEqual([9_999]);
    // What was changed before it is told by nobody any more.
    expect(await failureOf(watched(handle, early, isLast))).toMatchObject({ code: "TOKEN_EXPIRED" });
  });

  test("a merge that is cancelled leaves everything as it was", { timeout: 60_000 }, async () => {
    const client = await cluster().connect();
    const ledger = await given(client, "kept", 2);
    // It waits for a backup at the end of its copy.
    const { operation: backup } = await client.backups.create("kept", { maxBytesPerSecond: 1_000 });
    const begun = await client.cluster.mergeShards({ collection: "kept", shards: [0, 1] });
    await eventually(async () => {
      const { step, resharding } = await client.cluster.operation(begun.id);
      expect(step).toBe("copy");
      expect(resharding?.to).toEqual([2]);
      expect(resharding?.copiedBytes).toBeGreaterThan(0);
    }, 20_000);
    const refused = client.cluster.splitShard({ collection: "kept", shard: 1 });
    expect((await failureOf(refused))?.message).toMatch(/is being changed already, by the operation merge-/);
    expect(await ledger.write(range(0, 100))).toBe(true);
    await client.cluster.cancelOperation(begun.id);
    expect(await ended(client, begun)).toMatchObject({ state: "cancelled" });
    await client.cluster.cancelOperation(backup);
    const { shards } = await client.cluster.describe();
    const own = shards.filter(({ collection }) => collection === "kept");
    expect(own).toMatchObject([
      { shard: 0, state: "active" },
      { shard: 1, state: "active" },
    ]);
    expect(await ledger.write(range(0, 100))).toBe(true);
    await ledger.verify();
    // Ids of shards are not given out again.
    await merge(client, "kept", [0, 1]);
    expect(await shardsOf(client, "kept")).toEqual([3]);
    await ledger.verify();
  });

  test("what cannot be merged is refused with the reason, and a collection goes in the middle of a merge", async () => {
    const client = await cluster().connect();
    await client.collection("refused").create({ vectors: { dimension, metric: "l2" }, shards: 3 });
    const refusal = async (shards: number[]) =>
      failureOf(client.cluster.mergeShards({ collection: "refused", shards }));
    expect(await refusal([0, 7])).toMatchObject({ code: "INVALID_ARGUMENT", message: /no shard 7; it has 0, 1, 2/ });
    expect(await refusal([1])).toMatchObject({ code: "LIMIT_OUT_OF_RANGE" });
    expect(await refusal([0, 2])).toMatchObject({ code: "FAILED_PRECONDITION", message: /are not next to each other/ });
    expect(await refusal([1, 1])).toMatchObject({ code: "FAILED_PRECONDITION" });
    const unknown = client.cluster.mergeShards({ collection: "nowhere", shards: [0, 1] });
    expect(await failureOf(unknown)).toMatchObject({ code: "COLLECTION_NOT_FOUND" });
    const begun = await client.cluster.mergeShards({ collection: "refused", shards: [2, 1] });
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
