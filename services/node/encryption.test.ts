/** Nodes whose data is encrypted at rest: keys that are there, missing, wrong and replaced, on a real NATS server. */
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { KithError } from "../../libs/base/index.js";
import { eventually } from "../../libs/base/testing.js";
import { connect, type KithClient, type ReplicaInfo } from "../../libs/client/index.js";
import { loadNodeConfig } from "../../libs/config/index.js";
import { testNatsServer, type TestNatsServer } from "../../libs/nats-server/testing.js";
import { silentLogger } from "../../libs/telemetry/index.js";
import { type RunningNode, startNode } from "./index.js";

const known = "a text that everybody would know again";
const dimension = 8;
const vector = Float32Array.from({ length: dimension }, (_, i) => 0.001 * (i + 1));
const vectorBytes = Buffer.from(vector.buffer);
const keyFile = (): string => join(folder, "master.key");
const line = (): string => randomBytes(32).toString("base64");

let folder: string;
let nats: TestNatsServer;
let master: string;
let client: KithClient;
const nodes = new Map<string, RunningNode>();
/** What nodes have warned of. */
const said: string[] = [];
const tell = (message: string): void => void said.push(message);
const logger = { ...silentLogger, warn: tell, error: tell };

async function start(
  nodeId: string,
  roles: string[],
  encryption: object = { keyFile: keyFile() },
): Promise<RunningNode> {
  const listen = { host: "127.0.0.1", port: 0 };
  const data = join(folder, nodeId);
  const config = loadNodeConfig({
    flags: {
      ...{ nodeId, roles, listen, link: listen, data, drainTimeoutMs: 200, encryption, replicationFactor: 2 },
      ...{ log: { kind: "jetstream", url: nats.url }, backup: { folder: join(folder, "backups") } },
    },
  });
  await mkdir(data, { recursive: true });
  const node = await startNode(config, { version: "test", logger: () => logger });
  nodes.set(nodeId, node);
  return node;
}

async function stop(nodeId: string): Promise<void> {
  await nodes.get(nodeId)?.close();
  nodes.delete(nodeId);
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kith-encryption-"));
  master = line();
  await writeFile(keyFile(), `${master}\n`);
  nats = await testNatsServer();
  await start("shard-1", ["shard"]);
  await start("shard-2", ["shard"]);
  const router = await start("router", ["router", "coordinator"]);
  client = await connect(router.address);
}, 60_000);
afterAll(async () => {
  client.close();
  await Promise.all([...nodes.values()].map((node) => node.close()));
  await nats.dispose();
  await rm(folder, { recursive: true, force: true });
}, 60_000);

/** Files below that have the text, or the vector, as it is. */
async function readable(directory: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(directory, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    // LevelDB removes what it has merged.
    const content = await readFile(path).catch(() => Buffer.alloc(0));
    if (content.includes(known) || content.includes(vectorBytes) || content.includes('"everybody"')) found.push(path);
  }
  return found;
}

async function replicas(): Promise<ReplicaInfo[]> {
  const { shards } = await client.cluster.describe();
  return shards.flatMap((shard) => shard.replicas);
}

async function expectWhole(collection: string): Promise<void> {
  const handle = client.collection(collection);
  const { points } = await eventually(() => handle.query({ vector, limit: 1, withPayload: true }));
  expect(points[0]?.payload).toEqual({ text: known, title: known, n: 1 });
  expect(await handle.count()).toBe(1_500);
}

