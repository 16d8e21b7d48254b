/** Backups of a cluster of several nodes in this process, on a real NATS server, to a folder and to an S3 server. */
import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import S3rver from "s3rver";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import { type CollectionHandle, connect, type KithClient, type Point } from "../../libs/client/index.js";
import { loadNodeConfig } from "../../libs/config/index.js";
import { testNatsServer, type TestNatsServer } from "../../libs/nats-server/testing.js";
import { silentLogger } from "../../libs/telemetry/index.js";
import { type RunningNode, startNode } from "./index.js";

let folder: string;
let nats: TestNatsServer;
let s3: S3rver;
let s3Port: number;
let nodes: RunningNode[] = [];
let client: KithClient;

async function start(nodeId: string, roles: string[]): Promise<RunningNode> {
  const listen = { host: "127.0.0.1", port: 0 };
  const config = loadNodeConfig({
    flags: {
      ...{ nodeId, roles, listen, link: listen, data: join(folder, nodeId) },
      log: { kind: "jetstream", url: nats.url },
      backup: {
        folder: join(folder, "backups"),
        s3: {
          ...{ bucket: "kith", prefix: "prod", endpoint: `http://127.0.0.1:${s3Port}`, pathStyle: true },
          ...{ accessKeyId: "S3RVER", secretAccessKeyFile: join(folder, "secret") },
        },
      },
    },
  });
  await mkdir(join(folder, nodeId), { recursive: true });
  const node = await startNode(config, { version: "test", logger: () => silentLogger });
  nodes.push(node);
  return node;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kith-backup-"));
  await writeFile(join(folder, "secret"), "S3RVER\n");
  nats = await testNatsServer();
  s3 = new S3rver({
    ...{ port: 0, address: "127.0.0.1", silent: true, directory: join(folder, "s3") },
    configureBuckets: [{ name: "kith", configs: [] }],
  });
  ({ port: s3Port } = await s3.run());
  await start("shard-1", ["shard"]);
  await start("shard-2", ["shard"]);
  const router = await start("router", ["router", "coordinator"]);
  client = await connect(router.address);
}, 60_000);
afterAll(async () => {
  client.close();
  await Promise.all(nodes.map((node) => node.close()));
  nodes = [];
  await s3.close();
  await nats.dispose();
  await rm(folder, { recursive: true, force: true });
}, 60_000);

const dimension = 8;
const vectorOf = (seed: number): number[] => Array.from({ length: dimension }, (_, i) => Math.sin(seed * 31 + i * 7));

async function fill(name: string, count: number, shards: number): Promise<CollectionHandle> {
  const handle = client.collection(name);
  const vectors = { "": { dimension, metric: "cosine" as const }, side: { dimension: 2, metric: "l2" as const } };
  await handle.create({ vectors: { text: vectors[""], side: vectors.side }, shards, labels: { team: "a" } });
  await handle.createPayloadIndex("n", "integer", { wait: true });
  const points = Array.from({ length: count }, (_, n) => ({
    id: n % 3 === 0 ? `name-${n}` : n,
    // Every seventh has one field alone, every eleventh no payload.
    vectors: { text: vectorOf(n), ...(n % 7 !== 0 && { side: [n, -n] }) },
    ...(n % 11 !== 0 && { payload: { n, text: `point ${n}`, nested: { odd: n % 2 === 1 } } }),
  }));
  for (let from = 0; from < count; from += 500) await handle.upsert(points.slice(from, from + 500));
  return handle;
}

type Content = Map<string, string>;

/** Everything that a collection holds, as text by id. */
async function contentOf(handle: CollectionHandle): Promise<Content> {
  const content: Content = new Map();
  for await (const point of handle.scroll({ withPayload: true, withVectors: true, batch: 500 })) {
    const { id, vectors, payload } = point as Point & { vectors: Record<string, Float32Array> };
    const texts = Object.entries(vectors ?? {}).map(([field, values]) => `${field}:${[...values].join(",")}`);
    content.set(String(id), `${texts.sort().join(";")} ${JSON.stringify(payload)}`);
  }
  return content;
}

async function backUp(name: string, options: Parameters<KithClient["backups"]["create"]>[1] = {}): Promise<string> {
  const { id, operation } = await client.backups.create(name, options);
  await client.backups.wait(operation, { everyMs: 20 });
  return id;
}

async function restore(
  id: string,
  options: Parameters<KithClient["backups"]["restore"]>[1],
): Promise<CollectionHandle> {
  const { collection, operation } = await client.backups.restore(id, options);
  await client.backups.wait(operation, { everyMs: 20 });
  const handle = client.collection(collection);
  await eventually(async () => expect((await handle.info()).name).toBe(collection));
  return handle;
}

