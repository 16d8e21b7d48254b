/** What somebody meets on the first day: options that do not exist, values that are no vectors, servers that are not there. */
import { createServer } from "node:net";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort, makeAuthority, makeCertificate } from "../../libs/base/testing.js";
import type { KithError } from "../../libs/client/index.js";
import {
  type CollectionHandle,
  connect,
  type ConnectOptions,
  type PointInput,
  type UpsertManyResult,
} from "../../libs/client/index.js";
import { createRpcServer } from "../../libs/rpc/server/index.js";
import { systemRuntime } from "../../libs/base/index.js";
import { pb } from "../../libs/wire/index.js";
import { useCluster } from "../cluster/cluster.js";
import { startInProcess } from "../cluster/in-process.js";
import { failureOf, range } from "../cluster/workload.js";

let points: CollectionHandle;
const cluster = useCluster(
  () => startInProcess(),
  async (started) => {
    points = (await started.connect()).collection("first-day");
    await points.create({ vectors: { dimension: 3, metric: "l2" }, labels: { a: "b" } });
    await points.upsert(range(0, 20).map((id) => ({ id, vector: [id, 0, 0] })));
  },
);

/** What JavaScript lets pass, and TypeScript does not. */
const untyped = <T>(value: unknown): T => value as T;

/** The error of the first point that was refused. */
async function itemOf(many: Promise<UpsertManyResult>): Promise<never> {
  const [error] = (await many).errors;
  throw Object.assign(new Error(error?.message), { code: error?.code });
}

