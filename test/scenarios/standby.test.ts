/**
 * A cluster that follows another one: it begins with logs that are trimmed, has collections, aliases, splits and deletions as the primary has, refuses
 * writes, tells its lag, and goes on by itself when the primary is lost.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import type { KithClient } from "../../libs/client/index.js";
import { type TestNatsServer, testNatsServer } from "../../libs/nats-server/testing.js";
import type { Cluster } from "../cluster/cluster.js";
import { startInProcess } from "../cluster/in-process.js";
import { ended, shardsOf } from "../cluster/resharding.js";
import { failureOf, pointOf, range } from "../cluster/workload.js";

const trimming = { logRetentionMs: 0, logRetentionRecords: 1, replicaFlushMs: 100 };
let natsServers: [TestNatsServer, TestNatsServer];
let primary: Cluster;
let standby: Cluster;
let there: KithClient;
let here: KithClient;

/** A cluster of one node with a NATS server of its own. */
function start({ url }: TestNatsServer, flags: Record<string, unknown> = {}): Promise<Cluster> {
  return startInProcess({ flags: { log: { kind: "jetstream", url }, link: { host: "127.0.0.1", port: 0 }, ...flags } });
}

beforeAll(async () => {
  natsServers = await Promise.all([testNatsServer(), testNatsServer()]);
  primary = await start(natsServers[0]);
  there = await primary.connect();
  await there.cluster.updateSettings(trimming);
  const films = there.collection("films");
  await films.create({ vectors: { dimension: 16, metric: "l2" }, shards: 2 });
  await films.upsert(range(0, 200).map((id) => pointOf(id, 1)));
  await there.aliases.create("movies", "films");
  await there.collection("old").create({ vectors: { dimension: 16, metric: "l2" } });
  await eventually(async () => {
    await films.upsert(range(0, 20).map((id) => pointOf(id, 1)));
    const { shards } = await there.cluster.describe();
    expect(
      shards
        .filter(({ collection }) => collection === "films")
        .every(({ logFirstSequence = 0 }) => logFirstSequence > 1),
    ).toBe(true);
  }, 10_000);
  const following = { cluster: "there", standby: { primary: { url: natsServers[0].url } } };
  standby = await start(natsServers[1], following);
  here = await standby.connect();
}, 60_000);
afterAll(async () => {
  const started: (Cluster | undefined)[] = [standby, primary];
  for (const cluster of started) await cluster?.close();
  await Promise.all(natsServers.map((server) => server.dispose()));
}, 30_000);

/** Digests by shard, at which sequences. */
async function contents(client: KithClient): Promise<string[]> {
  const { shards } = await client.cluster.describe();
  return shards
    .filter(({ state }) => state === "active")
    .flatMap(({ collection, shard, replicas }) =>
      replicas.map(
        ({ digest, appliedSequence, pointCount }) =>
          `${collection}/${shard} ${appliedSequence} ${digest} ${pointCount}`,
      ),
    )
    .sort();
}

async function equal(): Promise<void> {
  await eventually(async () => expect(await contents(here)).toEqual(await contents(there)), 15_000);
}

test("it comes to have what the primary has, also what is in no log any more", { timeout: 30_000 }, async () => {
  await equal();
  expect(await here.collection("movies").count()).toBe(200);
  const films = there.collection("films");
  await films.upsert(range(300, 20).map((id) => pointOf(id, 1)));
  // A token of one cluster is good in the other.
  expect(await here.collection("films").get(310, { consistency: { atLeast: films.token } })).toMatchObject({ id: 310 });
});

test("it refuses what would change it, and answers the rest", { timeout: 30_000 }, async () => {
  const films = here.collection("films");
  const changes: (() => Promise<unknown>)[] = [
    () => films.upsert([pointOf(1, 2)]),
    () => films.delete([1]),
    () => films.truncate(),
    () => films.createPayloadIndex("version", "integer"),
    () => here.collection("mine").create({ vectors: { dimension: 4, metric: "l2" } }),
    () => here.collection("old").drop(),
    () => here.aliases.create("mine", "films"),
    () => here.cluster.splitShard({ collection: "films", shard: 0 }),
  ];
  for (const change of changes) expect((await failureOf(change()))?.code).toBe("READ_ONLY");
  await eventually(async () => {
    const status = await here.cluster.standby();
    expect(status).toMatchObject({ primary: "kith", phase: "following", reachable: true, reason: "", lag: 0 });
    expect(status?.lagMs).toBeLessThan(5_000);
    expect(status?.logs.map(({ state }) => state)).toEqual(["following", "following", "following"]);
  }, 10_000);
});

test("new and deleted collections, changes of the schema and splits come too", { timeout: 60_000 }, async () => {
  await there.collection("old").drop();
  await there.collection("new").create({ vectors: { dimension: 16, metric: "l2" } });
  await there.collection("films").createPayloadIndex("version", "integer");
  const split = await there.cluster.splitShard({ collection: "films", shard: 0 });
  expect(await ended(there, split)).toMatchObject({ state: "done" });
  await there.collection("films").upsert(range(0, 200).map((id) => pointOf(id, 2)));
  await equal();
  expect(await shardsOf(here, "films")).toEqual([1, 2, 3]);
  expect((await here.collections.list()).map(({ name }) => name).sort()).toEqual(["films", "new"]);
  expect(await here.collection("films").listPayloadIndexes()).toMatchObject([{ path: "version" }]);
});

test("it goes on by itself when the primary is lost, and has all that had come", { timeout: 60_000 }, async () => {
  // A promotion wants a whole replica of each shard, also of those that came last.
  await eventually(async () => {
    const status = await here.cluster.standby();
    expect(status?.logs.map(({ state }) => state)).toEqual(status?.logs.map(() => "following"));
  }, 15_000);
  const before = await contents(here);
  await natsServers[0].kill();
  await here.cluster.promoteStandby();
  await eventually(async () => expect(await here.cluster.standby()).toMatchObject({ phase: "promoted" }), 20_000);
  // A record that changes nothing has taken the place of the primary's next one.
  const behind = before.map((text) => text.replace(/ (\d+) /, (_, sequence: string) => ` ${Number(sequence) + 1} `));
  await eventually(async () => expect(await contents(here)).toEqual(behind), 10_000);
  const films = here.collection("films");
  await films.upsert([pointOf(5_000, 1)]);
  expect(await films.count()).toBe(221);
});