test("nothing of points is in data folders, in the log's store or in a backup, and a restored backup has them all", async () => {
  const handle = client.collection("secrets");
  await handle.create({ vectors: { dimension, metric: "l2" }, replicas: 2 });
  await handle.createPayloadIndex("text", "bm25", { wait: true });
  await handle.createPayloadIndex("title", "keyword", { wait: true });
  const points = Array.from({ length: 1_500 }, (_, n) => ({
    id: n,
    vector: n === 1 ? vector : Float32Array.from({ length: dimension }, (_unused, i) => Math.sin(n * 31 + i * 7)),
    payload: { text: known, title: known, n },
  }));
  await handle.upsert(points, { ack: "all" });
  await expectWhole("secrets");
  const { id, operation } = await client.backups.create("secrets");
  await client.backups.wait(operation, { everyMs: 20 });
  const restored = await client.backups.restore(id, { collection: "restored" });
  await client.backups.wait(restored.operation, { everyMs: 20 });
  await eventually(() => expectWhole("restored"));
  // In order, so that checkpoints are written.
  await stop("shard-1");
  expect(
    (await readdir(join(folder, "shard-1"), { recursive: true })).some((path) => path.endsWith("manifest.json")),
  ).toBe(true);
  expect(await readable(folder)).toEqual([]);
  expect(await readable(nats.dataDirectory)).toEqual([]);
  await start("shard-1", ["shard"]);
  await eventually(async () => {
    const found = await replicas();
    expect(found.map(({ state }) => state)).toEqual(found.map(() => "active"));
    for (const { masterKey, encrypting } of found) expect([masterKey.length, encrypting]).toEqual([16, false]);
  });
}, 60_000);

test("a backup is brought to a time by encrypted records: what was written before it is there, and nothing later", async () => {
  const handle = client.collection("times");
  await handle.create({ vectors: { dimension, metric: "l2" }, shards: 2, replicas: 2 });
  const write = (from: number): Promise<unknown> =>
    handle.upsert(Array.from({ length: 20 }, (_, i) => ({ id: from + i, vector, payload: { text: known, from } })));
  /** A wall clock between what was written before and what comes now. */
  const between = async (): Promise<Date> => {
    const fromMs = Date.now();
    await eventually(() => expect(Date.now()).toBeGreaterThan(fromMs + 2));
    const time = new Date(fromMs + 1);
    await eventually(() => expect(Date.now()).toBeGreaterThan(time.getTime() + 1));
    return time;
  };
  await write(0);
  const { id, operation } = await client.backups.create("times");
  await client.backups.wait(operation, { everyMs: 20 });
  await write(100);
  await handle.delete({ filter: "from = 0" });
  const first = await between();
  await write(200);
  await handle.setPayload({ filter: "from = 100" }, { from: 150 });
  const second = await between();
  await write(300);
  const found = async (until?: Date): Promise<Record<string, number>> => {
    const collection = `times-${until?.getTime() ?? "base"}`;
    const restored = await client.backups.restore(id, { collection, ...(until && { until }) });
    await client.backups.wait(restored.operation, { everyMs: 20 });
    const counts: Record<string, number> = {};
    const there = client.collection(collection);
    for await (const { payload, vector: values } of there.scroll({ withPayload: true, withVectors: true })) {
      expect(payload?.["text"]).toBe(known);
      expect([...(values as Float32Array)]).toEqual([...vector]);
      const from = String(payload?.["from"]);
      counts[from] = (counts[from] ?? 0) + 1;
    }
    await there.drop();
    return counts;
  };
  expect(await found()).toEqual({ 0: 20 });
  expect(await found(first)).toEqual({ 100: 20 });
  expect(await found(second)).toEqual({ 150: 20, 200: 20 });
  expect(await found(new Date())).toEqual({ 150: 20, 200: 20, 300: 20 });
  // What it went by is nothing that could be read without the key.
  expect(await readable(nats.dataDirectory)).toEqual([]);
  await handle.drop();
}, 60_000);

test("a replica that has lost its data copies another one, encrypted with a key of its own", async () => {
  await stop("shard-2");
  await rm(join(folder, "shard-2", "replicas"), { recursive: true });
  await start("shard-2", ["shard"]);
  await eventually(async () => {
    const found = await replicas();
    expect(found.map(({ state, pointCount }) => [state, pointCount])).toEqual(found.map(() => ["active", 1_500]));
    expect(new Set(found.map(({ digest }) => digest)).size).toBeLessThanOrEqual(2);
  });
  await expectWhole("secrets");
  expect(await readable(join(folder, "shard-2"))).toEqual([]);
}, 60_000);

