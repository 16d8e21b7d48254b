/**
 * Master keys that are replaced while real processes are killed in the middle of the rewriting, and starts without the keys that are needed then: a clear
 * error, nothing damaged, and every point as it was.
 */
import { createHash, randomBytes } from "node:crypto";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { ClassicLevel } from "classic-level";
import { expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import type { KithClient, ReplicaInfo } from "../../libs/client/index.js";
import { masterKeysOf } from "../../libs/encryption/index.js";
import { useCluster } from "../cluster/cluster.js";
import { filesBelow } from "../cluster/damage.js";
import { startProcesses } from "../cluster/processes.js";
import { untilUp } from "../cluster/until-up.js";
import { compareDigests, dimension, vectorOf } from "../cluster/workload.js";

const pointCount = 4_000;
const [first, second, third, wrong] = Array.from({ length: 4 }, () => randomBytes(32).toString("base64"));
const keyFileOf = (data: string): string => `${data}.key`;

const cluster = useCluster(() =>
  startProcesses({
    shardNodes: 2,
    replicas: 2,
    prefix(_, data) {
      writeFileSync(keyFileOf(data), `${first}\n`);
      return ["/usr/bin/env", `KITH_ENCRYPTION_KEY_FILE=${keyFileOf(data)}`];
    },
  }),
);

const setKeys = (node: string, ...lines: (string | undefined)[]): void =>
  writeFileSync(keyFileOf(cluster().dataOf(node)), lines.join("\n"));
const allNodes = (): string[] => [...cluster().shardNodes, ...cluster().routers];

const payloadOf = (id: number): { text: string } => ({ text: vectorOf(id, 7).join(" ").repeat(8) });

/** How many values of a node's only store are encrypted with each of its data keys; what the node has not begun to rewrite has one key. */
async function valuesByKey(node: string): Promise<Map<number, number>> {
  const [current] = filesBelow(cluster().dataOf(node), /replicas\/.*\/db\/CURRENT$/);
  const copy = mkdtempSync(join(tmpdir(), "kith-copy-"));
  const found = new Map<number, number>();
  try {
    // The database belongs to a process.
    cpSync(dirname(current ?? ""), copy, { recursive: true });
    const encodings = { keyEncoding: "view", valueEncoding: "view", compression: false } as const;
    const database = new ClassicLevel<Uint8Array, Uint8Array>(copy, encodings);
    for await (const value of database.values()) {
      const bytes = Buffer.from(value);
      if (bytes.subarray(-4).toString("latin1") !== "KEV1") continue;
      const number = bytes.readUInt32LE(0);
      found.set(number, (found.get(number) ?? 0) + 1);
    }
    await database.close();
  } finally {
    rmSync(copy, { recursive: true });
  }
  return found;
}

/** Lets the node take its keys anew, and kills it when some of its values have the new data key and others the one of before. */
async function killHalfway(node: string, begin: () => Promise<void> | void): Promise<void> {
  const [before = 0] = (await valuesByKey(node)).keys();
  await begin();
  for (;;) {
    cluster().signal(node, "SIGSTOP");
    const values = await valuesByKey(node);
    if (values.size > 1) return cluster().kill(node);
    expect([...values.keys()], "all had been rewritten before the process could be killed").toEqual([before]);
    cluster().signal(node, "SIGCONT");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Names and contents, but for the lock, a database that each start opens. */
function contents(node: string): Map<string, string> {
  const data = cluster().dataOf(node);
  const files = filesBelow(data, /^(?!lock\/)/);
  return new Map(files.map((file) => [file, createHash("sha256").update(readFileSync(file)).digest("hex")]));
}

async function expectAll(client: KithClient): Promise<void> {
  let count = 0;
  const all = client.collection("secrets").scroll({ withPayload: true, withVectors: true, batch: 1_000 });
  for await (const { id, payload, vector } of all) {
    expect(payload).toEqual(payloadOf(Number(id)));
    expect(vector).toEqual(vectorOf(Number(id), 1));
    count++;
  }
  expect(count).toBe(pointCount);
}

/** By node. */
async function replicas(client: KithClient): Promise<Map<string, ReplicaInfo>> {
  const { shards } = await client.cluster.describe();
  return new Map(shards.flatMap((shard) => shard.replicas.map((replica) => [replica.node, replica])));
}

/** Both replicas have been rewritten with the master key of this id, and hold the same. */
async function expectRewritten(client: KithClient, masterKey: string, digest: string): Promise<void> {
  await eventually(async () => {
    const found = [...(await replicas(client)).values()];
    const whole = { state: "active", encrypting: false, masterKey, digest };
    expect(found).toEqual([expect.objectContaining(whole), expect.objectContaining(whole)]);
  }, 30_000);
  await expectAll(client);
}

test("a node that is killed while it rewrites needs both keys, damages nothing without one, and goes on with them", {
  timeout: 120_000,
}, async () => {
  const client = await cluster().connect();
  const handle = client.collection("secrets");
  await handle.create({ vectors: { dimension, metric: "l2" }, replicas: 2 });
  for (let from = 0; from < pointCount; from += 1_000) {
    const ids = Array.from({ length: 1_000 }, (_, i) => from + i);
    const points = ids.map((id) => ({ id, vector: vectorOf(id, 1), payload: payloadOf(id) }));
    await handle.upsert(points, { ack: "all" });
  }
  await compareDigests(client, 2);
  const before = (await replicas(client)).get("shard-0");
  const digest = before?.digest ?? "";
  const reload = async (...lines: (string | undefined)[]): Promise<void> => {
    for (const node of allNodes()) setKeys(node, ...lines);
    for (const node of allNodes()) cluster().signal(node, "SIGHUP");
  };
  const idOf = (line: string | undefined): string => masterKeysOf(line ?? "", "a test")[0]?.id ?? "";
  expect(before?.masterKey).toBe(idOf(first));
  await killHalfway("shard-0", () => reload(second, first));

  const logged = (): string => cluster().logOf("shard-0");
  const files = contents("shard-0");
  for (const [lines, why] of [
    [[wrong], /is encrypted with the master key [0-9a-f]{16}.*encryption\.keyFile.*\[FAILED_PRECONDITION\]/],
    [[""], /encryption\.keyFile.*\[INVALID_CONFIG\]/],
  ] as const) {
    const from = logged().length;
    setKeys("shard-0", ...lines);
    await cluster().start("shard-0");
    expect(await cluster().ended("shard-0")).toBeGreaterThan(0);
    expect(logged().slice(from)).toMatch(why);
    expect(contents("shard-0")).toEqual(files);
  }
  // The folder knows the new key; what was not rewritten yet is waited for.
  setKeys("shard-0", second);
  await cluster().start("shard-0");
  const needed = new RegExp(`the replica cannot be opened, .* is encrypted with the master key ${idOf(first)}`);
  await eventually(() => expect(logged()).toMatch(needed));
  await expectAll(client);
  setKeys("shard-0", second, first);
  cluster().signal("shard-0", "SIGHUP");
  await expectRewritten(client, idOf(second), digest);

  await killHalfway("shard-1", () => reload(third, second));
  await cluster().start("shard-1");
  await expectRewritten(client, idOf(third), digest);
  for (const node of cluster().shardNodes) {
    await cluster().stop(node);
    setKeys(node, third);
    await cluster().start(node);
  }
  await untilUp(cluster().target, 3);
  await expectRewritten(client, idOf(third), digest);
});