test.each<[string, () => Promise<unknown>, RegExp]>([
  ["query", () => points.query(untyped({ vector: [1, 2, 3], filtr: {} })), /query\.filtr/],
  ["queryBatch", () => points.queryBatch([{ vector: [1, 2, 3] }], untyped({ limit: 1 })), /options\.limit/],
  ["create", () => points.create(untyped({ vectors: { dimension: 1 }, shardCount: 2 })), /options\.shardCount/],
  ["update", () => points.update(untyped({ ef: 3 })), /options\.ef/],
  ["upsert", () => points.upsert({ id: 1, vector: [1, 2, 3] }, untyped({ acknowledge: "log" })), /acknowledge/],
  ["upsertMany", () => points.upsertMany([], untyped({ batch: 3 })), /options\.batch/],
  ["get", () => points.get(1, untyped({ withVector: true })), /options\.withVector/],
  ["count", () => points.count(untyped({ where: "a" })), /options\.where/],
  ["delete", () => points.delete(1, untyped({ filter: "a > 1" })), /filter/],
  ["scroll", () => points.scroll(untyped({ limit: 3 })).next(), /options\.limit/],
  ["info", () => points.info(untyped({ filtr: 1 })), /options\.filtr/],
  [
    "createPayloadIndex",
    () => points.createPayloadIndex("a", "text", untyped({ tokenizer: "word" })),
    /options\.tokenizer/,
  ],
  [
    "the text of createPayloadIndex",
    () => points.createPayloadIndex("a", "text", untyped({ text: { minLength: 1 } })),
    /options\.text\.minLength/,
  ],
  ["dropPayloadIndex", () => points.dropPayloadIndex("a", untyped({ wait: true })), /options\.wait/],
  ["listPayloadIndexes", () => points.listPayloadIndexes(untyped({ path: "a" })), /options\.path/],
  ["addVectorField", () => points.addVectorField("x", { dimension: 2 }, untyped({ wait: true })), /options\.wait/],
  [
    "the field of addVectorField",
    () => points.addVectorField("x", untyped({ dimension: 2, metrc: 1 })),
    /vectors\.x\.metrc/,
  ],
  ["dropVectorField", () => points.dropVectorField("x", untyped({ force: true })), /options\.force/],
  [
    "the vector of create",
    async () => (await cluster().connect()).collection("y").create(untyped({ vectors: { dimension: 1, ef: 3 } })),
    /vectors\.ef/,
  ],
  [
    "a named vector of create",
    async () => (await cluster().connect()).collection("y").create(untyped({ vectors: { a: { dimension: 1, M: 3 } } })),
    /vectors\.a\.M/,
  ],
  ["a point", () => points.upsert(untyped({ id: 1, vector: [1, 2, 3], metadata: {} })), /a point has no "metadata"/],
  [
    "a point beside others of unlike shapes",
    () =>
      points.upsert(
        untyped([
          { id: 1, vector: [1, 2, 3] },
          { id: 2, vectors: {}, payloads: {} },
        ]),
      ),
    /points\[1\].*a point has no "payloads"/,
  ],
  [
    "a point of upsertMany",
    () => itemOf(points.upsertMany(untyped([{ id: 1, vector: [1, 2, 3], meta: 1 }]))),
    /no "meta"/,
  ],
  [
    "a point of updateVectors",
    () => points.updateVectors(untyped({ id: 1, vector: [1, 2, 3], payload: {} })),
    /no "payload"/,
  ],
  [
    "a point of writeBatch",
    () => points.writeBatch(untyped([{ op: "upsert", points: [{ id: 1, vector: [1, 2, 3], m: 1 }] }])),
    /a point has no "m"/,
  ],
  [
    "the columns of upsertColumns",
    () => points.upsertColumns(untyped({ ids: [1], vectors: Float32Array.of(1, 2, 3), payload: [{}] })),
    /columns\.payload /,
  ],
  [
    "consistency",
    () => points.count(untyped({ consistency: { atLeast: points.token, shard: 1 } })),
    /consistency\.shard/,
  ],
  [
    "collections.list",
    async () => (await cluster().connect()).collections.list(untyped({ name: "a" })),
    /options\.name/,
  ],
  [
    "aliases.update",
    async () => (await cluster().connect()).aliases.update([], untyped({ name: "a" })),
    /options\.name/,
  ],
  ["cluster.describe", async () => (await cluster().connect()).cluster.describe(untyped({ node: 1 })), /options\.node/],
  [
    "cluster.slowQueries",
    async () => (await cluster().connect()).cluster.slowQueries(untyped({ n: 1 })),
    /options\.n /,
  ],
  [
    "cluster.moveReplica",
    async () => (await cluster().connect()).cluster.moveReplica(untyped({ collection: "a", shard: 0, node: "b" })),
    /move\.node/,
  ],
  [
    "cluster.splitShard",
    async () => (await cluster().connect()).cluster.splitShard(untyped({ collection: "a", shard: 0, slots: 3 })),
    /split\.slots/,
  ],
  [
    "cluster.operations",
    async () => (await cluster().connect()).cluster.operations(untyped({ limit: 1 })),
    /options\.limit/,
  ],
  [
    "cluster.operation",
    async () => (await cluster().connect()).cluster.operation("x", untyped({ wait: 1 })),
    /options\.wait/,
  ],
  [
    "cluster.cancelOperation",
    async () => (await cluster().connect()).cluster.cancelOperation("x", untyped({ wait: 1 })),
    /options\.wait/,
  ],
  [
    "the retries of connect",
    () => connect(cluster().target, untyped({ retry: { tries: 3 } })),
    /options\.retry\.tries/,
  ],
  ["the TLS of connect", () => connect(cluster().target, untyped({ tls: { caCert: "" } })), /options\.tls\.caCert/],
  ["connect", () => connect(cluster().target, untyped<ConnectOptions>({ timeout: 3 })), /options\.timeout/],
])("%s refuses options that it does not have", async (_, call, message) => {
  const before = await points.count();
  await expect(call()).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
    message: expect.stringMatching(message) as string,
  });
  expect(await points.count()).toBe(before);
});

