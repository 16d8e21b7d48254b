/** The NATS server is killed and started again: reads go on, writes fail with UNAVAILABLE and then resume, nothing acknowledged is lost. */
import { expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import { useCluster } from "../cluster/cluster.js";
import { startProcesses } from "../cluster/processes.js";
import { compareDigests, dimension, failureOf, Ledger, type Payload, range, vectorOf } from "../cluster/workload.js";

const cluster = useCluster(() => startProcesses({ shardNodes: 2, replicas: 2 }));

test("without NATS reads go on and writes fail as unavailable, however long it is away; with it again, writes resume", {
  timeout: 120_000,
}, async () => {
  const client = await cluster().connect();
  const handle = client.collection<Payload>("nats");
  await handle.create({ vectors: { dimension, metric: "l2" }, shards: 2, replicas: 2 });
  const ledger = new Ledger(handle);
  for (let i = 0; i < 10; i++) expect(await ledger.write(range(i * 100, 100))).toBe(true);
  let readCount = 0;
  let reading = true;
  const failures: string[] = [];
  const reads = (async () => {
    for (let id = 0; reading; id = (id + 7) % 1_000) {
      const query = handle.query({ vector: vectorOf(id, 1), limit: 1, consistency: "none" });
      const failure = await failureOf(query);
      if (failure !== undefined) failures.push(`${failure.code}: ${failure.message}`);
      else if ((await query).points[0]?.id !== id) failures.push(`point ${id} was not found`);
      readCount++;
    }
  })();
  const readsGoOn = async (): Promise<void> => {
    const before = readCount;
    await eventually(() => failures.length > 0 || readCount > before + 50);
    expect(failures).toEqual([]);
  };
  const writesFail = async (): Promise<void> => {
    // With so much time left, the deadline cannot be what ends it.
    expect(await ledger.write(range(5_000, 10), { deadlineMs: 60_000 })).toBe(false);
    expect([...ledger.failures.keys()]).toEqual(["LOG_UNAVAILABLE"]);
  };
  try {
    await readsGoOn();
    await cluster().killNats();
    await writesFail();
    await readsGoOn();

    // A node learns from NATS what it holds: one that starts now says once that it waits.
    await cluster().kill("shard-1");
    await cluster().start("shard-1");
    // Long enough for every node to count as down, since none can renew its record: no reason to ask it no more.
    await eventually(async () => {
      const { nodes } = await client.cluster.describe();
      expect(nodes.map((node) => node.state)).toEqual(["down", "down", "down"]);
    }, 30_000);
    await eventually(() => {
      const told = cluster()
        .logOf("shard-1")
        .match(/no NATS server answers at .* this node waits until NATS answers/g);
      expect(told).toHaveLength(1);
    }, 15_000);
    await readsGoOn();
    await writesFail();

    await cluster().startNats();
    await eventually(async () => {
      const { nodes } = await client.cluster.describe();
      expect(nodes.find(({ id }) => id === "shard-1")?.state).toBe("up");
    }, 30_000);
    await eventually(
      async () => expect(await ledger.write(range(6_000, 10), { deadlineMs: 2_000 })).toBe(true),
      30_000,
    );
    await readsGoOn();
  } finally {
    reading = false;
    await reads;
  }
  await eventually(() => compareDigests(client, 2), 30_000);
  await ledger.verify();
});
