/**
 * Each call of the API as a caller with a rule, once and on purpose: a call that is new fails here until it is said what it may tell. What is hidden
 * has a word that no request has.
 */
import { Client, credentials, Metadata, status } from "@grpc/grpc-js";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { rowVerbs, rpcRules } from "../../libs/auth/index.js";
import { eventually, freePort } from "../../libs/base/testing.js";
import { connect, type KithClient } from "../../libs/client/index.js";
import { pb } from "../../libs/wire/index.js";
import { program } from "../cluster/processes.js";
import { TestServer } from "../cluster/rest-server.js";

const adminKey = "an-administrator-of-this-test-alone";
const secretWord = "zanzibar";
const collection = "rows";
const rowCount = 20;

let server: TestServer;
let admin: KithClient;
let client: Client;
let key: string;

beforeAll(async () => {
  const doors = { qdrant: { httpPort: 0 }, auth: { adminKey, required: true } };
  const exporter = {
    OTEL_EXPORTER_PROMETHEUS_HOST: "127.0.0.1",
    OTEL_EXPORTER_PROMETHEUS_PORT: String(await freePort()),
  };
  server = await TestServer.start({}, doors, { OTEL_METRICS_EXPORTER: "prometheus", ...exporter });
  admin = await connect(server.node.address, { apiKey: adminKey });
  client = new Client(server.node.address, credentials.createInsecure());
  const rows = admin.collection(collection);
  await rows.create({ vectors: { dimension: 2, metric: "l2" }, shards: 2 });
  await rows.createPayloadIndex("title", "bm25", { wait: true });
  await admin.collection("secret").create({ vectors: { dimension: 2, metric: "l2" } });
  await admin.aliases.create(`${secretWord}-alias`, "secret");
  await admin.aliases.create("open", collection);
  await admin.roles.put({
    name: "tenant-a",
    rules: [{ verbs: ["read", "write"], collections: [collection], filter: 'tenant = "a"' }],
  });
  key = (await admin.keys.create("tenant", { role: "tenant-a" })).secret;
  await rows.upsert(
    Array.from({ length: rowCount }, (_, i) => ({
      id: i % 2 === 0 ? i : `${secretWord}-${i}`,
      vector: [i, 1],
      payload: i % 2 === 0 ? { tenant: "a", title: "a word" } : { tenant: "b", title: `a word ${secretWord}` },
    })),
  );
  const own = await connect(server.node.address, { apiKey: key });
  await eventually(async () => expect(await own.collection(collection).count()).toBe(rowCount / 2));
  own.close();
});

afterAll(async () => {
  admin.close();
  client.close();
  await server.close();
});

interface Answer {
  /** Everything that came, names and messages of errors too. */
  text: string;
  messages: Buffer[];
  code: number;
}

const asIs = (bytes: Buffer): Buffer => bytes;

/** `enough`: ends a stream that has no end of its own. */
function ask(
  path: string,
  request: Uint8Array,
  enough: (messages: Buffer[]) => boolean = () => false,
): Promise<Answer> {
  return new Promise((resolve) => {
    const metadata = new Metadata();
    metadata.set("api-key", key);
    const call = client.makeBidiStreamRequest(path, asIs, asIs, metadata, { deadline: Date.now() + 20_000 });
    const messages: Buffer[] = [];
    const end = (code: number, message = ""): void =>
      resolve({ text: Buffer.concat(messages).toString("latin1") + message, messages, code });
    call.on("data", (message: Buffer) => {
      messages.push(message);
      if (!enough(messages)) return;
      call.cancel();
      end(status.OK);
    });
    call.on("error", (error: { code: number; message: string }) => end(error.code, error.message));
    call.on("end", () => end(status.OK));
    call.write(Buffer.from(request));
    call.end();
  });
}

interface Message {
  fromPartial(value: object): unknown;
  encode(message: never): { finish(): Uint8Array };
}

function bytesOf(type: Message, value: object): Uint8Array {
  return type.encode(type.fromPartial(value) as never).finish();
}

