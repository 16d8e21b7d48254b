/** What Qdrant's calls for clusters begin on three nodes: shards are split, merged, moved and copied for real, and points stay. */
import { QdrantClient } from "@qdrant/js-client-rest";
import { beforeAll, expect, test } from "vitest";
import { eventually, freePort } from "../../libs/base/testing.js";
import { useCluster } from "../cluster/cluster.js";
import { startInProcess } from "../cluster/in-process.js";

const httpPort = await freePort();
const cluster = useCluster(() => startInProcess({ shardNodes: 3, replicas: 1, flags: { qdrant: { httpPort } } }));
const pointCount = 200;
let client: QdrantClient;
let peers: number[];
beforeAll(async () => {
  client = new QdrantClient({ url: `http://127.0.0.1:${httpPort}`, timeout: 60_000 });
  const told = await (await fetch(`http://127.0.0.1:${httpPort}/cluster`)).json();
  peers = Object.keys((told as { result: { peers: object } }).result.peers).map(Number);
});

interface Replica {
  shard: number;
  peer: number;
  state: string;
}
async function replicas(name: string): Promise<Replica[]> {
  const { peer_id: own, local_shards: local, remote_shards: remote } = await client.collectionClusterInfo(name);
  const here = local.map(({ shard_id: shard, state }) => ({ shard, peer: own, state: String(state) }));
  return [
    ...here,
    ...remote.map(({ shard_id: shard, peer_id: peer, state }) => ({ shard, peer, state: String(state) })),
  ];
}
/** Waits until so many shards have so many replicas, all of them active. */
function settledOf(name: string, shards: number, each: number): Promise<Replica[]> {
  return eventually(async () => {
    const found = await replicas(name);
    const active = found.filter(({ state }) => state === "Active");
    expect(found.length, JSON.stringify(found)).toBe(active.length);
    expect(new Set(found.map(({ shard }) => shard)).size).toBe(shards);
    expect(found).toHaveLength(shards * each);
    return found;
  }, 60_000);
}

test("shards are split, merged and moved", { timeout: 120_000 }, async () => {
  const name = "films";
  await client.createCollection(name, { vectors: { size: 2, distance: "Dot" }, shard_number: 2 });
  const points = Array.from({ length: pointCount }, (_, id) => ({ id, vector: [id, 1] }));
  await client.upsert(name, { wait: true, points });
  const settled = (shards: number, each: number): Promise<Replica[]> => settledOf(name, shards, each);
  const change = (operation: object): Promise<unknown> =>
    eventually(() => client.updateCollectionCluster(name, operation as never), 30_000);
  const complete = async (): Promise<void> =>
    expect((await client.count(name, { exact: true })).count).toBe(pointCount);

  const begun = await settled(2, 1);
  const [{ shard, peer: from } = { shard: 0, peer: 0 }] = begun;
  const to = peers.find((peer) => !begun.some((each) => each.peer === peer)) ?? 0;
  await change({ move_shard: { shard_id: shard, from_peer_id: from, to_peer_id: to } });
  await eventually(async () => {
    const moved = (await replicas(name)).filter((each) => each.shard === shard);
    expect(moved).toEqual([{ shard, peer: to, state: "Active" }]);
  }, 60_000);
  await complete();

  const copy = { replicate_shard: { shard_id: shard, from_peer_id: to, to_peer_id: from } };
  const refused = client.updateCollectionCluster(name, copy);
  await expect(refused).rejects.toMatchObject({ data: { status: { code: "FAILED_PRECONDITION" } } });

  await change({ start_resharding: { direction: "up" } });
  await settled(3, 1);
  await complete();
  await change({ start_resharding: { direction: "down" } });
  await settled(2, 1);
  await complete();
  const none = client.updateCollectionCluster(name, { abort_resharding: {} });
  await expect(none).rejects.toMatchObject({ status: 404 });
  const restart = { restart_transfer: { shard_id: 0, from_peer_id: from, to_peer_id: to, method: "snapshot" } };
  await expect(client.updateCollectionCluster(name, restart as never)).rejects.toMatchObject({ status: 501 });
});

test("transfers and reshardings are aborted, and replicas come and go where they are asked to", {
  timeout: 120_000,
}, async () => {
  const name = "copied";
  await client.createCollection(name, { vectors: { size: 2, distance: "Dot" } });
  const noise = (id: number): string => Array.from({ length: 60 }, (_, i) => Math.sin(id * 61 + i)).join();
  const points = Array.from({ length: pointCount }, (_, id) => ({ id, vector: [id, 1], payload: { text: noise(id) } }));
  await client.upsert(name, { wait: true, points });
  const [{ shard, peer: from } = { shard: 0, peer: 0 }] = await settledOf(name, 1, 1);
  const [to = 0, other = 0] = peers.filter((peer) => peer !== from);
  const change = (operation: object): Promise<unknown> => client.updateCollectionCluster(name, operation as never);
  const kith = await cluster().connect();
  /** Begins what copies a shard, and aborts it while it is on its way. */
  const aborted = async (begin: object, abort: object, shown: object): Promise<void> => {
    await kith.cluster.updateSettings({ copyBytesPerSecond: 2_000 });
    try {
      await eventually(() => change(begin), 30_000);
      await eventually(async () => expect(await client.collectionClusterInfo(name)).toMatchObject(shown));
      expect(await change(abort)).toBe(true);
      const none = { shard_transfers: [], resharding_operations: [] };
      await eventually(async () => expect(await client.collectionClusterInfo(name)).toMatchObject(none), 30_000);
    } finally {
      await kith.cluster.updateSettings({ copyBytesPerSecond: 0 });
    }
  };

  const reshards = { resharding_operations: [{ direction: "up" }] };
  await aborted({ start_resharding: { direction: "up" } }, { abort_resharding: {} }, reshards);
  expect(await settledOf(name, 1, 1)).toMatchObject([{ shard, peer: from }]);
  const between = (source: number, target: number) => ({ shard_id: shard, from_peer_id: source, to_peer_id: target });
  const transfers = { shard_transfers: [{ shard_id: shard, from, to }] };
  await aborted({ move_shard: between(from, to) }, { abort_transfer: between(from, to) }, transfers);
  expect(await settledOf(name, 1, 1)).toMatchObject([{ shard, peer: from }]);

  // A shard whose move was aborted a short time ago is not what the cluster changes by itself.
  await client.updateCollection(name, { params: { replication_factor: 2 } });
  expect(await change({ replicate_shard: between(from, other) })).toBe(true);
  const two = await settledOf(name, 1, 2);
  expect(new Set(two.map(({ peer }) => peer))).toEqual(new Set([from, other]));
  await aborted(
    { move_shard: between(other, to) },
    { abort_transfer: between(other, to) },
    { shard_transfers: [{ to }] },
  );
  await settledOf(name, 1, 2);
  await client.updateCollection(name, { params: { replication_factor: 1 } });
  expect(await change({ drop_replica: { shard_id: shard, peer_id: from } })).toBe(true);
  expect(await settledOf(name, 1, 1)).toMatchObject([{ shard, peer: other }]);
  expect((await client.count(name, { exact: true })).count).toBe(pointCount);
});
