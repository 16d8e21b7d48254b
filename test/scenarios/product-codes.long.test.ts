/**
 * Product codes, through whatever happens to a replica: kill -9 while it saves its indexes, a replay of its log, a copy of another replica, a backup and its
 * restoration, and changes to and from them under writes. Each time replicas are alike, scores are of the vectors that were written, and each replica alone finds
 * what is near, also after most points were deleted.
 */
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { SeededRandom, sleep, systemClock, systemRuntime } from "../../libs/base/index.js";
import { eventually } from "../../libs/base/testing.js";
import type { CollectionHandle, KithClient } from "../../libs/client/index.js";
import { openJetStreamLog } from "../../libs/log/index.js";
import { connectNats } from "../../libs/nats/index.js";
import { useCluster } from "../cluster/cluster.js";
import { startProcesses } from "../cluster/processes.js";
import { compareDigests, failureOf, range } from "../cluster/workload.js";

const seed = Number(process.env["KITH_SEED"] ?? 40);
const folder = mkdtempSync(join(tmpdir(), "kith-product-codes-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const cluster = useCluster(() => startProcesses({ shardNodes: 2, replicas: 2, env: { KITH_BACKUP_FOLDER: folder } }));

const fields = ["pq16", "pq32", "pq64"] as const;
/** A multiple of no group's components. */
const dimension = 67;
/** More than a graph begins at (4,096 rows), before which rows are in f32. */
const count = 4_600;
const random = new SeededRandom(seed);
const numbers = (): Float32Array => Float32Array.from({ length: dimension }, () => random.float() * 2 - 1);
const centres = Array.from({ length: 60 }, numbers);
const near = (): Float32Array => {
  const [centre, away] = [centres[random.below(centres.length)] as Float32Array, numbers()];
  return centre.map((x, i) => x + (away[i] as number) / 3);
};

/** What was written and acknowledged; all fields of a point have the same vector. */
const model = new Map<number, Float32Array>();

async function write(handle: CollectionHandle, ids: readonly number[]): Promise<void> {
  const points = ids.map((id) => [id, near()] as const);
  await eventually(
    () =>
      handle.upsert(
        points.map(([id, vector]) => ({ id, vectors: { pq16: vector, pq32: vector, pq64: vector } })),
        { deadlineMs: 10_000 },
      ),
    40_000,
  );
  for (const [id, vector] of points) model.set(id, vector);
}

const distance = (a: Float32Array, b: Float32Array): number => {
  let sum = 0;
  for (let i = 0; i < dimension; i++) sum += ((a[i] as number) - (b[i] as number)) ** 2;
  return sum;
};

/** Scores are those of the vectors that were written, and the ten nearest are found. */
async function check(handle: CollectionHandle): Promise<void> {
  expect(await handle.count({ consistency: "linearizable" })).toBe(model.size);
  for (const using of fields) {
    let found = 0;
    for (let i = 0; i < 10; i++) {
      const vector = near();
      const { points } = await handle.query({ vector, using, limit: 10, consistency: "linearizable" });
      const truth = [...model].map(([id, own]) => [id, distance(vector, own)] as const).sort(([, a], [, b]) => a - b);
      const nearest = new Set(truth.slice(0, 10).map(([id]) => id));
      expect(points).toHaveLength(10);
      for (const { id, score } of points) {
        expect(score).toBeCloseTo(Math.sqrt(distance(vector, model.get(Number(id)) as Float32Array)), 4);
        if (nearest.has(Number(id))) found++;
      }
    }
    expect(found / 100, `recall@10 of ${using}`).toBeGreaterThanOrEqual(0.9);
  }
}

/** Each replica alone. */
async function checkEach(client: KithClient, handle: CollectionHandle): Promise<void> {
  for (const node of cluster().shardNodes) {
    await cluster().stop(node);
    await eventually(() => handle.count({ consistency: "linearizable" }), 30_000);
    await check(handle);
    await cluster().start(node);
    await eventually(() => compareDigests(client, 2), 60_000);
  }
}

/** Files that a save has begun and nothing names yet are beside those of the last one. */
function filesOf(node: string): string[] {
  const data = cluster().dataOf(node);
  return readdirSync(data, { recursive: true, encoding: "utf8" }).filter((name) => name.includes("index-dense-"));
}

test(`replicas of product codes stay alike and find what is near (seed ${seed})`, { timeout: 240_000 }, async () => {
  const client = await cluster().connect();
  const handle = client.collection("coded");
  const index = { dimension, metric: "l2", m: 8, efConstruction: 48 } as const;
  const { id: collectionId } = await handle.create({
    vectors: {
      pq16: { ...index, datatype: "pq16" },
      pq32: { ...index, datatype: "pq32" },
      pq64: { ...index, datatype: "pq64" },
    },
  });
  for (let from = 0; from < count; from += 1_150) await write(handle, range(from, 1_150));
  await check(handle);

  // It saves all indexes as it ends, and is ended for good in the midst of that.
  for (const node of cluster().shardNodes) {
    const before = filesOf(node).length;
    cluster().signal(node, "SIGTERM");
    await eventually(() => expect(filesOf(node).length).toBeGreaterThan(before), 10_000);
    await cluster().kill(node);
    await write(handle, range(random.below(count - 50), 50));
    await cluster().start(node);
    await eventually(() => compareDigests(client, 2), 60_000);
  }
  await checkEach(client, handle);

  // One that has lost its disk replays the log, and takes a copy where the log has been trimmed.
  const nats = await connectNats({ ...systemRuntime, servers: cluster().natsUrl });
  const log = await openJetStreamLog({ nats, cluster: "kith", ...systemRuntime });
  try {
    for (const isTrimmed of [false, true]) {
      const copies = (): number => cluster().logOf("shard-1").split("copies the replica of shard-0").length;
      const before = copies();
      await cluster().kill("shard-1");
      const replicas = join(cluster().dataOf("shard-1"), "replicas");
      expect(existsSync(replicas)).toBe(true);
      rmSync(replicas, { recursive: true });
      await write(handle, range(random.below(count - 50), 50));
      const name = { collectionId, shard: 0 };
      if (isTrimmed) await log.trim(name, (await log.state(name)).lastSequence);
      await cluster().start("shard-1");
      await eventually(() => compareDigests(client, 2), 60_000);
      if (isTrimmed) expect(copies()).toBeGreaterThan(before);
      await cluster().stop("shard-0");
      await eventually(() => check(handle), 30_000);
      await cluster().start("shard-0");
      await eventually(() => compareDigests(client, 2), 60_000);
    }
  } finally {
    await log.close();
    await nats.close();
  }

  const backup = await client.backups.create("coded");
  await client.backups.wait(backup.operation, { everyMs: 50 });
  const restoring = await client.backups.restore(backup.id, { collection: "restored" });
  await client.backups.wait(restoring.operation, { everyMs: 50 });
  const restored = client.collection("restored");
  expect((await restored.info()).vectors.map(({ datatype }) => datatype)).toEqual(fields);
  await check(restored);
  await restored.drop();

  // From product codes, and to them, while points are written and deleted.
  let isBusy = true;
  const writing = (async (): Promise<void> => {
    while (isBusy) {
      await write(handle, range(random.below(count - 20), 20));
      await sleep(systemClock, 50);
    }
  })();
  try {
    await handle.alterVectorField("pq16", { datatype: "f32", wait: true });
    await handle.alterVectorField("pq16", { datatype: "pq16", minRecall: 0.8, wait: true });
    await handle.alterVectorField("pq32", { datatype: "pq64", minRecall: 0.8, wait: true });
    await handle.rollbackGeneration("pq32");
  } finally {
    isBusy = false;
    await writing;
  }
  expect((await handle.info()).vectors.map(({ datatype }) => datatype)).toEqual(fields);
  await eventually(() => check(handle), 30_000);

  const gone = [...model.keys()].filter((id) => id % 5 < 3);
  expect(await failureOf(handle.delete(gone))).toBeUndefined();
  for (const id of gone) model.delete(id);
  await check(handle);
  await eventually(() => compareDigests(client, 2), 60_000);
  await checkEach(client, handle);
});
