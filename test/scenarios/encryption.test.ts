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

function readable(folder: string): string[] {
  const vector = Buffer.from(vectorOf(7, 1).buffer);
  return filesBelow(folder, /./).filter((path) => {
    if (!existsSync(path)) return false;
    const content = readFileSync(path);
    return content.includes(known) || content.includes(vector);
  });
}

test("a node that is killed comes back with all that it had, and nothing of it is to be read on a disk", {
  timeout: 60_000,
}, async () => {
  const client = await cluster().connect();
  const handle = client.collection("secrets");
  await handle.create({ vectors: { dimension, metric: "l2" } });
  const write = async (from: number): Promise<void> => {
    const points = Array.from({ length: 200 }, (_, i) => {
      return { id: from + i, vector: vectorOf(from + i, 1), payload: { text: known } };
    });
    await handle.upsert(points);
  };
  for (let round = 0; round < 3; round++) {
    await write(round * 200);
    await cluster().kill("shard-0");
    // Taken by the log alone, and applied after the start.
    await handle.upsert({ id: 10_000 + round, vector: vectorOf(1, 2), payload: { text: known } }, { ack: "log" });
    await cluster().start("shard-0");
    const found = await onceAvailable(() => handle.query({ vector: vectorOf(7, 1), limit: 1, withPayload: true }));
    expect(found.points).toMatchObject([{ id: 7, payload: { text: known } }]);
    expect(await handle.count()).toBe((round + 1) * 201);
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