test("a node without the key, or with another one, does not start, says what to do, and leaves all as it is", async () => {
  await stop("shard-2");
  // The lock is a database that each start opens.
  const files = async (): Promise<string[]> =>
    (await readdir(join(folder, "shard-2"), { recursive: true })).filter((path) => !path.startsWith("lock/")).sort();
  const before = await files();
  await writeFile(join(folder, "other.key"), line());
  for (const encryption of [
    {},
    { keyFile: join(folder, "other.key") },
    { key: line() },
    { keyCommand: "echo nothing" },
  ]) {
    const failure = await start("shard-2", ["shard"], encryption).then(
      () => undefined,
      (error: unknown) => error as KithError,
    );
    expect(failure).toBeInstanceOf(KithError);
    expect(failure?.code).toBe("keyCommand" in encryption ? "INVALID_CONFIG" : "FAILED_PRECONDITION");
    expect(failure?.message).toMatch(/KITH_ENCRYPTION_KEY_FILE|keyCommand/);
  }
  // One with an empty folder would write what everybody can read, or nobody else.
  for (const encryption of [{}, { key: line() }]) {
    await expect(start("router-2", ["router"], encryption)).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  }
  expect(await files()).toEqual(before);
  await start("shard-2", ["shard"], { keyCommand: `cat ${keyFile()}` });
  await expectWhole("secrets");
}, 60_000);

test("with another master key all is written anew in the background, and the old one can go", async () => {
  const before = (await replicas())[0]?.masterKey;
  const next = line();
  await writeFile(keyFile(), `${next}\n${master}\n`);
  for (const node of nodes.values()) await node.reload();
  await eventually(async () => {
    const found = await replicas();
    const isDone = found.every(({ masterKey, encrypting }) => masterKey !== before && !encrypting);
    expect(isDone).toBe(true);
  });
  await client.collection("secrets").upsert([{ id: 9_000, vector, payload: { text: known } }], { ack: "all" });
  await client.collection("secrets").delete([9_000], { ack: "all" });
  await stop("shard-1");
  await writeFile(keyFile(), next);
  await start("shard-1", ["shard"]);
  await eventually(async () => expect((await replicas()).map(({ state }) => state)).not.toContain("stale"));
  await expectWhole("secrets");
  expect(await readable(folder)).toEqual([]);
  // The backup is as it was: it is read with the key of then.
  const [backup] = await client.backups.list();
  await client.backups.verify(backup?.id ?? "");
}, 60_000);

test("a byte that was changed on the disk is found, and the replica is built anew", async () => {
  await stop("shard-2");
  const replicasFolder = join(folder, "shard-2", "replicas");
  let changed = 0;
  for (const table of await readdir(replicasFolder, { recursive: true })) {
    if (!/db\/\d+\.ldb$/.test(table)) continue;
    const content = await readFile(join(replicasFolder, table));
    // In the ciphertext of a value.
    const at = content.indexOf("KEV1") - 24;
    if (at < 0) continue;
    content[at] = (content[at] as number) ^ 1;
    await writeFile(join(replicasFolder, table), content);
    changed++;
  }
  expect(changed).toBeGreaterThan(0);
  // The log has records that are older than the present key.
  await writeFile(keyFile(), `${await readFile(keyFile(), "utf8")}\n${master}`);
  said.length = 0;
  await start("shard-2", ["shard"]);
  await eventually(async () => expect((await replicas()).every(({ state }) => state === "active")).toBe(true));
  await stop("shard-1");
  for (const name of ["secrets", "restored"]) {
    await eventually(async () => {
      let count = 0;
      for await (const point of client.collection(name).scroll({ withPayload: true, withVectors: true, batch: 500 })) {
        expect(point.payload?.["text"]).toBe(known);
        count++;
      }
      expect(count).toBe(1_500);
    }, 20_000);
  }
  expect(said.join("\n")).toMatch(/was changed, or is another one's/);
  expect(await readable(join(folder, "shard-2"))).toEqual([]);
}, 60_000);
