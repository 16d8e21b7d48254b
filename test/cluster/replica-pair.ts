/** Two shard nodes with two replicas of each shard, and a connection of one's own to their NATS. */
import { afterAll, beforeAll, expect } from "vitest";
import { systemRuntime } from "../../libs/base/index.js";
import { eventually } from "../../libs/base/testing.js";
import type { CollectionHandle, KithClient } from "../../libs/client/index.js";
import { type Log, openJetStreamLog } from "../../libs/log/index.js";
import { connectNats, type NatsLink } from "../../libs/nats/index.js";
import { useCluster } from "./cluster.js";
import { startProcesses } from "./processes.js";
import { compareDigests, dimension, Ledger, type Payload, range } from "./workload.js";

interface Filled {
  handle: CollectionHandle<Payload>;
  ledger: Ledger;
  id: string;
}

/** To be called where tests are declared; what it gives can be used in them. */
export function useReplicaPair() {
  const cluster = useCluster(() => startProcesses({ shardNodes: 2, replicas: 2 }));
  let nats: NatsLink;
  let log: Log;
  let client: KithClient;
  beforeAll(async () => {
    nats = await connectNats({ ...systemRuntime, servers: cluster().natsUrl });
    log = await openJetStreamLog({ nats, cluster: "kith", ...systemRuntime });
    client = await cluster().connect();
  });
  afterAll(async () => {
    await log?.close();
    await nats?.close();
  });
  return {
    cluster,
    log: () => log,
    client: () => client,

    /** A new collection with some hundred points. */
    filled: async (name: string): Promise<Filled> => {
      const handle = client.collection<Payload>(name);
      const { id } = await handle.create({ vectors: { dimension, metric: "l2" } });
      const ledger = new Ledger(handle);
      for (let i = 0; i < 20; i++) expect(await ledger.write(range(i * 10, 50))).toBe(true);
      return { handle, ledger, id };
    },

    /** Both replicas agree and are well, and each serves every acknowledged point while the other is down. */
    expectAgreement: async (ledger: Ledger): Promise<void> => {
      await eventually(() => compareDigests(client, 2), 30_000);
      for (const node of ["shard-0", "shard-1"]) {
        await cluster().stop(node);
        await eventually(() => ledger.verify(), 20_000);
        await cluster().start(node);
        await eventually(() => compareDigests(client, 2), 30_000);
      }
    },
  };
}
