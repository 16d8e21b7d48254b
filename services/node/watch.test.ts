/** Changes of points as clients see them, of nodes in this process on a real NATS server. */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import {
  type ChangeEvent,
  type CollectionHandle,
  connect,
  type KithClient,
  type Token,
  type WatchOptions,
} from "../../libs/client/index.js";
import { loadNodeConfig } from "../../libs/config/index.js";
import { testNatsServer, type TestNatsServer } from "../../libs/nats-server/testing.js";
import { silentLogger } from "../../libs/telemetry/index.js";
import { type RunningNode, startNode } from "./index.js";

let folder: string;
let nats: TestNatsServer;
const nodes = new Map<string, RunningNode>();
let client: KithClient;

async function start(nodeId: string, roles: string[]): Promise<RunningNode> {
  const listen = { host: "127.0.0.1", port: 0 };
  const config = loadNodeConfig({
    flags: {
      ...{ nodeId, roles, listen, link: listen, data: join(folder, nodeId), drainTimeoutMs: 500 },
      log: { kind: "jetstream", url: nats.url },
    },
  });
  await mkdir(join(folder, nodeId), { recursive: true });
  const node = await startNode(config, { version: "test", logger: () => silentLogger });
  nodes.set(nodeId, node);
  return node;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kith-watch-"));
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

async function made(name: string, options: { shards?: number; replicas?: number } = {}): Promise<CollectionHandle> {
  const handle = client.collection(name);
  await handle.create({ vectors: { dimension: 2, metric: "l2" }, ...options });
  return handle;
}

interface Watching {
  seen: ChangeEvent[];
  token: () => Token | undefined;
  stop: () => Promise<void>;
}

/** Begins to watch; resolves when nothing is missed any more. */
async function watching(handle: CollectionHandle, options: WatchOptions = {}): Promise<Watching> {
  const seen: ChangeEvent[] = [];
  const ending = new AbortController();
  let token: Token | undefined;
  const onToken = (each: Token): void => {
    token = each;
  };
  const running = (async () => {
    for await (const change of handle.watch({ ...options, signal: ending.signal, onToken })) seen.push(change);
  })();
  const ended = running.catch((error: unknown) => {
    if (!ending.signal.aborted) throw error;
  });
  await Promise.race([ended, eventually(() => expect(token).toBeDefined())]);
  const stop = async (): Promise<void> => {
    ending.abort();
    await ended;
  };
  return { seen, token: () => token, stop };
}

const short = ({ kind, id, before, after }: ChangeEvent): unknown[] => {
  const texts = [before, after].map((point) => (point === undefined ? "-" : JSON.stringify(point.payload ?? null)));
  return [kind, id, ...texts];
};

test("every change of a point is told, in order, with what it was and is", async () => {
  const films = await made("films");
  const { seen, stop } = await watching(films, { before: true, withVectors: true });
  await films.upsert({ id: 1, vector: [1, 1], payload: { n: 1 } });
  await films.upsert([
    { id: 1, vector: [2, 2], payload: { n: 2 } },
    { id: "b", vector: [3, 3], payload: { n: 7 } },
  ]);
  await films.setPayload([1], { more: true });
  await films.delete([1, 99]);
  await films.upsert({ id: 1, vector: [4, 4] });
  await films.setPayload({ filter: "n > 0" }, { late: 1 });
  await films.delete({ filter: "n = 7" });
  await eventually(() => expect(seen.length).toBe(8));
  expect(seen.map(short)).toEqual([
    ["insert", 1, "-", '{"n":1}'],
    ["update", 1, '{"n":1}', '{"n":2}'],
    ["insert", "b", "-", '{"n":7}'],
    ["update", 1, '{"n":2}', '{"n":2,"more":true}'],
    ["delete", 1, '{"n":2,"more":true}', "-"],
    ["insert", 1, "-", "null"],
    ["update", "b", '{"n":7}', '{"n":7,"late":1}'],
    ["delete", "b", '{"n":7,"late":1}', "-"],
  ]);
  expect([...(seen[1]?.before?.vector ?? [])]).toEqual([1, 1]);
  expect([...(seen[1]?.after?.vector ?? [])]).toEqual([2, 2]);
  expect(seen[1]?.after?.version).toBe(seen[1]?.sequence);
  await stop();
}, 30_000);

test("a filter lets through what passes before or afterwards, decided by the server", async () => {
  const things = await made("things", { shards: 2 });
  const { seen, stop } = await watching(things, { filter: "n >= 10" });
  await things.upsert(Array.from({ length: 20 }, (_, n) => ({ id: n, vector: [n, n], payload: { n } })));
  await things.setPayload([3], { n: 30 });
  await things.setPayload([15], { n: 1 });
  await things.delete([15, 4]);
  await things.delete([12]);
  await eventually(() => expect(seen.length).toBeGreaterThanOrEqual(13));
  const of = (id: number): string[] => seen.filter((each) => each.id === id).map(({ kind }) => kind);
  expect(of(3)).toEqual(["update"]);
  expect(of(15)).toEqual(["insert", "update"]);
  expect(of(12)).toEqual(["insert", "delete"]);
  expect(of(4)).toEqual([]);
  expect(seen.length).toBe(13);
  await stop();
}, 30_000);

test("a token goes on where it was: of a write, of a change; each point's last change has its content", async () => {
  const steps = await made("steps", { shards: 2 });
  const { token } = await steps.upsert({ id: 1, vector: [1, 1], payload: { n: 0 } });
  for (let n = 1; n <= 30; n++) await steps.upsert({ id: n % 5, vector: [n, n], payload: { n } });
  await steps.delete([2]);
  const { seen, stop } = await watching(steps, { from: token });
  await eventually(() => expect(seen.length).toBe(31));
  for (const id of [0, 1, 3, 4]) {
    const last = seen.filter((each) => each.id === id).at(-1);
    expect(last?.after?.payload).toEqual({ n: 25 + id + (id === 0 ? 5 : 0) });
  }
  expect(seen.filter((each) => each.id === 2).at(-1)?.kind).toBe("delete");
  await stop();
  const textOf = ({ shard, sequence, id }: ChangeEvent): string => `${shard}:${sequence} ${id}`;
  const all = seen.map(textOf);
  // Whoever keeps the token of the last change that it has dealt with misses none.
  for (const at of [0, 7, 20, 30]) {
    const further = await watching(steps, { from: seen[at]?.token as Token });
    await eventually(() =>
      expect([...all.slice(0, at + 1), ...further.seen.map(textOf)]).toEqual(expect.arrayContaining(all)),
    );
    for (const each of further.seen) expect(all).toContain(textOf(each));
    await further.stop();
  }
}, 30_000);

test("none is missed behind the token of a change, also of those that one record has made", async () => {
  const together = await made("together");
  const { token } = await together.upsert({ id: 100, vector: [0, 0] });
  await together.upsert(Array.from({ length: 5 }, (_, id) => ({ id, vector: [id, id] })));
  const { seen, stop } = await watching(together, { from: token });
  await eventually(() => expect(seen.length).toBe(5));
  expect(new Set(seen.map(({ sequence }) => sequence)).size).toBe(1);
  await stop();
  for (const [at, change] of seen.entries()) {
    const left = seen.slice(at + 1).map(({ id }) => id);
    const further = await watching(together, { from: change.token });
    await eventually(() => expect(further.seen.map(({ id }) => id)).toEqual(expect.arrayContaining(left)));
    await further.stop();
  }
}, 30_000);

test("a standing query tells of points that come near", async () => {
  const near = await made("near");
  const { seen, stop } = await watching(near, { near: { vector: [0, 0], threshold: 1.5 } });
  await near.upsert([
    { id: 1, vector: [1, 1] },
    { id: 2, vector: [3, 0] },
    { id: 3, vector: [0.5, 0] },
  ]);
  await near.delete([1]);
  await near.updateVectors([{ id: 2, vector: [0, 1] }]);
  await eventually(() => expect(seen.map(({ id }) => id)).toEqual([1, 3, 2]));
  expect(seen.map(({ score }) => Number(score?.toFixed(3)))).toEqual([1.414, 0.5, 1]);
  await stop();
}, 30_000);

test("a watch goes on at another replica when its node ends", async () => {
  const two = await made("two", { replicas: 2 });
  const { seen, stop } = await watching(two);
  let n = 0;
  const write = (): Promise<unknown> => two.upsert({ id: n, vector: [n, n], payload: { n: n++ } });
  for (let i = 0; i < 20; i++) await write();
  await nodes.get("shard-1")?.close();
  for (let i = 0; i < 20; i++) await write();
  await start("shard-1", ["shard"]);
  for (let i = 0; i < 20; i++) await write();
  await eventually(() => expect(new Set(seen.map(({ id }) => id)).size).toBe(60));
  const sequences = seen.map(({ sequence }) => sequence);
  expect(sequences).toEqual([...new Set(sequences)].sort((a, b) => a - b));
  await stop();
}, 60_000);

test("what cannot be watched is refused", async () => {
  const gone = await made("gone");
  const { token } = await gone.upsert({ id: 1, vector: [1, 1] });
  const failing = async (options: WatchOptions, handle = gone): Promise<void> => {
    for await (const change of handle.watch(options)) throw new Error(`${change.kind} was not expected`);
  };
  await expect(failing({}, client.collection("nobody"))).rejects.toMatchObject({ code: "COLLECTION_NOT_FOUND" });
  await expect(failing({ from: { ...token, collectionId: "other" } })).rejects.toMatchObject({ code: "INVALID_TOKEN" });
  await expect(failing({ near: { vector: [1], threshold: 1 } })).rejects.toMatchObject({ code: "DIMENSION_MISMATCH" });
  await expect(failing({ near: { vector: [1, 1], using: "x", threshold: 1 } })).rejects.toMatchObject({
    code: "UNKNOWN_VECTOR",
  });
  const ending = failing({ from: token });
  ending.catch(() => undefined);
  await gone.drop();
  await expect(ending).rejects.toMatchObject({ code: "COLLECTION_NOT_FOUND" });
}, 30_000);