const hiddenId = { id: { $case: "name", value: `${secretWord}-1` } };
const ownId = (num: number): object => ({ id: { $case: "num", value: BigInt(num) } });
const all = { points: { $case: "filter", value: {} } };
const vector = [1, 1];
const select = { payload: true, allVectors: true };
const payload = Buffer.from('{"n":1}');
const query = { collection, vector, limit: 100, select };
const one = { id: ownId(0), vectors: { "": { values: vector } }, payload: Buffer.from('{"tenant":"a"}') };
const columns = {
  collection,
  idColumn: { $case: "ids", value: { ids: [ownId(2)] } },
  vectors: [{ name: "", matrix: Buffer.from(Float32Array.from(vector).buffer) }],
  payloads: [Buffer.from('{"tenant":"a"}')],
};

/** Every call whose verb a rule with a filter may allow, with the request that would tell or change the most. */
const requests: Readonly<Record<string, [type: Message, request: object]>> = {
  "Collections/Get": [pb.GetCollectionRequest, { name: collection }],
  "Collections/List": [pb.ListCollectionsRequest, {}],
  "Collections/Exists": [pb.ExistsCollectionRequest, { name: "secret" }],
  "Collections/ListAliases": [pb.ListAliasesRequest, {}],
  "Points/Upsert": [pb.UpsertRequest, { collection, points: [one] }],
  "Points/UpsertColumns": [pb.UpsertColumnsRequest, columns],
  "Points/UpsertStream": [pb.UpsertStreamRequest, { requestId: 1n, columns }],
  "Points/Delete": [pb.DeletePointsRequest, { collection, ids: [hiddenId] }],
  "Points/SetPayload": [pb.SetPayloadRequest, { collection, target: all, payload }],
  "Points/OverwritePayload": [
    pb.OverwritePayloadRequest,
    { collection, target: all, payload: Buffer.from('{"tenant":"a"}') },
  ],
  "Points/DeletePayload": [pb.DeletePayloadRequest, { collection, target: all, paths: ["title"] }],
  "Points/ClearPayload": [
    pb.ClearPayloadRequest,
    { collection, target: { points: { $case: "ids", value: { ids: [hiddenId] } } } },
  ],
  "Points/UpdateVectors": [
    pb.UpdateVectorsRequest,
    { collection, points: [{ id: ownId(0), vectors: { "": { values: vector } } }] },
  ],
  "Points/DeleteVectors": [pb.DeleteVectorsRequest, { collection, target: all, vectors: [""] }],
  "Points/SetExpiry": [pb.SetExpiryRequest, { collection, target: all, expiresAtMs: 4e12 }],
  "Points/WriteBatch": [
    pb.WriteBatchRequest,
    { collection, operations: [{ operation: { $case: "delete", value: { ids: [hiddenId] } } }] },
  ],
  "Points/Get": [pb.GetPointsRequest, { collection, ids: [hiddenId, ownId(0)], select }],
  "Points/Scroll": [pb.ScrollRequest, { collection, limit: 100, select }],
  "Points/Count": [pb.CountRequest, { collection }],
  "Points/Facet": [pb.FacetRequest, { collection, key: "title", limit: 100 }],
  "Points/Query": [pb.QueryRequest, query],
  "Points/QueryBatch": [pb.QueryBatchRequest, { queries: [query, { ...query, collection: "secret" }] }],
  "Points/QueryStream": [pb.QueryStreamRequest, { requestId: 1n, query }],
  "Points/QueryGroups": [
    pb.QueryGroupsRequest,
    { query: { ...query, limit: 0 }, groupBy: "title", limit: 100, groupSize: 100 },
  ],
  "Points/SearchMatrix": [pb.SearchMatrixRequest, { collection, sample: 100, limit: 10 }],
  "Changes/Watch": [pb.WatchRequest, { collection, before: true, select }],
};

test("every call that a rule with a filter may allow has its case, and no other call lets such a caller in", async () => {
  const paths = Object.entries(rpcRules);
  const open = paths.filter(([, { verb, on, isOfAllPoints }]) => {
    return on === "collection" && isOfAllPoints !== true && rowVerbs.includes(verb);
  });
  expect(Object.keys(requests).sort()).toEqual(open.map(([path]) => path.replace("/kith.v1.", "")).sort());
  for (const [path, rule] of paths) {
    if (open.some(([each]) => each === path)) continue;
    const method = path.slice(path.lastIndexOf("/") + 1);
    // Any message that names the collection: names are field 1 of all of them.
    const named = rule.on === "collection" ? bytesOf(pb.GetCollectionRequest, { name: collection }) : Buffer.alloc(0);
    const { code, text, messages } = await ask(path, named);
    expect([method, text.includes(secretWord), messages.length]).toEqual([method, false, 0]);
    expect([status.PERMISSION_DENIED, status.INVALID_ARGUMENT], `${method}: ${text}`).toContain(code);
  }
});

