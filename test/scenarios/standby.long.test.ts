/**
 * A primary that dies under load, all of it with kill -9, while it is followed: what had come is there, nothing else is, and the standby goes on. Once more
 * and again while its shards are split and merged, so that the promotion meets them half way.
 */
import { afterEach, expect, test } from "vitest";
import { sleep, systemClock } from "../../libs/base/index.js";
import { eventually } from "../../libs/base/testing.js";
import type { KithClient, StandbyInfo } from "../../libs/client/index.js";
import type { ProcessCluster } from "../cluster/cluster.js";
import { startProcesses } from "../cluster/processes.js";
import { compareDigests, pointOf, range } from "../cluster/workload.js";

const clusters: ProcessCluster[] = [];
afterEach(async ({ task }) => {
  if (task.result?.state === "fail") for (const cluster of clusters) cluster.keep();
  await Promise.all(clusters.splice(0).map((cluster) => cluster.close()));
}, 120_000);

const size = { shardNodes: 2, replicas: 2 };
const writers = 8;
const perWriter = 1_000;

async function pair(): Promise<{
  primary: ProcessCluster;
  standby: ProcessCluster;
  there: KithClient;
  here: KithClient;
}> {
  const primary = await startProcesses(size);
  clusters.push(primary);
  const standby = await startProcesses({
    ...size,
    env: { KITH_CLUSTER: "there", KITH_STANDBY_PRIMARY_URL: primary.natsUrl },
  });
  clusters.push(standby);
  return { primary, standby, there: await primary.connect(), here: await standby.connect() };
}

/** Points of each writer in their order, until the primary is gone: by writer, how many were acknowledged. */
async function load(client: KithClient, stop: () => boolean): Promise<number[]> {
  const films = client.collection("films");
  const write = async (writer: number): Promise<number> => {
    for (let done = 0; ; done++) {
      if (stop()) return done;
      const id = writer * 1_000_000 + done;
      try {
        await films.upsert([pointOf(id, 1), pointOf(writer * 1_000_000, done)]);
      } catch {
        return done;
      }
      if (done === perWriter) await sleep(systemClock, 1);
    }
  };
  return Promise.all(range(0, writers).map(write));
}

/** Ends all of the primary at once. */
async function killAll(primary: ProcessCluster): Promise<void> {
  await Promise.all([primary.killNats(), ...[...primary.shardNodes, ...primary.routers].map((id) => primary.kill(id))]);
}

async function promoted(here: KithClient): Promise<void> {
  await here.cluster.promoteStandby();
  await eventually(async () => expect(await here.cluster.standby()).toMatchObject({ phase: "promoted" }), 30_000);
  await eventually(async () => {
    const live = (await here.cluster.operations()).filter(({ state }) => state === "running");
    expect(live).toEqual([]);
  }, 60_000);
}

/** What is there is a prefix of what each writer has written, in its shards, and at least what was there before the kill. */
async function judge(here: KithClient, acknowledged: readonly number[], seen: readonly number[]): Promise<void> {
  const films = here.collection("films");
  for (const [writer, count] of acknowledged.entries()) {
    const ids = range(writer * 1_000_000, count + 1);
    const found = await films.get(ids);
    const present = found.flatMap((point, i) => (point === undefined ? [] : [i]));
    const least = seen[writer] ?? 0;
    for (let i = 0; i <= least; i++)
      expect(present.includes(i), `writer ${writer} has lost point ${i} of ${least}`).toBe(true);
  }
  await eventually(() => compareDigests(here, size.replicas), 30_000);
}

/** By writer, how many of its points are here now without a gap: what was seen may not vanish. */
async function seenOf(here: KithClient): Promise<number[]> {
  const films = here.collection("films");
  return Promise.all(
    range(0, writers).map(async (writer) => {
      const found = await films.get(range(writer * 1_000_000, perWriter));
      const gap = found.findIndex((point) => point === undefined);
      return (gap === -1 ? found.length : gap) - 1;
    }),
  );
}

test("the primary is killed under load", { timeout: 240_000 }, async () => {
  const { primary, there, here } = await pair();
  await there.collection("films").create({ vectors: { dimension: 16, metric: "l2" }, shards: 3 });
  let isOver = false;
  const loaded = load(there, () => isOver);
  await eventually(async () => expect(Math.min(...(await seenOf(here)))).toBeGreaterThan(20), 60_000);
  const status = await here.cluster.standby();
  const seen = await seenOf(here);
  await killAll(primary);
  isOver = true;
  const acknowledged = await loaded;
  await promoted(here);
  await judge(here, acknowledged, seen);
  process.stdout.write(
    `${lagText(status)}; ${acknowledged.reduce((sum, each) => sum + each, 0)} writes, of each writer seen ${seen.join(", ")}\n`,
  );
  await here.collection("films").upsert([pointOf(9, 9)]);
});

test.each([0, 400, 900, 1_500, 2_500, 4_000])(
  "it is killed %i ms after a split was asked for, and after a merge",
  { timeout: 300_000 },
  async (ms) => {
    for (const kind of ["split", "merge"] as const) {
      const { primary, there, here } = await pair();
      await there.collection("films").create({ vectors: { dimension: 16, metric: "l2" }, shards: 2 });
      let isOver = false;
      const loaded = load(there, () => isOver);
      await eventually(async () => expect(Math.min(...(await seenOf(here)))).toBeGreaterThan(20), 60_000);
      if (kind === "split") await there.cluster.splitShard({ collection: "films", shard: 0 });
      else await there.cluster.mergeShards({ collection: "films", shards: [0, 1] });
      await sleep(systemClock, ms);
      const seen = await seenOf(here);
      await killAll(primary);
      isOver = true;
      const acknowledged = await loaded;
      await promoted(here);
      await judge(here, acknowledged, seen);
      await here.collection("films").upsert(range(0, 50).map((id) => pointOf(id, 9)));
      const { shards } = await here.cluster.describe();
      process.stdout.write(`${kind} ${ms} ms: shards ${shards.map(({ shard }) => shard).join(", ")}\n`);
      await Promise.all(clusters.splice(0).map((cluster) => cluster.close()));
    }
  },
);

function lagText(status: StandbyInfo | undefined): string {
  return `lag before: ${status?.lag} records, ${status?.lagMs} ms`;
}