test.each<[string, unknown[], string, RegExp]>([
  ["null", [null, 1, 2], "VECTOR_NOT_FINITE", /element 0 .* is null/],
  ["a string", [1, "0.5", 2], "VECTOR_NOT_FINITE", /element 1 .* is the string "0\.5"/],
  ["true", [1, 2, true], "VECTOR_NOT_FINITE", /element 2 .* is true/],
  ["a bigint", [1n, 2, 3], "VECTOR_NOT_FINITE", /element 0 .* is the bigint 1/],
  ["a hole", [1, undefined, 3], "VECTOR_NOT_FINITE", /element 1 .* is undefined/],
  ["an array", [1, [2], 3], "VECTOR_NOT_FINITE", /element 1/],
  ["a number beyond f32", [1, 2, 1e39], "VECTOR_NOT_FINITE", /element 2 .* is 1e\+39/],
])("%s is no element of a vector, in writes and in queries", async (_, values, code, message) => {
  const vector = untyped<number[]>(values);
  const expected = { code, message: expect.stringMatching(message) as string };
  await expect(points.upsert({ id: 99, vector })).rejects.toMatchObject(expected);
  await expect(
    points.upsert([
      { id: 98, vector: [1, 2, 3] },
      { id: 99, vector },
    ]),
  ).rejects.toMatchObject(expected);
  await expect(points.query({ vector })).rejects.toMatchObject(expected);
  const ok = [1, 2, 3];
  const calls = [
    () => points.queryBatch([{ vector: ok }, { vector }]),
    () => points.queryGroups({ vector, groupBy: "a" }),
    () => points.query({ query: { nearest: vector } }),
    () => points.query({ prefetch: [{ query: { nearest: vector } }], query: { nearest: ok } }),
    () => points.query({ query: { recommend: { positive: [1, vector] } } }),
    () => points.query({ query: { recommend: { positive: [1], negative: [vector] } } }),
    () => points.query({ query: { discover: { target: vector } } }),
    () => points.query({ query: { discover: { target: 1, context: [{ positive: vector, negative: 2 }] } } }),
    () => points.query({ query: { context: [{ positive: 1, negative: vector }] } }),
    () => points.updateVectors({ id: 1, vector }),
    () =>
      points.upsert([
        { id: 98, vector: ok },
        { id: 99, vectors: { x: vector } },
      ]),
    () => points.writeBatch([{ op: "upsert", points: [{ id: 99, vector }] }]),
    () => points.writeBatch([{ op: "updateVectors", points: [{ id: 1, vector }] }]),
  ];
  for (const call of calls) await expect(call()).rejects.toMatchObject(expected);
  const many = await points.upsertMany([{ id: 99, vector } satisfies PointInput]);
  expect(many).toMatchObject({ upserted: 0, failed: 1, errors: [{ index: 0, ...expected }] });
  expect(await points.get([98, 99])).toEqual([]);
});

