/** Shard nodes and routers in this process, on a real NATS server: how the end of a node, or of the catalog, looks to the others. */
import { access, mkdir, mkdtemp, readdir, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, credentials, type ServiceError } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { KithError } from "../../libs/base/index.js";
import { eventually, freePort } from "../../libs/base/testing.js";
import { type CollectionHandle, connect, type KithClient, type QueryResult } from "../../libs/client/index.js";
import { loadNodeConfig } from "../../libs/config/index.js";
import { testNatsServer, type TestNatsServer } from "../../libs/nats-server/testing.js";
import { PointStore } from "../../libs/storage/index.js";
import { type Logger, silentLogger } from "../../libs/telemetry/index.js";
import { type NodeOptions, type RunningNode, startNode } from "./index.js";

let folder: string;
let nats: TestNatsServer;
let nodes: RunningNode[];
let client: KithClient;

async function start(
  nodeId: string,
  roles: string[],
  flags: { cluster?: string; data?: string; health?: object; waitForShards?: boolean } = {},
  options: Partial<NodeOptions> = {},
): Promise<RunningNode> {
  const listen = { host: "127.0.0.1", port: 0 };
  const log = { kind: "jetstream", url: nats.url };
  const all = {
    nodeId,
    roles,
    listen,
    link: listen,
    log,
    data: join(folder, nodeId),
    drainTimeoutMs: 20_000,
    ...flags,
  };
  await mkdir(all.data, { recursive: true });
  const config = loadNodeConfig({ flags: all });
  const node = await startNode(config, { version: "test", logger: () => silentLogger, ...options });
  nodes.push(node);
  return node;
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "kith-node-"));
  nats = await testNatsServer();
  nodes = [];
  const router = await start("router", ["router", "coordinator"]);
  client = await connect(router.address, { retry: { attempts: 1 } });
});

afterEach(async () => {
  client.close();
  await Promise.all(nodes.map((node) => node.close()));
  await nats.dispose();
  await rm(folder, { recursive: true, force: true });
});

async function stateOf(id: string): Promise<string> {
  const { nodes: known } = await client.cluster.describe();
  return known.find((node) => node.id === id)?.state ?? "removed";
}

/** Queries that wait for the write after the last one; each is with a shard when this resolves. */
async function begin(handle: CollectionHandle, count: number): Promise<{ queries: Promise<QueryResult>[] }> {
  const { collectionId, shards } = (await handle.upsert({ id: 1, vector: [1, 1] })).token;
  const consistency = { atLeast: { collectionId, shards: { 0: (shards[0] ?? 0) + 1 } } };
  const queries = Array.from({ length: count }, () =>
    handle.query({ vector: [2, 2], limit: 1, consistency, deadlineMs: 15_000 }),
  );
  for (const query of queries) query.catch(() => undefined);
  // Asked of the same shard over the same connections, and answered behind them.
  await handle.count({ consistency: "none" });
  return { queries };
}

function healthOf(address: string): Promise<string> {
  const grpc = new Client(address, credentials.createInsecure());
  return new Promise<string>((resolve, reject) => {
    const same = (bytes: Buffer): Buffer => bytes;
    const answered = (error: ServiceError | null, answer?: Buffer): void => {
      if (error) reject(error);
      // Field 1 is the status.
      else resolve(answer?.[1] === 1 ? "SERVING" : "NOT_SERVING");
    };
    grpc.makeUnaryRequest("/grpc.health.v1.Health/Check", same, same, Buffer.alloc(0), answered);
  }).finally(() => grpc.close());
}

test("a node that ends answers what is in flight, though no router asks it for more", async () => {
  const shard = await start("shard", ["shard"]);
  const handle = client.collection("things");
  await handle.create({ vectors: { dimension: 2, metric: "l2" } });
  const [query] = (await begin(handle, 1)).queries;
  const ended = shard.close();
  await eventually(async () => expect(await stateOf("shard")).toBe("draining"));
  await handle.upsert({ id: 2, vector: [2, 2] }, { ack: "log" });
  expect((await query)?.points[0]?.id).toBe(2);
  await ended;
  await eventually(async () => expect(await stateOf("shard")).toBe("removed"));
});

test("where another replica exists, a node's end fails no read", async () => {
  const shards = [await start("shard-0", ["shard"]), await start("shard-1", ["shard"])];
  const handle = client.collection("things");
  await handle.create({ vectors: { dimension: 2, metric: "l2" }, replicas: 2 });
  const { queries } = await begin(handle, 8);
  const ended = (shards[0] as RunningNode).close();
  await eventually(async () => expect(await stateOf("shard-0")).toBe("draining"));
  const during = Array.from({ length: 50 }, () => handle.query({ vector: [2, 2], limit: 1 }));
  await handle.upsert({ id: 2, vector: [2, 2] }, { ack: "all" });
  for (const result of await Promise.all([...queries, ...during])) expect(result.points).toHaveLength(1);
  await ended;
  expect((await handle.query({ vector: [2, 2], limit: 1 })).points[0]?.id).toBe(2);
});

