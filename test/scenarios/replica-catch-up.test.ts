/** A replica is stopped, the others take writes, and it catches up when it is back. */
import { expect, test } from "vitest";
import { useCluster } from "../cluster/cluster.js";
import { eventually } from "../../libs/base/testing.js";
import { onBothDrivers } from "../cluster/drivers.js";
import { compareDigests, dimension, Ledger, type Payload } from "../cluster/workload.js";

const size = { shardNodes: 2, replicas: 2 };

onBothDrivers({ processes: size, inProcess: size }, (start) => {
  const cluster = useCluster(start);

  test("a replica that was away catches up and agrees", { timeout: 120_000 }, async () => {
    const client = await cluster().connect();
    const handle = client.collection<Payload>("away");
    await handle.create({ vectors: { dimension, metric: "l2" }, shards: 1, replicas: 2 });
    const ledger = new Ledger(handle);
    const ids = Array.from({ length: 200 }, (_, i) => i);
    await ledger.write(ids);
    await cluster().stop("shard-1");
    for (let i = 0; i < 20; i++) expect(await ledger.write(ids.map((id) => id + i * 50))).toBe(true);
    expect(await ledger.delete([0, 1, 2])).toBe(true);
    await ledger.verify();
    await cluster().start("shard-1");
    await eventually(() => compareDigests(client, 2), 30_000);
    // Only the replica that was away answers now.
    await cluster().stop("shard-0");
    await eventually(() => ledger.verify(), 20_000);
    expect(await ledger.selfRecall()).toBeGreaterThanOrEqual(0.99);
  });
});
