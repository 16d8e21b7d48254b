/** Encryption at rest with real processes: kill -9 and starts with and without the key, and what lies on the disks of nodes and of NATS. */
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import { useCluster } from "../cluster/cluster.js";
import { filesBelow } from "../cluster/damage.js";
import { onceAvailable } from "../cluster/eventually.js";
import { startProcesses } from "../cluster/processes.js";
import { untilUp } from "../cluster/until-up.js";
import { dimension, vectorOf } from "../cluster/workload.js";

const known = "a text that everybody would know again";
const key = randomBytes(32).toString("base64");
const cluster = useCluster(() =>
  startProcesses({ shardNodes: 1, replicas: 1, env: { KITH_ENCRYPTION_KEY: key, KITH_BACKUP_FOLDER: "" } }),
);

/** A matrix and a sparse vector of a point, whose numbers are found nowhere else. */
function rowsOf(id: number): Float32Array[] {
  return [1, 2].map((row) => Float32Array.from({ length: 8 }, (_, i) => Math.sin(1 + id * 31 + row * 7 + i)));
}
function wordsOf(id: number): { indices: Uint32Array; values: Float32Array } {
  const values = Float32Array.from({ length: 8 }, (_, i) => 1.5 + Math.cos(id * 17 + i));
  return { indices: Uint32Array.from({ length: 8 }, (_, i) => i + id), values };
}

function readable(folder: string): string[] {
  const vectors = [vectorOf(7, 1), ...rowsOf(7), wordsOf(7).values].map((each) => Buffer.from(each.buffer));
  return filesBelow(folder, /./).filter((path) => {
    if (!existsSync(path)) return false;
    const content = readFileSync(path);
    return content.includes(known) || vectors.some((vector) => content.includes(vector));
  });
}

test("a node that is killed comes back with all that it had, and nothing of it is to be read on a disk", {
  timeout: 60_000,
}, async () => {
  const client = await cluster().connect();
  const handle = client.collection("secrets");
  await handle.create({
    vectors: { dense: { dimension, metric: "l2" }, tokens: { dimension: 8, multivector: "maxSim" } },
    sparse: { words: {} },
  });
  const write = async (from: number): Promise<void> => {
    const points = Array.from({ length: 200 }, (_, i) => {
      const id = from + i;
      const vectors = { dense: vectorOf(id, 1), tokens: rowsOf(id) };
      return { id, vectors, sparse: { words: wordsOf(id) }, payload: { text: known } };
    });
    await handle.upsert(points);
  };
  for (let round = 0; round < 3; round++) {
    await write(round * 200);
    await cluster().kill("shard-0");
    // Taken by the log alone, and applied after the start.
    await handle.upsert(
      { id: 10_000 + round, vectors: { dense: vectorOf(1, 2) }, payload: { text: known } },
      { ack: "log" },
    );
    await cluster().start("shard-0");
    const found = await onceAvailable(() =>
      handle.query({ vector: vectorOf(7, 1), using: "dense", limit: 1, withPayload: true }),
    );
    expect(found.points).toMatchObject([{ id: 7, payload: { text: known } }]);
    expect(await handle.count()).toBe((round + 1) * 201);
    const late = await handle.query({ vector: rowsOf(7), using: "tokens", limit: 1 });
    expect(late.points.map(({ id, score }) => [id, score])).toEqual([[7, expect.closeTo(2, 5)]]);
    const { indices, values } = wordsOf(7);
    const common = await handle.query({ sparse: wordsOf(7), using: "words", limit: 1_000 });
    const own = values.reduce((sum, value) => sum + value * value, 0);
    expect(common.points.find(({ id }) => id === 7)?.score).toBeCloseTo(own, 4);
    expect(common.points.length).toBe(2 * indices.length - 1);
  }
  const data = cluster().dataOf("shard-0");
  expect(readable(dirname(data))).toEqual([]);
  expect(
    filesBelow(join(dirname(data), "nats"), /\.blk$/).some((path) => readFileSync(path).includes("KithSeal")),
  ).toBe(true);
  await cluster().stop("shard-0");
  await cluster().start("shard-0");
  await untilUp(cluster().target, 2);
  await eventually(() => handle.count().then((count) => expect(count).toBe(603)));
});