test("a node is up, and ready, with a replica that cannot be opened", async () => {
  let shard = await start("shard", ["shard"]);
  const good = client.collection("good");
  const bad = client.collection("bad");
  for (const each of [good, bad]) {
    await each.create({ vectors: { dimension: 2, metric: "l2" } });
    await each.upsert({ id: 1, vector: [1, 1] });
  }
  const { id } = await bad.info();
  await shard.close();
  // A file where the replica's folder should be: for root too there is no way in.
  const replica = join(folder, "shard", "replicas", id, "0");
  await rename(replica, `${replica}.kept`);
  await writeFile(replica, "");
  shard = await start("shard", ["shard"]);
  expect(await eventually(() => good.count())).toBe(1);
  await eventually(async () => expect(await healthOf(shard.address)).toBe("SERVING"));
  await eventually(async () => expect(await stateOf("shard")).toBe("up"));
  await expect(bad.count()).rejects.toMatchObject({ code: "SHARD_UNAVAILABLE" });
  await rm(replica);
  await rename(`${replica}.kept`, replica);
  expect(await eventually(() => bad.count())).toBe(1);
});

test("what became of collections can be looked at in the operations, at every router", async () => {
  await start("shard", ["shard"]);
  const other = await connect((await start("other", ["router"])).address);
  const handle = client.collection("things");
  const { id } = await handle.create({ vectors: { dimension: 2, metric: "l2" }, shards: 2 });
  await handle.drop();
  const states = async (): Promise<string[]> =>
    (await other.cluster.operations()).map((each) => `${each.id} of ${each.collection} is ${each.state}`);
  // An operation is written down as done after what it does.
  await eventually(async () =>
    expect((await states()).sort()).toEqual([`create-${id} of things is done`, `delete-${id} of things is done`]),
  );
  expect(await other.cluster.operation(`create-${id}`)).toMatchObject({ kind: "create_collection", collectionId: id });
  await expect(other.cluster.cancelOperation(`create-${id}`)).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  await expect(other.cluster.operation("none")).rejects.toMatchObject({ code: "NOT_FOUND" });
  other.close();
});

test("a catalog that lost its store costs no point", async () => {
  await start("shard", ["shard"]);
  const handle = client.collection("things");
  await handle.create({ vectors: { dimension: 2, metric: "l2" } });
  await handle.upsert({ id: 1, vector: [1, 1] });
  await nats.kill();
  await rm(nats.dataDirectory, { recursive: true });
  await mkdir(nats.dataDirectory);
  await nats.restart();
  // Makes the bucket anew, empty.
  await start("another", ["router", "coordinator"]);
  const orphans = join(folder, "shard", "orphans");
  const kept = await eventually(async () => {
    const [collection] = await readdir(orphans);
    const database = join(orphans, String(collection), "0", "db");
    await access(database);
    return database;
  });
  const store = await PointStore.open(kept);
  expect((await store.scroll(undefined, 10, { payload: false, fields: [] })).points).toHaveLength(1);
  await store.close();
});

test("a second node on the data folder of a running one is refused, and touches nothing", async () => {
  const first = await start("shard", ["shard"]);
  const handle = client.collection("things");
  await handle.create({ vectors: { dimension: 2, metric: "l2" } });
  await handle.upsert({ id: 1, vector: [1, 1] });
  const data = join(folder, "shard");
  // Its catalog does not know the replica in this folder.
  const second = start("second", ["shard"], { cluster: "other", data });
  await expect(second).rejects.toMatchObject({
    code: "FAILED_PRECONDITION",
    message: expect.stringMatching(`${data} .*KITH_DATA`) as string,
  });
  expect(await readdir(data)).not.toContain("orphans");
  await handle.upsert({ id: 2, vector: [2, 2] });
  expect(await handle.count()).toBe(2);
  await first.close();
  await start("shard", ["shard"]);
  expect(await eventually(() => handle.count())).toBe(2);
});

test("a node whose folder takes no lock starts without one", async () => {
  const data = join(folder, "shard");
  await mkdir(data);
  await writeFile(join(data, "lock"), "");
  const warnings: string[] = [];
  const logger = (): Logger => ({ ...silentLogger, warn: (message) => void warnings.push(message) });
  await start("shard", ["shard"], {}, { logger });
  expect(await stateOf("shard")).toBe("up");
  expect(warnings).toContainEqual(expect.stringMatching(`out of the data folder ${data}: .*EEXIST`));
});

