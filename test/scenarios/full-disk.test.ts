/**
 * A disk is full, really (ENOSPC of a small tmpfs, or the limit of the NATS store): of one replica, of all, and of the log.
 * Reads go on where a replica can answer, writes end with a typed error or are durable, and all is well again when there
 * is space. Nothing acknowledged is lost.
 */
import { tmpdir } from "node:os";
import { describe, expect, test } from "vitest";
import type { CollectionHandle, PointInput } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { eventually } from "../../libs/base/testing.js";
import { onceAvailable } from "../cluster/eventually.js";
import { startProcesses } from "../cluster/processes.js";
import { Ballast, noSmallDisk, onSmallDisk } from "../cluster/small-disk.js";
import { compareDigests, dimension, failureOf, Ledger, type Payload, range, replicaOn } from "../cluster/workload.js";

const hindrance = noSmallDisk(tmpdir());
if (hindrance !== undefined) process.stderr.write(`the disks of nodes cannot be filled here: ${hindrance}\n`);

describe.skipIf(hindrance !== undefined)("the disk of a node", () => {
  const cluster = useCluster(() =>
    startProcesses({
      shardNodes: 2,
      replicas: 2,
      prefix: (node, data) => (node === "shard-1" ? onSmallDisk(data, 48) : []),
    }),
  );

  test("one replica's disk is full: writes and reads go on, and it catches up when there is space", {
    timeout: 90_000,
  }, async () => {
    const client = await cluster().connect();
    const handle = client.collection<Payload>("half");
    await handle.create({ vectors: { dimension, metric: "l2" }, replicas: 2 });
    const ledger = new Ledger(handle);
    await ledger.fill(0, 3_000);
    await eventually(() => compareDigests(client, 2));
    const ballast = new Ballast(cluster().pidOf("shard-1"), cluster().dataOf("shard-1"));
    ballast.fill();
    let next = 0;
    await eventually(async () => {
      expect(await ledger.write(range(next, 500))).toBe(true);
      next += 500;
      const replica = replicaOn(await client.cluster.describe(), "shard-1", "half");
      expect(replica.state).toBe("stale");
      expect(replica.fault).toMatch(/is full/);
    }, 30_000);
    for (let i = 0; i < 5; i++) expect(await ledger.write(range(i * 100, 100))).toBe(true);
    await ledger.verify();
    expect(await ledger.selfRecall()).toBe(1);
    ballast.free();
    await eventually(() => compareDigests(client, 2), 45_000);
    await handle.drop();
  });

  test("the only replica's disk is full: it answers nothing rather than what is behind its log, and says why; nothing is lost", {
    timeout: 90_000,
  }, async () => {
    const client = await cluster().connect();
    // Placement spreads by load: a few collections with one replica each, of which one lies on the small disk.
    const handles = range(0, 4).map((i) => client.collection<Payload>(`alone-${i}`));
    for (const each of handles) await each.create({ vectors: { dimension, metric: "l2" }, replicas: 1 });
    const { shards } = await client.cluster.describe();
    const name = shards.find(({ replicas }) => replicas[0]?.node === "shard-1")?.collection;
    const handle = handles.find((each) => each.name === name) as CollectionHandle<Payload>;
    const ledger = new Ledger(handle);
    await ledger.fill(0, 1_000);
    const ballast = new Ballast(cluster().pidOf("shard-1"), cluster().dataOf("shard-1"));
    ballast.fill();
    await eventually(async () => expect(await ledger.write(range(0, 500), { deadlineMs: 2_000 })).toBe(false), 30_000);
    // The log has the write, and no replica can confirm it.
    expect([...ledger.failures.keys()].every((code) => ["SHARD_UNAVAILABLE", "DEADLINE_EXCEEDED"].includes(code))).toBe(
      true,
    );
    await eventually(async () => {
      const replica = replicaOn(await client.cluster.describe(), "shard-1", name);
      expect(replica.state).toBe("stale");
      expect(replica.fault).toMatch(/is full/);
    });
    const query = await failureOf(handle.query({ vector: new Float32Array(dimension), deadlineMs: 30_000 }));
    expect(query?.code).toBe("SHARD_UNAVAILABLE");
    expect(query?.message).toMatch(/is full/);
    expect((await failureOf(handle.get([1], { deadlineMs: 30_000 })))?.code).toBe("SHARD_UNAVAILABLE");
    expect((await failureOf(handle.count({ deadlineMs: 30_000 })))?.code).toBe("SHARD_UNAVAILABLE");
    ballast.free();
    await onceAvailable(() => ledger.verify(), 45_000);
    expect(await ledger.write(range(0, 500))).toBe(true);
    await ledger.verify();
    for (const each of handles) await each.drop();
  });
});

describe("the store of NATS", () => {
  const cluster = useCluster(() => startProcesses({ shardNodes: 1, replicas: 1, natsStoreBytes: 12 << 20 }));

  test("the log's store is full: writes fail with DISK_FULL, reads go on, and writes resume when there is space", {
    timeout: 90_000,
  }, async () => {
    const client = await cluster().connect();
    const handle = client.collection<Payload>("logged");
    const ballast = client.collection("ballast");
    for (const each of [handle, ballast]) await each.create({ vectors: { dimension, metric: "l2" } });
    const ledger = new Ledger(handle);
    await ledger.fill(0, 1_000);
    const heavy = (id: number): PointInput => ({
      id,
      vector: new Float32Array(dimension).fill(1),
      payload: { text: "x".repeat(60_000) },
    });
    let code: string | undefined;
    for (let i = 0; i < 60 && code === undefined; i++) {
      code = (await failureOf(ballast.upsert(range(i * 5, 5).map(heavy), { deadlineMs: 20_000 })))?.code;
    }
    expect(["DISK_FULL", "RESOURCE_EXHAUSTED"]).toContain(code);
    await eventually(async () => expect(await ledger.write(range(0, 1_000), { deadlineMs: 20_000 })).toBe(false));
    for (const failed of ledger.failures.keys()) expect(["DISK_FULL", "RESOURCE_EXHAUSTED"]).toContain(failed);
    await ledger.verify();
    expect(await ledger.selfRecall()).toBe(1);
    // The catalog lies in the same store: nothing can be dropped either until the server has more space.
    expect(["DISK_FULL", "RESOURCE_EXHAUSTED"]).toContain((await failureOf(ballast.drop()))?.code);
    await cluster().killNats();
    await cluster().startNats(64 << 20);
    await eventually(async () => expect(await ledger.write(range(0, 1_000), { deadlineMs: 3_000 })).toBe(true), 30_000);
    await ledger.verify();
    await ballast.drop();
    expect(await ballast.exists()).toBe(false);
  });
});