/** What is outside the rule, as one text. */
async function hidden(): Promise<string> {
  const found: string[] = [];
  const rows = admin
    .collection(collection)
    .scroll({ filter: 'not tenant = "a"', withPayload: true, withVectors: true });
  for await (const { id, version, payload, vector, expiresAt } of rows) {
    found.push(JSON.stringify([String(id), version, payload, vector, expiresAt]));
  }
  return found.sort().join("\n");
}

test("each call tells of the caller's own points alone, and changes no other", async () => {
  const before = await hidden();
  expect(before.split("\n")).toHaveLength(rowCount / 2);
  for (const [name, [type, request]] of Object.entries(requests)) {
    const answer = await ask(`/kith.v1.${name}`, bytesOf(type, request), (messages) => messages.length > 0);
    expect([name, answer.code, answer.text.includes(secretWord)], answer.text).toEqual([name, status.OK, false]);
    expect([name, await hidden()]).toEqual([name, before]);
  }
});

test("a watch with a standing query and what was before tells nothing of points while they are outside the rule", async () => {
  const marker = "the-last-one";
  const near = { vector: { values: vector }, threshold: 1e9 };
  const watches = [{}, { near }].map((more) =>
    ask(
      "/kith.v1.Changes/Watch",
      bytesOf(pb.WatchRequest, { collection, before: true, select, ...more }),
      (messages) => Buffer.concat(messages).toString("latin1").split(marker).length > 2,
    ),
  );
  const rows = admin.collection(collection);
  const put = (id: number, tenant: string, title: string): Promise<unknown> =>
    rows.upsert({ id, vector: [1, 1], payload: { tenant, title } });
  let isOver = false;
  const rounds = (async () => {
    // Nobody knows when the watches listen: again until both have had a whole round.
    while (!isOver) {
      await put(100, "b", secretWord);
      await put(100, "a", "mine");
      await put(100, "b", secretWord);
      await rows.setPayload([100], { title: `${secretWord} again` });
      await rows.delete([100]);
      await put(101, "a", marker);
    }
  })();
  const answers = await Promise.all(watches);
  isOver = true;
  await rounds;
  for (const { text } of answers) {
    expect(text).toContain("mine");
    expect(text).not.toContain(secretWord);
  }
});

test("the page of metrics, which names collections, is for those who may monitor the cluster", async () => {
  for (const address of [server.node.httpAddress, server.node.qdrantAddress]) {
    const ask = async (headers: Record<string, string>): Promise<[number, boolean]> => {
      const response = await fetch(`http://${address}/metrics`, { headers });
      return [response.status, /^kith_/m.test(await response.text())];
    };
    expect(await ask({})).toEqual([401, false]);
    expect(await ask({ "api-key": key })).toEqual([403, false]);
    expect(await ask({ authorization: `Bearer ${adminKey}` })).toEqual([200, true]);
  }
});

