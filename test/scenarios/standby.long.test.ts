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
/** At most so many of each, which are read at once. */
const perWriter = 5_000;

/** `env`: of all nodes. */
async function pair(env: Record<string, string> = {}): Promise<{
  primary: ProcessCluster;
  standby: ProcessCluster;
  there: KithClient;
  here: KithClient;
}> {
  const primary = await startProcesses({ ...size, env });
  clusters.push(primary);
  const standby = await startProcesses({
    ...size,
    env: { ...env, KITH_CLUSTER: "there", KITH_STANDBY_PRIMARY_URL: primary.natsUrl },
  });
  clusters.push(standby);
  return { primary, standby, there: await primary.connect(), here: await standby.connect() };
}

/** Two points at a time of each writer, until the primary is gone: by writer, how many pairs were acknowledged. */
async function load(client: KithClient, stop: () => boolean): Promise<number[]> {
  const films = client.collection("films");
  const write = async (writer: number): Promise<number> => {
    for (let done = 0; ; done++) {
      if (stop() || done === perWriter) return done;
      const id = writer * 1_000_000 + done;
      try {
        await films.upsert([pointOf(id, 1), pointOf(id + 500_000, done)]);
      } catch {
        return done;
      }
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

/** Which points of a writer are here, by their numbers. */
async function numbersOf(here: KithClient, writer: number, count: number): Promise<Set<number>> {
  const found = await here.collection("films").get(range(writer * 1_000_000, count));
  return new Set(found.map(({ id }) => Number(id) - writer * 1_000_000));
}

/** By writer, how many of its points are here now without a gap: what was seen may not vanish. */
function seenOf(here: KithClient): Promise<number[]> {
  return Promise.all(
    range(0, writers).map(async (writer) => {
      const numbers = await numbersOf(here, writer, perWriter);
      let count = 0;
      while (numbers.has(count)) count++;
      return count;
    }),
  );
}

/** What was seen before the kill is there, nothing is that nobody wrote, and all replicas have the same. */
async function judge(here: KithClient, acknowledged: readonly number[], seen: readonly number[]): Promise<void> {
  for (const [writer, count] of acknowledged.entries()) {
    const numbers = await numbersOf(here, writer, perWriter);
    for (let i = 0; i < (seen[writer] ?? 0); i++)
      expect(numbers.has(i), `writer ${writer} has lost point ${i}`).toBe(true);
    // The last one that it has tried may have come.
    expect(Math.max(...numbers)).toBeLessThanOrEqual(count);
  }
  await eventually(() => compareDigests(here, size.replicas), 30_000);
}

test("the primary is killed under load, and all is encrypted", { timeout: 240_000 }, async () => {
  const { primary, there, here } = await pair({ KITH_ENCRYPTION_KEY: Buffer.alloc(32, 7).toString("base64") });
  await there.collection("films").create({ vectors: { dimension: 16, metric: "l2" }, shards: 3 });
  let isOver = false;
  const loaded = load(there, () => isOver);
  await eventually(async () => expect(Math.min(...(await seenOf(here)))).toBeGreaterThan(40), 60_000);
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

const steps = ["prepare", "copy", "seal", "switch", "drop", "ended"];

/** When the operation has come to a step. */
async function reached(client: KithClient, id: string, step: string): Promise<string> {
  for (;;) {
    const operation = await client.cluster.operation(id);
    const now = operation.state === "running" ? operation.step : "ended";
    if (steps.indexOf(now) >= steps.indexOf(step)) return now;
    await sleep(systemClock, 2);
  }
}

const cases = (["split", "merge"] as const).flatMap((kind) =>
  ["copy", "seal", "switch", "drop", "ended"].map((step) => [kind, step] as const),
);

test.each(cases)("the primary is killed while a %s is at the step %s", { timeout: 300_000 }, async (kind, step) => {
  const { primary, there, here } = await pair();
  await there.collection("films").create({ vectors: { dimension: 16, metric: "l2" }, shards: 2 });
  let isOver = false;
  const loaded = load(there, () => isOver);
  await eventually(async () => expect(Math.min(...(await seenOf(here)))).toBeGreaterThan(20), 60_000);
  const begun =
    kind === "split"
      ? await there.cluster.splitShard({ collection: "films", shard: 0 })
      : await there.cluster.mergeShards({ collection: "films", shards: [0, 1] });
  const at = await reached(there, begun.id, step);
  const seen = await seenOf(here);
  await killAll(primary);
  isOver = true;
  const acknowledged = await loaded;
  await promoted(here);
  await judge(here, acknowledged, seen);
  await here.collection("films").upsert(range(0, 50).map((id) => pointOf(id, 9)));
  const { shards } = await here.cluster.describe();
  expect(shards.every(({ state }) => state === "active")).toBe(true);
  process.stdout.write(`${kind}, killed at ${at}: shards ${shards.map(({ shard }) => shard).join(", ")}\n`);
});

function lagText(status: StandbyInfo | undefined): string {
  return `lag before: ${status?.lag} records, ${status?.lagMs} ms`;
}
