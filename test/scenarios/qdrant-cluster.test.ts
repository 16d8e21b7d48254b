/** What Qdrant's calls for clusters begin on three nodes: shards are split, merged, moved and copied for real, and points stay. */
import { QdrantClient } from "@qdrant/js-client-rest";
import { expect, test } from "vitest";
import { eventually, freePort } from "../../libs/base/testing.js";
import { useCluster } from "../cluster/cluster.js";
import { startInProcess } from "../cluster/in-process.js";

const httpPort = await freePort();
useCluster(() => startInProcess({ shardNodes: 3, replicas: 1, flags: { qdrant: { httpPort } } }));
const name = "films";
const pointCount = 200;

test("shards are split, merged, moved, copied and dropped", { timeout: 120_000 }, async () => {
  const client = new QdrantClient({ url: `http://127.0.0.1:${httpPort}` });
  await client.createCollection(name, { vectors: { size: 2, distance: "Dot" }, shard_number: 2 });
  const points = Array.from({ length: pointCount }, (_, id) => ({ id, vector: [id, 1] }));
  await client.upsert(name, { wait: true, points });

  interface Replica {
    shard: number;
    peer: number;
    state: string;
  }
  const replicas = async (): Promise<Replica[]> => {
    const { peer_id: own, local_shards: local, remote_shards: remote } = await client.collectionClusterInfo(name);
    const here = local.map(({ shard_id: shard, state }) => ({ shard, peer: own, state: String(state) }));
    return [
      ...here,
      ...remote.map(({ shard_id: shard, peer_id: peer, state }) => ({ shard, peer, state: String(state) })),
    ];
  };
  /** Waits until so many shards have so many replicas, all of them active. */
  const settled = (shards: number, each: number): Promise<Replica[]> =>
    eventually(async () => {
      const found = await replicas();
      const active = found.filter(({ state }) => state === "Active");
      expect(found.length, JSON.stringify(found)).toBe(active.length);
      expect(new Set(found.map(({ shard }) => shard)).size).toBe(shards);
      expect(found).toHaveLength(shards * each);
      return found;
    }, 60_000);
  const change = (operation: object): Promise<unknown> =>
    eventually(() => client.updateCollectionCluster(name, operation as never), 30_000);
  const complete = async (): Promise<void> =>
    expect((await client.count(name, { exact: true })).count).toBe(pointCount);

  const begun = await settled(2, 1);
  const peers = Object.keys(
    ((await (await fetch(`http://127.0.0.1:${httpPort}/cluster`)).json()) as { result: { peers: object } }).result
      .peers,
  ).map(Number);
  const [{ shard, peer: from } = { shard: 0, peer: 0 }] = begun;
  const to = peers.find((peer) => !begun.some((each) => each.peer === peer)) ?? 0;
  await change({ move_shard: { shard_id: shard, from_peer_id: from, to_peer_id: to } });
  await eventually(async () => {
    const moved = (await replicas()).filter((each) => each.shard === shard);
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