test("over HTTP a point outside the rule is answered as one that is not there, by status, headers and words", async () => {
  const points = `/v1/collections/${collection}/points`;
  const target = (id: string): object => ({ target: { ids: { ids: [id] } } });
  const example = (id: string): object => ({ query: { recommend: { positive: [{ point: id }] } }, limit: 5 });
  const requests: [method: string, path: (id: string) => string, body?: (id: string) => object, headers?: object][] = [
    ["GET", (id) => `${points}/${id}`],
    ["GET", (id) => `${points}/${id}`, undefined, { "if-none-match": '"1"' }],
    ["DELETE", (id) => `${points}/${id}`],
    ["DELETE", (id) => `${points}/${id}`, undefined, { "if-match": '"1"' }],
    ["PUT", (id) => `${points}/${id}`, () => ({ vector, payload: { tenant: "a" } }), { "if-match": '"1"' }],
    ["POST", () => `${points}/get`, (id) => ({ ids: [id], select: { payload: true } })],
    ["POST", () => `${points}/delete`, (id) => ({ ids: [id], expectedVersions: [1] })],
    ["POST", () => `${points}/delete`, (id) => ({ ids: [id], onlyIf: 'tenant = "b"' })],
    ["POST", () => `${points}/payload/set`, (id) => ({ ...target(id), payload: { n: 1 } })],
    ["POST", () => `/v1/collections/${collection}/query`, (id) => ({ point: id, limit: 5 })],
    ["POST", () => `/v1/collections/${collection}/query`, example],
    ["POST", () => `${points}/count`, (id) => ({ filter: { must: [{ has_id: [id] }] } })],
    ["POST", () => `${points}/scroll`, (id) => ({ filter: { must: [{ has_id: [id] }] }, limit: 5 })],
  ];
  const before = await hidden();
  for (const [method, path, body, more] of requests) {
    const answers = await Promise.all(
      [`${secretWord}-1`, `${secretWord}-2`].map(async (id) => {
        const headers = { "api-key": key, ...more };
        const reply = await server.call(method, path(id), body?.(id), headers);
        const names = [...reply.headers.keys()].filter((name) => name !== "date").sort();
        // The token says how far a shard is, and ids lie in shards by chance.
        const words = reply.text.replaceAll(id, "ID").replace(/"token":"[^"]*"/, "");
        return [reply.status, names, words];
      }),
    );
    expect(answers[0], `${method} ${path("ID")}`).toEqual(answers[1]);
    // It was understood.
    expect([200, 404, 412], JSON.stringify(answers[0])).toContain(answers[0]?.[0]);
  }
  expect(await hidden()).toBe(before);
});

test("the program tells of the caller's own points alone, and counts no others", { timeout: 60_000 }, async () => {
  const cwd = mkdtempSync(join(tmpdir(), "kith-restricted-"));
  const kith = async (...args: string[]): Promise<{ code: unknown; text: string }> => {
    const own = { KITH_TARGET: server.node.address, KITH_API_KEY: key, KITH_STATE_DIR: join(cwd, "state") };
    const child = spawn(process.execPath, [program, ...args], { cwd, env: { ...process.env, ...own } });
    let text = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (text += chunk.toString()));
    child.stdin.end();
    const [code] = (await once(child, "close")) as [unknown];
    return { code, text };
  };
  try {
    const before = await hidden();
    const ownCount = await admin.collection(collection).count({ filter: 'tenant = "a"' });
    const exported = await kith("export", collection, "rows.jsonl");
    expect(exported).toMatchObject({ code: 0 });
    const rows = readFileSync(join(cwd, "rows.jsonl"), "utf8");
    expect([rows.trim().split("\n").length, rows.includes(secretWord)]).toEqual([ownCount, false]);
    const judged = { text: "word", vector, relevant: { 0: 1, 2: 1, [`${secretWord}-1`]: 1 } };
    writeFileSync(join(cwd, "judged.jsonl"), `${JSON.stringify(judged)}\n`.repeat(4));
    const ofAllPoints = /PERMISSION_DENIED/;
    const commands: [answer: RegExp, ...args: string[]][] = [
      // They measure by what tells of all points: statistics, and traces of queries.
      [ofAllPoints, "recall", collection],
      [ofAllPoints, "generation", "compare", collection],
      [ofAllPoints, "generation", "list", collection],
      [ofAllPoints, "backup", "list"],
      [/there is no point with a vector/, "recall", collection, "--filter", 'tenant = "b"'],
      [/weight/i, "tune", collection, "judged.jsonl"],
      [/word +word/, "analyze", "a word", "--collection", collection],
      [new RegExp(`^${ownCount}$`, "m"), "count", collection],
      [/^0$/m, "count", collection, "--filter", 'not tenant = "a"'],
    ];
    for (const [answer, ...args] of commands) {
      const { text } = await kith(...args);
      expect(text, args.join(" ")).toMatch(answer);
      expect(text, args.join(" ")).not.toContain(secretWord);
    }
    expect(await hidden()).toBe(before);
  } finally {
    rmSync(cwd, { recursive: true, force: true });
  }
});
