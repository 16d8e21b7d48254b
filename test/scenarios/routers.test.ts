/**
 * Two routers that are coordinators too: either serves everything, what one writes the other reads, and when the holder of
 * the coordinator's lease is killed with -9, the other places new collections within the time of a lease.
 */
import { describe, expect, test } from "vitest";
import { leaseTtlMs } from "../../libs/cluster/index.js";
import { useCluster } from "../cluster/cluster.js";
import { eventually } from "../../libs/base/testing.js";
import { onBothDrivers } from "../cluster/drivers.js";
import { startProcesses } from "../cluster/processes.js";
import { compareDigests, dimension, Ledger, type Payload, range } from "../cluster/workload.js";

const size = { shardNodes: 2, replicas: 2, routers: 2 };

onBothDrivers({ processes: size, inProcess: size }, (start) => {
  const cluster = useCluster(start);

  test("writes through both routers at once end in one state, which both serve", { timeout: 60_000 }, async () => {
    const clients = await Promise.all([0, 1].map((router) => cluster().connect({ router })));
    const handles = clients.map((client) => client.collection<Payload>("both"));
    await handles[0]?.create({ vectors: { dimension, metric: "l2" }, shards: 2 });
    const ledgers = handles.map((handle) => new Ledger(handle));
    await eventually(async () => expect(await ledgers[1]?.write([1_000_000])).toBe(true));
    await Promise.all(
      ledgers.map(async (ledger, router) => {
        for (let i = 0; i < 30; i++) expect(await ledger.write(range(router * 10_000 + i * 20, 40))).toBe(true);
      }),
    );
    // Each ledger alone would take the other's points for invented ones.
    const [first, second] = ledgers as [Ledger, Ledger];
    for (const [id, version] of second.attempted) first.attempted.set(id, version);
    for (const [id, version] of second.acknowledged) first.acknowledged.set(id, version);
    await first.verify();
    for (const [id, version] of first.attempted) second.attempted.set(id, version);
    for (const [id, version] of first.acknowledged) second.acknowledged.set(id, version);
    await second.verify();
    await eventually(() => compareDigests(clients[1] as (typeof clients)[number], 2));
  });
});

describe("when routers are killed", () => {
  const cluster = useCluster(() => startProcesses(size));

  test("a client of the killed router loses nothing that was acknowledged", { timeout: 60_000 }, async () => {
    const client = await cluster().connect({ router: 0 });
    const handle = client.collection<Payload>("survivor");
    await handle.create({ vectors: { dimension, metric: "l2" } });
    const ledger = new Ledger(handle);
    for (let i = 0; i < 10; i++) expect(await ledger.write(range(i * 10, 20))).toBe(true);
    await cluster().kill("router-0");
    const rest = new Ledger((await cluster().connect({ router: 1 })).collection<Payload>("survivor"));
    for (const [id, version] of ledger.attempted) rest.attempted.set(id, version);
    for (const [id, version] of ledger.acknowledged) rest.acknowledged.set(id, version);
    await rest.verify();
    expect(await rest.write(range(0, 20))).toBe(true);
    await rest.verify();
    await cluster().start("router-0");
    await eventually(async () => expect(await ledger.handle.count()).toBe(rest.acknowledged.size));
  });

  test("when the coordinator is killed, the other one places collections within the time of a lease", {
    timeout: 90_000,
  }, async () => {
    const clients = await Promise.all([0, 1].map((router) => cluster().connect({ router })));
    const holder = await eventually(async () => {
      const { coordinator, nodes } = await (clients[1] as (typeof clients)[number]).cluster.describe();
      expect(cluster().routers).toContain(coordinator);
      expect(nodes.filter((node) => node.state === "up")).toHaveLength(4);
      return coordinator;
    }, 30_000);
    const survivor = 1 - cluster().routers.indexOf(holder);
    await cluster().kill(holder);
    const handle = (clients[survivor] as (typeof clients)[number]).collection<Payload>("orphaned");
    // The call waits for the new coordinator; its deadline is the lease's whole time and what the placing takes.
    await handle.create({ vectors: { dimension, metric: "l2" }, deadlineMs: leaseTtlMs + 10_000 });
    const { coordinator } = await (clients[survivor] as (typeof clients)[number]).cluster.describe();
    expect(coordinator).toBe(cluster().routers[survivor]);
    const ledger = new Ledger(handle);
    await ledger.fill(0, 100);
    await ledger.verify();
    // The old holder comes back and does not take the lease away.
    await cluster().start(holder);
    await eventually(async () => {
      const info = await (clients[survivor] as (typeof clients)[number]).cluster.describe();
      expect(info.nodes.find((node) => node.id === holder)?.state).toBe("up");
      expect(info.coordinator).toBe(cluster().routers[survivor]);
    });
  });
});
