/**
 * A replica that copies another one, and the one that is copied, are killed with -9 again and again: the copy is whole or
 * is none. KITH_COPY_ROUNDS sets the number of rounds, KITH_COPY_POINTS the size (npm run test:long: 40 of 60,000).
 */
import { expect, test } from "vitest";
import { sleep, systemClock, systemRuntime } from "../../libs/base/index.js";
import { eventually } from "../../libs/base/testing.js";
import { openJetStreamLog } from "../../libs/log/index.js";
import { connectNats } from "../../libs/nats/index.js";
import { useCluster } from "../cluster/cluster.js";
import { randomFrom } from "../cluster/damage.js";
import { startProcesses } from "../cluster/processes.js";
import { compareDigests, dimension, Ledger, type Payload, range } from "../cluster/workload.js";

const seed = Number(process.env["KITH_SEED"] ?? 1);
const rounds = Number(process.env["KITH_COPY_ROUNDS"] ?? 1);
const pointCount = Number(process.env["KITH_COPY_POINTS"] ?? 10_000);
/** About what a copy takes. */
const copyMs = 50 + pointCount / 120;
const cluster = useCluster(() => startProcesses({ shardNodes: 2, replicas: 2 }));

test(`a copy that is cut off by kill -9, on either side, is taken anew (seed ${seed})`, {
  timeout: 120_000 + rounds * 20_000,
}, async () => {
  const random = randomFrom(seed);
  const client = await cluster().connect();
  const handle = client.collection<Payload>("copied");
  const { id } = await handle.create({ vectors: { dimension, metric: "l2" } });
  const name = { collectionId: id, shard: 0 };
  const nats = await connectNats({ ...systemRuntime, servers: cluster().natsUrl });
  const log = await openJetStreamLog({ nats, cluster: "kith", ...systemRuntime });
  try {
    const ledger = new Ledger(handle);
    await ledger.fill(0, pointCount);
    await cluster().stop("shard-1");
    const begun = (): number => cluster().logOf("shard-1").split("copies the replica of shard-0").length;
    for (let round = 0; round < rounds; round++) {
      expect(await ledger.write(range(random(pointCount), 50))).toBe(true);
      await log.trim(name, (await log.state(name)).lastSequence);
      const before = begun();
      await cluster().start("shard-1");
      await eventually(() => expect(begun()).toBeGreaterThan(before), 30_000);
      await sleep(systemClock, random(copyMs));
      if (round % 3 === 1) {
        await cluster().kill("shard-0");
        await cluster().start("shard-0");
        await eventually(() => ledger.write(range(0, 50)), 30_000);
      }
      await cluster().kill("shard-1");
    }
    await cluster().start("shard-1");
    await eventually(() => compareDigests(client, 2), 60_000);
    // Only the copy answers.
    await cluster().stop("shard-0");
    await eventually(() => ledger.verify(), 20_000);
    expect(await ledger.selfRecall()).toBeGreaterThanOrEqual(0.99);
  } finally {
    await log.close();
    await nats.close();
  }
});