test.each(["file:daily", "s3:daily"])(
  "a backup in %s is restored with another number of shards, point by point",
  async (location) => {
    const name = `films-${location.slice(0, 2).replace(":", "")}`;
    const handle = await fill(name, 2_000, 2);
    await handle.setExpiry(["name-3"], new Date(Date.now() + 3_600_000));
    await handle.delete([1, 2]);
    const expected = await contentOf(handle);
    expect(expected.size).toBe(1_998);
    const id = await backUp(name, { location });
    const [listed] = await client.backups.list({ location, collection: name });
    expect(listed).toMatchObject({ id, collection: name, pointCount: 1_998, base: "" });
    expect(await client.backups.verify(id, { location })).toMatchObject({ pointCount: 1_998 });
    await expect(client.backups.restore(id, { location })).rejects.toMatchObject({ code: "COLLECTION_EXISTS" });
    const again = await restore(id, { location, collection: `${name}-again`, shards: 5 });
    expect(await contentOf(again)).toEqual(expected);
    const info = await again.info();
    expect(info).toMatchObject({ shards: 5, labels: { team: "a" } });
    expect((await again.listPayloadIndexes()).map(({ path, kind }) => [path, kind])).toEqual([["n", "integer"]]);
    expect(await again.count({ filter: "n >= 1000" })).toBe(await handle.count({ filter: "n >= 1000" }));
    // It takes writes, and is found.
    await again.upsert({ id: 9_999, vectors: { text: vectorOf(9_999), side: [1, 1] } });
    const { points } = await again.query({ using: "text", vector: vectorOf(9_999), limit: 1 });
    expect(points[0]?.id).toBe(9_999);
  },
  60_000,
);

/** The versions of points by id: those of the logs that they were written to. */
async function versionsOf(handle: CollectionHandle): Promise<Map<string, number>> {
  const versions = new Map<string, number>();
  for await (const { id, version } of handle.scroll({ batch: 500 })) versions.set(String(id), version);
  return versions;
}

test.each(["file:files", "s3:files"])(
  "a backup in %s is restored as it was where there are as many shards, on all replicas, and goes on from there",
  async (location) => {
    const name = `whole-${location.slice(0, 2).replace(":", "")}`;
    const handle = await fill(name, 1_500, 3);
    await handle.setExpiry(["name-3"], new Date(Date.now() + 3_600_000));
    await handle.delete([1, 2]);
    const expected = await contentOf(handle);
    const versions = await versionsOf(handle);
    const id = await backUp(name, { location });
    await handle.upsert({ id: 8_000, vectors: { text: vectorOf(8_000), side: [1, 1] } });
    const again = await restore(id, { location, collection: `${name}-again`, replicas: 2 });
    expect(await contentOf(again)).toEqual(expected);
    // Their own logs go on behind what the files have: other versions would be those of points that were written again.
    expect(await versionsOf(again)).toEqual(versions);
    expect((await again.listPayloadIndexes()).map(({ path, kind }) => [path, kind])).toEqual([["n", "integer"]]);
    expect(await again.count({ filter: "n >= 1000" })).toBe(await handle.count({ filter: "n >= 1000" }));
    await again.upsert({ id: 9_999, vectors: { text: vectorOf(9_999), side: [1, 1] } });
    const { points } = await again.query({ using: "text", vector: vectorOf(9_999), limit: 1 });
    expect(points[0]?.id).toBe(9_999);
    await again.delete({ filter: "n < 10" });
    const digests = async (): Promise<string[]> => {
      const { shards } = await client.cluster.describe();
      const own = shards.filter(({ collection }) => collection === `${name}-again`);
      return own.flatMap(({ replicas }) => replicas.map(({ state, digest }) => `${state} ${digest}`));
    };
    await eventually(async () => {
      const all = await digests();
      expect(all).toHaveLength(6);
      expect(all.every((each) => each.startsWith("active "))).toBe(true);
      expect(new Set(all).size).toBe(3);
    });
    // And a backup of what was restored is one like any other.
    const next = await backUp(`${name}-again`, { location });
    const third = await restore(next, { location, collection: `${name}-third` });
    expect(await contentOf(third)).toEqual(await contentOf(again));
  },
  60_000,
);

test("backups of before there were files are listed, verified, and restored with any number of shards", async () => {
  const location = "file:format-1";
  await mkdir(join(folder, "backups", "format-1"), { recursive: true });
  const archive = fileURLToPath(new URL("../../test/fixtures/backup-1/data.tgz", import.meta.url));
  const unpacked = spawnSync("tar", ["-xzf", archive, "-C", join(folder, "backups", "format-1")]);
  expect(unpacked.status).toBe(0);
  const backups = await client.backups.list({ location });
  expect(backups.map(({ pointCount }) => pointCount)).toEqual([60, 50]);
  for (const [i, { id, pointCount }] of backups.entries()) {
    expect(await client.backups.verify(id, { location })).toMatchObject({ pointCount });
    const restored = await restore(id, { location, collection: `kept-${i}`, shards: 2 + i });
    expect(await restored.count({ filter: "n >= 0" })).toBe(pointCount);
    const [point] = await restored.get([7], { withVectors: true });
    expect([...((point as { vector?: Float32Array } | undefined)?.vector ?? [])]).toEqual([7, -7, 3.5, 1]);
  }
});

