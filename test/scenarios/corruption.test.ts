/**
 * Files of a stopped node are damaged: every file of the index checkpoint, and the tables, log and manifest of LevelDB. The
 * damage is found, the checkpoint or the whole replica is built anew, and a wrong value is never served, not even on the way.
 */
import { cpSync, readFileSync, rmSync, statSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { CollectionHandle, KithClient } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { filesBelow, flipByte, randomFrom } from "../cluster/damage.js";
import { eventually } from "../../libs/base/testing.js";
import { onceAvailable } from "../cluster/eventually.js";
import { startInProcess } from "../cluster/in-process.js";
import { startProcesses } from "../cluster/processes.js";
import {
  compareDigests,
  dimension,
  expectCaughtUp,
  Ledger,
  type Payload,
  range,
  replicaOn,
} from "../cluster/workload.js";

/** More than a graph needs, so that a checkpoint of one is written. */
const pointCount = 4_500;
/** KITH_CORRUPTION_FLIPS: more single flipped bytes, at other places (npm run test:long). */
const flips = Number(process.env["KITH_CORRUPTION_FLIPS"] ?? 3);
const seed = Number(process.env["KITH_SEED"] ?? 20_260_101);
const cluster = useCluster(() => startInProcess(), fillAndCopy);
const pair = useCluster(() => startProcesses({ shardNodes: 2, replicas: 2 }));
let client: KithClient;
let handle: CollectionHandle<Payload>;
let ledger: Ledger;
let digest: string;

const replicas = (): string => join(cluster().dataOf("all"), "replicas");
const pristine = (): string => join(cluster().dataOf("all"), "pristine");

async function fillAndCopy(): Promise<void> {
  client = await cluster().connect();
  handle = client.collection<Payload>("damaged");
  await handle.create({ vectors: { dimension, metric: "l2" } });
  ledger = new Ledger(handle);
  await ledger.fill(0, pointCount);
  await ledger.delete(range(10, 50));
  await handle.waitIndexed();
  digest = replicaOn(await client.cluster.describe(), "all").digest;
  // The second start turns LevelDB's log into tables; the write after it leaves something in the log again.
  await cluster().stop("all");
  await cluster().start("all");
  await onceAvailable(() => ledger.verify());
  await cluster().stop("all");
  cpSync(replicas(), pristine(), { recursive: true });
}

/** Damages the stopped node, starts it, and checks everything that it serves from the first answer on. */
async function survives(damage: () => void): Promise<void> {
  await cluster().stop("all");
  rmSync(replicas(), { recursive: true });
  cpSync(pristine(), replicas(), { recursive: true });
  damage();
  await cluster().start("all");
  await onceAvailable(() => ledger.verify());
  await eventually(() => expectCaughtUp(client, 1));
  expect(replicaOn(await client.cluster.describe(), "all").digest).toBe(digest);
  expect(await onceAvailable(() => ledger.selfRecall(30))).toBe(1);
  // Whatever was rebuilt takes writes as before; the pristine copy does not have them.
  await ledger.verify("none");
}

/** What the node has said since `from` characters of its log. */
function alarmsSince(from: number): string[] {
  return cluster()
    .logOf("all")
    .slice(from)
    .split("\n")
    .filter((line) => line.includes("replica alarm"))
    .map((line) => (JSON.parse(line) as { alarm: string }).alarm);
}

const indexFiles = ["rows", "graph", "meta", "manifest"] as const;

/** The files of the checkpoint by what they hold, as the node names them. */
function indexFile(kind: (typeof indexFiles)[number]): string {
  const found = filesBelow(replicas(), /index-dense-0\//).find((path) => path.includes(kind));
  if (found === undefined) throw new Error(`no ${kind} in ${filesBelow(replicas(), /./).join(", ")}`);
  return found;
}

for (const kind of indexFiles) {
  const damages: [string, (file: string) => void][] = [
    ["a flipped byte in the middle", (file) => flipByte(file, Math.floor(statSync(file).size / 2))],
    ["its second half cut off", (file) => truncateSync(file, Math.floor(statSync(file).size / 2))],
    ["nothing left", (file) => truncateSync(file, 0)],
  ];
  test(`a checkpoint whose ${kind} file has ${damages.map(([name]) => name).join(", or ")}`, {
    timeout: 60_000,
  }, async () => {
    for (const [name, damage] of damages) {
      const before = cluster().logOf("all").length;
      await survives(() => damage(indexFile(kind)));
      expect(alarmsSince(before), name).toContain("checkpoint_dropped");
    }
  });
}

test("a checkpoint without its manifest", { timeout: 60_000 }, async () => {
  await survives(() => rmSync(indexFile("manifest")));
});

test("an intact checkpoint is used, without an alarm", { timeout: 60_000 }, async () => {
  const before = cluster().logOf("all").length;
  await survives(() => undefined);
  expect(alarmsSince(before)).toEqual([]);
});

test("a LevelDB table with its second half cut off, or nothing left", { timeout: 60_000 }, async () => {
  const table = (): string => filesBelow(replicas(), /\.ldb$/)[0] as string;
  for (const damage of [
    () => truncateSync(table(), Math.floor(statSync(table()).size / 2)),
    () => truncateSync(table(), 0),
    () => rmSync(table()),
  ]) {
    const before = cluster().logOf("all").length;
    await survives(damage);
    expect(alarmsSince(before).length).toBeGreaterThan(0);
  }
});

test("a LevelDB without its manifest, or with a damaged one", { timeout: 60_000 }, async () => {
  const manifest = (): string => filesBelow(replicas(), /db\/MANIFEST-/)[0] as string;
  for (const damage of [() => rmSync(manifest()), () => flipByte(manifest(), 20), () => truncateSync(manifest(), 10)]) {
    const before = cluster().logOf("all").length;
    await survives(damage);
    expect(alarmsSince(before).length).toBeGreaterThan(0);
  }
});

test("stored vectors with a flipped byte", { timeout: 60_000 }, async () => {
  // The first component of a vector that is stored once: its bytes are found in the table as they are, unless compressed.
  const before = cluster().logOf("all").length;
  let damaged = 0;
  await survives(() => {
    for (const table of filesBelow(replicas(), /\.ldb$/)) {
      const bytes = readFileSync(table);
      flipByte(table, Math.floor(bytes.length / 3));
      damaged++;
    }
  });
  expect(damaged).toBeGreaterThan(0);
  expect(alarmsSince(before)).toContain("store_corrupt");
});

test(`${flips} single flipped bytes anywhere in LevelDB (seed ${seed})`, {
  timeout: 30_000 + flips * 10_000,
}, async () => {
  const random = randomFrom(seed);
  for (let i = 0; i < flips; i++) {
    let place = "";
    try {
      await survives(() => {
        const files = filesBelow(replicas(), /db\/.*(\.ldb|\.log|MANIFEST-.*|CURRENT)$/).filter(
          (path) => statSync(path).size > 0,
        );
        const file = files[random(files.length)] as string;
        const at = random(statSync(file).size);
        place = `${file} at ${at}`;
        flipByte(file, at);
      });
    } catch (error) {
      throw new Error(`flip ${i} (seed ${seed}): ${place}`, { cause: error });
    }
  }
});

test("a replica with a damaged store is rebuilt beside the other one, which serves meanwhile; both end equal", {
  timeout: 90_000,
}, async () => {
  const other = await pair().connect();
  const shared = other.collection<Payload>("pair");
  await shared.create({ vectors: { dimension, metric: "l2" }, replicas: 2 });
  const known = new Ledger(shared);
  await known.fill(0, pointCount);
  await eventually(() => compareDigests(other, 2));
  // Twice: the second start has tables.
  for (const node of ["shard-1", "shard-1"]) {
    await pair().stop(node);
    await pair().start(node);
    await eventually(() => compareDigests(other, 2), 30_000);
  }
  await pair().stop("shard-1");
  for (const table of filesBelow(pair().dataOf("shard-1"), /\.ldb$/)) flipByte(table, statSync(table).size >> 1);
  for (const file of filesBelow(pair().dataOf("shard-1"), /index-dense-0\/.*graph/)) flipByte(file, -9);
  await pair().start("shard-1");
  // Every read on the way is right, whichever replica answers.
  for (let i = 0; i < 5; i++) await known.verify();
  await eventually(() => compareDigests(other, 2), 30_000);
  expect(pair().logOf("shard-1")).toContain("store_corrupt");
  await pair().stop("shard-0");
  await onceAvailable(() => known.verify());
  expect(await known.selfRecall()).toBe(1);
});