test.each<[string, unknown]>([
  ["a Float64Array", Float64Array.of(1, 2, 3)],
  ["a Uint8Array", Uint8Array.of(1, 2, 3)],
  ["what is only like an array", { 0: 1, 1: 2, 2: 3, length: 3 }],
  ["a text", "1,2"],
  ["a Set", new Set([1, 2, 3])],
  ["null", null],
])("%s is no vector, wherever one is taken", async (_, value) => {
  const vector = untyped<number[]>(value);
  const ok = [1, 2, 3];
  const calls = [
    () => points.query({ vector }),
    () => points.upsert({ id: 99, vector }),
    () =>
      points.upsert([
        { id: 98, vector: ok },
        { id: 99, vector },
      ]),
    () =>
      itemOf(
        points.upsertMany([
          { id: 98, vector: ok },
          { id: 99, vector },
        ]),
      ),
    () => points.updateVectors({ id: 1, vector }),
    () => points.upsertColumns({ ids: [99], vectors: untyped(value) }),
    () => points.upsertColumns({ ids: [99], vectors: { "": untyped(value) } }),
    () => points.upsertColumns({ ids: [99], vectors: { "": untyped(ok) } }),
    () => points.upsertColumns({ ids: untyped(value), vectors: Float32Array.of(1, 2, 3) }),
  ];
  for (const [i, call] of calls.entries()) {
    await expect(call(), String(i)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  }
  expect(await points.get(99)).toBeUndefined();
  await points.delete(98);
});

test.each<[string, () => Promise<unknown>, string]>([
  [
    "a deletion by a filter that was never set",
    () => points.delete(untyped({ filter: undefined })),
    "INVALID_ARGUMENT",
  ],
  ["a deletion by an empty text", () => points.delete({ filter: "  " }), "INVALID_ARGUMENT"],
  ["a change by a filter that is null", () => points.setPayload(untyped({ filter: null }), {}), "INVALID_ARGUMENT"],
  [
    "a deletion in a batch",
    () => points.writeBatch([untyped({ op: "delete", target: { filter: "" } })]),
    "INVALID_ARGUMENT",
  ],
  ["a deletion of an object", () => points.delete(untyped({ fliter: "a > 1" })), "INVALID_ARGUMENT"],
  ["a reading of null", () => points.get(untyped(null)), "INVALID_ID"],
  ["vectors by a text", () => points.query({ vector: [1, 2, 3], withVectors: untyped("a") }), "INVALID_ARGUMENT"],
  ["a signal that is none", () => points.count({ signal: untyped({}) }), "INVALID_ARGUMENT"],
  ["a deadline that is a text", () => points.count({ deadlineMs: untyped("5") }), "INVALID_ARGUMENT"],
  ["a label that is a number", () => points.update({ labels: untyped({ a: 5 }) }), "INVALID_SCHEMA"],
  ["a name that is a number", () => points.rename(untyped(5)), "INVALID_NAME"],
  ["a key with the end of its line", () => connect(cluster().target, { apiKey: "abc\n" }), "INVALID_ARGUMENT"],
  ["a header that cannot be sent", () => connect(cluster().target, { headers: { "a b": "c" } }), "INVALID_ARGUMENT"],
  ["a header with a line", () => connect(cluster().target, { headers: { a: "b\nc" } }), "INVALID_ARGUMENT"],
])("%s is refused, and nothing happens", async (_, call, code) => {
  const before = await points.count();
  await expect(call()).rejects.toMatchObject({ code });
  expect(await points.count()).toBe(before);
});

test("a point that was read can be written again as it is", async () => {
  await points.upsert({ id: 50, vector: [5, 0, 0], payload: { a: 1 } });
  const read = await points.get(50, { withVectors: true });
  const [found] = (await points.query({ vector: [5, 0, 0], limit: 1, withVectors: true })).points;
  for (const point of [read, found]) expect((await points.upsert(untyped<PointInput>(point))).upserted).toBe(1);
  await points.delete(50);
});

test("create without a schema is an error of ours; with ifNotExists it gives what is there, or tells the difference", async () => {
  const client = await cluster().connect();
  await expect(client.collection("x").create(untyped({}))).rejects.toMatchObject({ code: "INVALID_SCHEMA" });
  const again = await points.create({ vectors: { dimension: 3, metric: "l2" }, ifNotExists: true });
  expect(again.labels).toEqual({ a: "b" });
  const other = { vectors: { dimension: 4, datatype: "f16" as const }, shards: 2, ifNotExists: true };
  await expect(points.create(other)).rejects.toMatchObject({
    code: "COLLECTION_EXISTS",
    message: expect.stringContaining(
      "the dimension is 3, not 4; the metric is l2, not cosine; the datatype is f32, not f16; the number of shards is 1, not 2",
    ) as string,
  });
  const named = { vectors: { title: { dimension: 3 } }, ifNotExists: true };
  await expect(points.create(named)).rejects.toThrow('it has an unnamed vector; it has no vector "title"');
});

test("waitIndexed waits for what was written before, though it was acknowledged before it was applied", async () => {
  const client = await cluster().connect();
  const handle = client.collection("indexed-late");
  await handle.create({ vectors: { dimension: 3, metric: "l2" } });
  for (let round = 1; round <= 5; round++) {
    const batch = range((round - 1) * 2_000, 2_000).map((id) => ({ id, vector: [id, id % 7, 1] }));
    await handle.upsert(batch, { ack: "log" });
    expect(await handle.waitIndexed()).toBe(round * 2_000);
  }
});

test("many calls at once warn of nothing, and a client ends with its scope", async () => {
  const warnings: Error[] = [];
  const onWarning = (warning: Error): void => void warnings.push(warning);
  process.on("warning", onWarning);
  const controller = new AbortController();
  const client = await connect(cluster().target);
  const handle = client.collection("first-day");
  const call = { signal: controller.signal };
  await Promise.all(range(0, 50).map(() => handle.query({ vector: [1, 2, 3], ...call })));
  await Promise.all(range(0, 50).map(() => handle.count(call)));
  await Promise.all(range(0, 50).map(() => handle.count()));
  await client[Symbol.asyncDispose]();
  await expect(handle.count()).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  await new Promise((resolve) => setImmediate(resolve));
  process.off("warning", onWarning);
  expect(warnings).toEqual([]);
});

test("an error shows nothing of gRPC", async () => {
  const client = await cluster().connect();
  const error = await failureOf(client.collection("nowhere").count());
  expect(error?.code).toBe("COLLECTION_NOT_FOUND");
  expect(inspect(error, { depth: 9 })).not.toMatch(/Metadata \{|internalRepr|\[cause\]/);
  await expect(client.collection("first-day").count({ deadlineMs: 0.001 })).rejects.not.toThrow(/remote_addr|LB pick/);
});

test("UUIDs are read in whatever case, and come back in lower case", async () => {
  const id = "7D444840-9DC0-11D1-B245-5FFDCE74FAD2";
  await points.upsert({ id, vector: [1, 1, 1] });
  expect((await points.get(id))?.id).toBe(id.toLowerCase());
  expect((await points.get(id.toLowerCase()))?.id).toBe(id.toLowerCase());
  await points.delete(id);
});

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kith-first-day-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The error of connecting, and how long it took. */
async function refusal(target: string, options: ConnectOptions = {}): Promise<KithError & { tookMs: number }> {
  const startMs = performance.now();
  const error = await connect(target, options).then(
    (client) => {
      client.close();
      throw new Error(`${target} was reached`);
    },
    (thrown: unknown) => thrown as KithError,
  );
  return Object.assign(error, { tookMs: performance.now() - startMs });
}

test("a server that is not there has its own code, at once where nothing listens", async () => {
  const port = await freePort();
  const ended: string[] = [];
  const told = async (who: string, options: ConnectOptions): Promise<KithError & { tookMs: number }> => {
    const error = await refusal(`127.0.0.1:${port}`, options);
    ended.push(who);
    return error;
  };
  const [waited, refused] = await Promise.all([told("waited", { connectTimeoutMs: 1_500 }), told("refused", {})]);
  expect(refused.code).toBe("SERVER_UNREACHABLE");
  expect(refused.message).toMatch(/nothing listens there/);
  expect(ended).toEqual(["refused", "waited"]);
  expect(waited).toMatchObject({ code: "SERVER_UNREACHABLE" });
  expect(waited.tookMs).toBeGreaterThan(300);
  const silent = createServer(() => undefined);
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const address = silent.address();
  const silentPort = typeof address === "object" && address !== null ? address.port : 0;
  expect(await refusal(`127.0.0.1:${silentPort}`, { connectTimeoutMs: 600 })).toMatchObject({
    code: "SERVER_UNREACHABLE",
  });
  silent.close();
  for (const target of [
    "localhost",
    "",
    "http://127.0.0.1:7700",
    "127.0.0.1:",
    "::1:7700 x",
    "[::1]",
    "a b:1",
    "a:0",
    "a:65536",
    "[::1]:99999",
  ]) {
    expect(await refusal(target), target).toMatchObject({ code: "INVALID_ADDRESS" });
  }
});

test("TLS on one side only, and certificates of strangers, are told apart", async () => {
  const authority = makeAuthority(folder, "authority");
  const stranger = makeAuthority(folder, "stranger");
  const own = makeCertificate(folder, "server", authority);
  const server = createRpcServer({ node: "tls", ...systemRuntime, tls: { cert: own.certificate, key: own.key } });
  server.addService(pb.CollectionsService, untyped({ exists: async () => ({ exists: false }) }));
  const target = `localhost:${await server.listen("127.0.0.1", 0)}`;
  try {
    expect(await refusal(target)).toMatchObject({
      code: "TLS_MISMATCH",
      message: expect.stringMatching(/speaks TLS/) as string,
    });
    expect(await refusal(target, { tls: { ca: stranger.certificate } })).toMatchObject({
      code: "CERTIFICATE_UNTRUSTED",
    });
    expect(await refusal(target, { tls: true })).toMatchObject({ code: "CERTIFICATE_UNTRUSTED" });
    const plain = await refusal(cluster().target, { tls: { ca: authority.certificate } });
    expect(plain.code).toBe("TLS_MISMATCH");
    expect(plain.message).toMatch(/does not speak TLS/);
    const client = await connect(target, { tls: { ca: authority.certificate } });
    client.close();
  } finally {
    await server.drain(0);
  }
});