test("a backup while writes go on is one state of each shard", async () => {
  const handle = await fill("busy", 1_000, 2);
  let isRunning = true;
  const writing = (async () => {
    for (let n = 0; isRunning; n++) {
      await handle.upsert({ id: 5_000 + (n % 50), vectors: { text: vectorOf(n), side: [n, n] }, payload: { n } });
      await handle.setPayload([5_000 + (n % 50)], { again: n });
    }
  })();
  const ids = [await backUp("busy"), await backUp("busy"), await backUp("busy")];
  isRunning = false;
  await writing;
  for (const id of ids) await client.backups.verify(id);
  const restored = await restore(ids[1] as string, { collection: "busy-1", shards: 1 });
  const { size } = await contentOf(restored);
  expect(size).toBeGreaterThanOrEqual(1_000);
  expect(size).toBeLessThanOrEqual(1_050);
}, 60_000);

test("a further backup writes what has changed alone, and outlives the one before", async () => {
  const location = "file:steps";
  const handle = await fill("steps", 1_500, 1);
  const first = await backUp("steps", { location });
  const second = await backUp("steps", { location });
  const [same, full] = await client.backups.list({ location });
  expect(full).toMatchObject({ id: first, base: "" });
  expect(same).toMatchObject({ id: second, base: first });
  expect(full?.writtenBytes).toBe(full?.sizeBytes);
  // LevelDB may have merged its tables meanwhile; checkpoints of indexes are as they were.
  expect(same?.writtenBytes as number).toBeLessThan(full?.writtenBytes as number);
  await handle.upsert({ id: 100_000, vectors: { text: vectorOf(1), side: [0, 0] } });
  const third = await backUp("steps", { location });
  const expected = await contentOf(handle);
  const anew = await backUp("steps", { location, full: true });
  expect((await client.backups.list({ location }))[0]).toMatchObject({ id: anew, base: "" });
  await client.backups.delete(first, { location });
  await client.backups.delete(second, { location });
  await expect(client.backups.verify(first, { location })).rejects.toMatchObject({ code: "NOT_FOUND" });
  await client.backups.verify(third, { location });
  expect(await contentOf(await restore(third, { location, collection: "steps-3" }))).toEqual(expected);
  await client.backups.delete(third, { location });
  await client.backups.delete(anew, { location });
  const left = await readdir(join(folder, "backups", "steps"), { recursive: true, withFileTypes: true });
  expect(left.filter((entry) => entry.isFile()).map((entry) => entry.name)).toEqual([]);
}, 60_000);

test("damage is found, and nothing is made of a damaged backup", async () => {
  const location = "file:damage";
  await fill("damage", 600, 1);
  const id = await backUp("damage", { location });
  const chunks = join(folder, "backups", "damage", "chunks", id, "0");
  const paths = (await readdir(chunks)).map((file) => join(chunks, file));
  expect(paths.length).toBeGreaterThan(3);
  const flip = async (file: string): Promise<Buffer> => {
    const before = await readFile(file);
    const flipped = Buffer.from(before);
    const at = Math.floor(flipped.length / 2);
    flipped.writeUInt8((flipped[at] as number) ^ 1, at);
    await writeFile(file, flipped);
    return before;
  };
  for (const each of paths) {
    const before = await flip(each);
    await expect(client.backups.verify(id, { location })).rejects.toMatchObject({ code: "CORRUPT_DATA" });
    await writeFile(each, before);
  }
  const sizes = await Promise.all(paths.map(async (each) => (await readFile(each)).length));
  const path = paths[sizes.indexOf(Math.max(...sizes))] as string;
  const bytes = await flip(path);
  for (const shards of [1, 2]) {
    const collection = `none-${shards}`;
    const { operation } = await client.backups.restore(id, { location, collection, shards });
    await expect(client.backups.wait(operation, { everyMs: 20 })).rejects.toMatchObject({ code: "CORRUPT_DATA" });
    await eventually(async () => expect(await client.collection(collection).exists()).toBe(false));
  }
  await rm(path);
  await expect(client.backups.verify(id, { location })).rejects.toMatchObject({ code: "CORRUPT_DATA" });
  await writeFile(path, bytes);
  await client.backups.verify(id, { location });
}, 60_000);