describe("a node that is told to end before it has started", () => {
  const stop = new KithError("CANCELLED", "told to end");

  test("does not wait for the catalog", async () => {
    const starting = start("late", ["router"], {}, { signal: AbortSignal.abort(stop) });
    await expect(starting).rejects.toBe(stop);
    expect(await stateOf("late")).toBe("removed");
  });

  test("does not wait for all its replicas, and closes what it has opened", async () => {
    const first = await start("shard", ["shard"]);
    const handle = client.collection("things");
    await handle.create({ vectors: { dimension: 2, metric: "l2" } });
    await handle.upsert({ id: 1, vector: [1, 1] });
    await first.close();
    const told = new AbortController();
    const info = (message: string): void => {
      if (message.startsWith("replica opened")) told.abort(stop);
    };
    const logger = (): Logger => ({ ...silentLogger, info });
    await expect(start("shard", ["shard"], {}, { signal: told.signal, logger })).rejects.toBe(stop);
    expect(await stateOf("shard")).toBe("removed");
    await start("shard", ["shard"]);
    expect(await eventually(() => handle.count())).toBe(1);
  });
});

describe("nodes that are router, shard node and coordinator at once", () => {
  const everything = ["router", "shard", "coordinator"];

  test("answer for all shards, their own within the process and the others over the link", async () => {
    const all = [await start("a", everything), await start("b", everything)];
    const clients = await Promise.all(all.map(({ address }) => connect(address, { retry: { attempts: 1 } })));
    try {
      const [first, second] = clients.map((each) => each.collection("both")) as [CollectionHandle, CollectionHandle];
      await eventually(async () => {
        const { nodes: known } = await (clients[0] as KithClient).cluster.describe();
        expect(known.filter(({ roles, state }) => roles.includes("shard") && state === "up")).toHaveLength(2);
      });
      await first.create({ vectors: { dimension: 2, metric: "l2" }, shards: 4, replicas: 1 });
      const { shards } = await (clients[0] as KithClient).cluster.describe();
      const holders = new Set(shards.flatMap(({ replicas }) => replicas.map(({ node }) => node)));
      expect(holders).toEqual(new Set(["a", "b"]));
      const points = Array.from({ length: 40 }, (_, id) => ({ id, vector: [id, 1] }));
      await first.upsert(points);
      for (const each of [first, second]) {
        expect(await each.count({ consistency: "linearizable" })).toBe(40);
        const { points: found } = await each.query({ vector: [7, 1], limit: 3, consistency: "linearizable" });
        expect(found.map(({ id }) => id)).toEqual([7, 6, 8]);
      }
      // Routers without the role of a shard node ask them too.
      expect(await client.collection("both").count()).toBe(40);
    } finally {
      for (const each of clients) each.close();
    }
  });

  test("stand in for each other: with two replicas, either one may end", async () => {
    const [a, b] = [await start("a", everything), await start("b", everything)];
    const other = await connect(b.address);
    try {
      const handle = other.collection("twice");
      await eventually(async () => {
        const { nodes: known } = await other.cluster.describe();
        expect(known.filter(({ roles, state }) => roles.includes("shard") && state === "up")).toHaveLength(2);
      });
      await handle.create({ vectors: { dimension: 2, metric: "l2" }, shards: 2, replicas: 2 });
      await handle.upsert([{ id: 1, vector: [1, 2] }], { ack: "all" });
      await a.close();
      const { points } = await handle.query({ vector: [1, 2], limit: 1 });
      expect(points.map(({ id }) => id)).toEqual([1]);
      await eventually(() => handle.upsert([{ id: 2, vector: [2, 2] }]));
      expect(await handle.count({ consistency: "linearizable" })).toBe(2);
    } finally {
      other.close();
    }
  });
});

test("the health service for probes lives from the start, and a router of a new release is ready when the shard nodes have it", {
  timeout: 60_000,
}, async () => {
  const [shardHealth, routerHealth] = [await freePort(), await freePort()];
  const at = (port: number) => ({ health: { host: "127.0.0.1", port } });
  const old = await start("shard", ["shard"], at(shardHealth), { version: "1.2.3" });
  await eventually(async () => expect(await healthOf(`127.0.0.1:${shardHealth}`)).toBe("SERVING"));
  const updated = start("router-new", ["router"], { ...at(routerHealth), waitForShards: true }, { version: "1.3.0" });
  await eventually(async () => expect(await healthOf(`127.0.0.1:${routerHealth}`)).toBe("NOT_SERVING"));
  // What is there already serves on.
  expect(await stateOf("shard")).toBe("up");
  expect(await stateOf("router-new")).toBe("removed");
  await old.close();
  await start("shard", ["shard"], at(shardHealth), { version: "1.3.0" });
  await updated;
  expect(await healthOf(`127.0.0.1:${routerHealth}`)).toBe("SERVING");
  expect(await stateOf("router-new")).toBe("up");
});