test("a later state comes from the logs: of a sequence, and of a time", async () => {
  const location = "file:later";
  const handle = await fill("later", 800, 2);
  const id = await backUp("later", { location });
  // What only the state tells: filters, conditions, parts.
  await handle.delete({ filter: "n < 100" });
  await handle.setPayload({ filter: "n >= 700" }, { late: true });
  await handle.updateVectors([{ id: 500, vectors: { side: [7, 7] } }]);
  const { token } = await handle.upsert({ id: 900, vectors: { text: vectorOf(900) } }, { mode: "insert" });
  const expected = await contentOf(handle);
  const states = await client.cluster.describe();
  const sequences: Record<number, number> = {};
  for (const { collection, shard, logSequence } of states.shards) {
    if (collection === "later") sequences[shard] = logSequence as number;
  }
  expect(token).toBeDefined();
  await new Promise((resolve) => setTimeout(resolve, 20));
  const time = new Date();
  await new Promise((resolve) => setTimeout(resolve, 20));
  await handle.delete({ filter: "n >= 0" });
  const base = await restore(id, { location, collection: "later-base" });
  expect((await contentOf(base)).size).toBe(800);
  const bySequence = await restore(id, { location, collection: "later-sequence", shards: 3, until: sequences });
  expect(await contentOf(bySequence)).toEqual(expected);
  const byTime = await restore(id, { location, collection: "later-time", shards: 1, until: time });
  expect(await contentOf(byTime)).toEqual(expected);
  await expect(client.backups.restore(id, { location, collection: "x", until: new Date(0) })).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
  });
  const { operation } = await client.backups.restore(id, { location, collection: "x", until: { 0: 1_000_000 } });
  await expect(client.backups.wait(operation, { everyMs: 20 })).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  // Without its collection the logs are gone, and the backup is what there is.
  await handle.drop();
  await expect(client.backups.restore(id, { location, collection: "y", until: time })).rejects.toMatchObject({
    code: "FAILED_PRECONDITION",
  });
  expect((await contentOf(await restore(id, { location }))).size).toBe(800);
}, 60_000);

test("a backup is held to its rate, shows how far it is, and leaves nothing when it is cancelled", async () => {
  const location = "file:slow";
  await fill("slow", 1_000, 1);
  const { id, operation } = await client.backups.create("slow", { location, maxBytesPerSecond: 1_000 });
  await eventually(async () =>
    expect((await client.cluster.operation(operation)).progress?.points ?? 0).toBeGreaterThan(0),
  );
  await client.cluster.cancelOperation(operation);
  await expect(client.backups.wait(operation, { everyMs: 20 })).rejects.toMatchObject({ code: "CANCELLED" });
  expect(await client.backups.list({ location })).toEqual([]);
  await expect(client.backups.verify(id, { location })).rejects.toMatchObject({ code: "NOT_FOUND" });
  const left = await readdir(join(folder, "backups", "slow"), { recursive: true, withFileTypes: true });
  expect(left.filter((entry) => entry.isFile()).map((entry) => entry.name)).toEqual([]);
}, 60_000);

test.each(["../../etc/passwd", "20261126t213543000z-1a2b3c4d/../x", "", "x"])(
  "an id that is none leads nowhere: %j",
  async (id) => {
    await expect(client.backups.verify(id)).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect(client.backups.delete(id)).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect(client.backups.restore(id, { collection: "z" })).rejects.toMatchObject({ code: "NOT_FOUND" });
  },
);

test("what cannot be is refused at once", async () => {
  await expect(client.backups.create("nobody")).rejects.toMatchObject({ code: "COLLECTION_NOT_FOUND" });
  await fill("plain", 10, 1);
  await expect(client.backups.create("plain", { location: "file:../x" })).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
  });
});

test("a collection is backed up by its present name or an alias, and restored under the old name of another one", {
  timeout: 60_000,
}, async () => {
  await fill("first-name", 20, 1);
  const renamed = await client.collection("first-name").rename("second-name");
  await client.aliases.create("backed-up", "second-name");
  const { id, operation } = await client.backups.create("backed-up");
  await client.backups.wait(operation, { everyMs: 20 });
  const [info] = (await client.backups.list()).filter((each) => each.id === id);
  expect(info?.collection).toBe("second-name");
  await expect(client.backups.restore(id, { collection: "backed-up" })).rejects.toMatchObject({
    code: "ALREADY_EXISTS",
  });
  // The key of the record of the renamed one.
  const restored = await client.backups.restore(id, { collection: "first-name" });
  await client.backups.wait(restored.operation, { everyMs: 20 });
  expect(await client.collection("first-name").count()).toBe(20);
  expect((await client.collection("first-name").info()).id).not.toBe(renamed.id);
});
