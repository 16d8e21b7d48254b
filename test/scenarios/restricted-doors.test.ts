/**
 * A caller with a rule, at every door and with every call of the API, made by chance from its descriptors: nothing that comes back holds a word of a point
 * outside the rule or of a collection that it may not know of, and nothing of them changes. What is hidden has a word that no request has.
 */
import { createHash } from "node:crypto";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { SeededRandom } from "../../libs/base/index.js";
import { eventually } from "../../libs/base/testing.js";
import { connect, type KithClient } from "../../libs/client/index.js";
import { qdrantRoutes } from "../../services/gateway/testing/routes.js";
import { TestServer } from "../cluster/rest-server.js";
import { generateMessage, type Words } from "../fuzz/generate.js";
import { RequestGenerator } from "../fuzz/generate-json.js";
import { mutateJson, mutateMessage } from "../fuzz/mutate-fields.js";
import { pick } from "../fuzz/sending.js";
import { publicMethods } from "../fuzz/target.js";

const seed = Number(process.env["KITH_SEED"] ?? 1);
const adminKey = "an-administrator-of-this-test-alone";
const secretWord = "zanzibar";
const rowCount = 24;
const isHidden = (n: number): boolean => n % 2 === 1;

let server: TestServer;
let admin: KithClient;
let client: Client;
let key: string;

beforeAll(async () => {
  const doors = { qdrant: { httpPort: 0, grpcPort: 0 }, auth: { adminKey, required: true } };
  server = await TestServer.start({}, doors);
  admin = await connect(server.node.address, { apiKey: adminKey });
  client = new Client(server.node.address, credentials.createInsecure());
  const rows = admin.collection("rows");
  await rows.create({ vectors: { dimension: 3, metric: "l2" }, sparse: { sparse: {} }, shards: 2 });
  await rows.addVectorField("tokens", { dimension: 3, metric: "cosine", multivector: "maxSim" });
  await rows.createPayloadIndex("n", "integer", { wait: true });
  await rows.createPayloadIndex("tenant", "keyword", { wait: true });
  await rows.createPayloadIndex("title", "bm25", { wait: true });
  const secret = admin.collection("secret");
  await secret.create({ vectors: { dimension: 3, metric: "l2" } });
  await secret.upsert({ id: 1, vector: [1, 1, 1], payload: { tenant: "a", title: secretWord } });
  await admin.aliases.create("open", "secret");
  await admin.aliases.create("second", "rows");
  await admin.roles.put({
    name: "tenant-a",
    rules: [{ verbs: ["read", "write"], collections: ["rows"], filter: 'tenant = "a"' }],
  });
  key = (await admin.keys.create("tenant", { role: "tenant-a" })).secret;
  await fill();
  const own = await connect(server.node.address, { apiKey: key });
  await eventually(async () => expect(await own.collection("rows").count()).toBe(rowCount / 2));
  own.close();
});

afterAll(async () => {
  admin.close();
  client.close();
  await server.close();
});

/** Half of them outside the rule. */
async function fill(): Promise<void> {
  await admin.collection("rows").upsert(
    Array.from({ length: rowCount }, (_, n) => {
      const word = isHidden(n) ? secretWord : "open";
      return {
        id: isHidden(n) ? `${secretWord}-${n}` : n,
        vector: [n % 5, n % 3, 1],
        vectors: {
          tokens: [
            [n % 4, 1, 2],
            [1, 0, n % 7],
          ],
        },
        sparse: { sparse: { indices: [1, 2 + (n % 5)], values: [1, 2] } },
        payload: {
          tenant: isHidden(n) ? "b" : "a",
          n: n % 6,
          title: `word again ${word}`,
          text: word,
          tags: [word, "x"],
        },
      };
    }),
  );
}

/** All that is outside the rule, as one text. */
async function hidden(): Promise<string> {
  const hash = createHash("sha256");
  for (const name of ["rows", "secret"]) {
    const filter = name === "rows" ? { filter: 'not tenant = "a"' } : {};
    const found = admin.collection(name).scroll({ withPayload: true, withVectors: true, ...filter });
    for await (const { id, version, payload, vector, vectors, sparse, matrices } of found) {
      hash.update(JSON.stringify([String(id), version, payload, vector, vectors, sparse, matrices]));
    }
  }
  return hash.digest("hex");
}

const words: Words = {
  collections: [...Array.from({ length: 9 }, () => "rows"), "second", "open", "secret", ""],
  keys: ["n", "n", "tenant", "text", "tags", "tags[]", "title", ""],
  payloads: ['{"tenant":"a","n":3,"title":"a word"}', '{"tenant":"b","n":2}', '{"tenant":["a","b"]}', "{}"],
  others: ["a", "b", 'tenant = "b"', "title", "n", "sparse", "tokens", "n > 1", "word again", "x", ""],
};

const asIs = (bytes: Buffer): Buffer => bytes;

/** All bytes that came, whatever the call's end. */
function ask(
  path: string,
  messages: readonly Buffer[],
  through = client,
): Promise<{ text: string; isAnswered: boolean }> {
  return new Promise((resolve) => {
    const metadata = new Metadata();
    metadata.set("api-key", key);
    const call = through.makeBidiStreamRequest(path, asIs, asIs, metadata, { deadline: Date.now() + 3_000 });
    const chunks: Buffer[] = [];
    const end = (error?: Error): void => {
      resolve({
        text: Buffer.concat(chunks).toString("latin1") + (error?.message ?? ""),
        isAnswered: chunks.length > 0,
      });
    };
    call.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      // A watch has no end.
      if (path.endsWith("/Watch")) call.cancel();
    });
    call.on("error", end).on("end", () => end());
    for (const message of messages) call.write(message);
    call.end();
  });
}

test("every call over gRPC, streams too", { timeout: 60_000 }, async () => {
  const random = new SeededRandom(seed);
  const before = await hidden();
  const methods = publicMethods().filter(({ name }) => name !== "Watch" && name !== "WaitIndexed");
  const common = methods.filter(({ parent }) => parent.name === "Points");
  const answered = new Set<string>();
  for (let i = 0; i < 700; i++) {
    // Each of them first.
    const method = methods[i] ?? pick(random.float() < 0.8 ? common : methods, random);
    const path = `/${method.parent.typeName}/${method.name}`;
    const messages = Array.from({ length: method.methodKind === "unary" ? 1 : 5 }, () => {
      const made = generateMessage(method.input, words, random);
      return random.float() < 0.2 ? mutateMessage(made, random) : made;
    });
    const { text, isAnswered } = await ask(path, messages);
    expect(text.includes(secretWord), `${path} ${messages.map((each) => each.toString("base64")).join(" ")}`).toBe(
      false,
    );
    if (isAnswered) answered.add(method.name);
    if (i % 100 === 99) expect(await hidden(), `after call ${i}`).toBe(before);
  }
  // The chances mean something.
  expect(answered.size).toBeGreaterThan(9);
});

test("every operation over REST", { timeout: 60_000 }, async () => {
  const random = new SeededRandom(seed);
  const before = await hidden();
  const { text: document } = await server.call("GET", "/openapi.json");
  const generator = new RequestGenerator(document, words);
  const wanted = (operation: string): boolean => !/watch|wait-indexed/.test(operation);
  const isCommon = (operation: string): boolean => /\/(points|query)/.test(operation);
  let answered = 0;
  const operations = generator.paths.filter(wanted);
  expect(operations.length).toBeGreaterThan(60);
  for (let i = 0; i < 400; i++) {
    // Each of them first.
    const own = operations[i];
    const { method, path, body } = generator.next(
      random,
      own !== undefined
        ? (each) => each === own
        : random.float() < 0.8
          ? (each) => wanted(each) && isCommon(each)
          : wanted,
    );
    const lines: Record<string, string> = random.float() < 0.2 ? { accept: "application/x-ndjson" } : {};
    const { status, text } = await server.call(method, path, body === "" ? undefined : body, {
      "api-key": key,
      ...lines,
    });
    expect(text.includes(secretWord), `${method} ${path} ${body}`).toBe(false);
    if (status < 300) answered++;
    if (i % 100 === 99) expect(await hidden(), `after call ${i}`).toBe(before);
  }
  expect(answered).toBeGreaterThan(15);
});

const example = { recommend: { positive: [2, [1, 2, 1]], negative: [4] } };
const notTenant = { must_not: [{ key: "tenant", match: { value: "a" } }] };
/** What Qdrant's clients ask about points: the path behind the collection, and the body. */
const qdrantRequests: readonly (readonly [method: string, path: string, body: object])[] = [
  ["POST", "points/scroll", { limit: 50, with_payload: true, with_vector: true }],
  ["POST", "points/scroll", { limit: 50, filter: notTenant, order_by: "n", with_payload: ["title"] }],
  ["POST", "points", { ids: [1, 2, 3], with_payload: true }],
  ["POST", "points/query", { query: [1, 1, 1], limit: 50, with_payload: true, filter: notTenant }],
  ["POST", "points/query", { query: example, limit: 50, with_payload: true, lookup_from: { collection: "secret" } }],
  [
    "POST",
    "points/query",
    { query: { fusion: "rrf" }, prefetch: [{ query: [1, 1, 1], limit: 40 }, { query: example }], with_payload: true },
  ],
  ["POST", "points/query", { query: { order_by: "n" }, limit: 50, with_payload: true }],
  ["POST", "points/query", { query: { sample: "random" }, limit: 50, with_payload: true }],
  ["POST", "points/query", { query: [[1, 2, 3]], using: "tokens", limit: 50, with_payload: true }],
  ["POST", "points/query", { query: { indices: [1], values: [1] }, using: "sparse", limit: 50, with_payload: true }],
  [
    "POST",
    "points/query/batch",
    {
      searches: [
        { query: [1, 1, 1], limit: 50, with_payload: true },
        { query: 2, limit: 9 },
      ],
    },
  ],
  [
    "POST",
    "points/query/groups",
    { query: [1, 1, 1], group_by: "tags", limit: 9, group_size: 9, with_payload: true, with_lookup: "secret" },
  ],
  ["POST", "points/search", { vector: [1, 1, 1], limit: 50, with_payload: true, filter: notTenant }],
  ["POST", "points/recommend", { positive: [2], limit: 50, with_payload: true }],
  ["POST", "points/discover", { target: 2, context: [{ positive: 4, negative: 6 }], limit: 50, with_payload: true }],
  ["POST", "points/search/matrix/pairs", { sample: 50, limit: 9, filter: notTenant }],
  ["POST", "points/search/matrix/offsets", { sample: 50, limit: 9 }],
  ["POST", "facet", { key: "text", exact: true }],
  ["POST", "facet", { key: "tenant", filter: notTenant }],
  ["POST", "points/count", { exact: true, filter: notTenant }],
  ["PUT", "points", { points: [{ id: 2, vector: [1, 2, 3], payload: { tenant: "b" } }] }],
  ["PUT", "points", { points: [{ id: 2, vector: [1, 2, 3], payload: { tenant: "a", n: 1 } }] }],
  ["PUT", "points/vectors", { points: [{ id: 2, vector: [3, 2, 1] }] }],
  ["POST", "points/vectors/delete", { filter: notTenant, vector: [""] }],
  ["POST", "points/payload", { payload: { tenant: "a" }, filter: notTenant }],
  ["PUT", "points/payload", { payload: { tenant: "a", n: 4 }, filter: {} }],
  ["POST", "points/payload/delete", { keys: ["tenant"], filter: notTenant }],
  ["POST", "points/payload/clear", { filter: notTenant }],
  ["POST", "points/delete", { filter: notTenant }],
  [
    "POST",
    "points/batch",
    { operations: [{ delete: { filter: notTenant } }, { set_payload: { payload: { tenant: "a" }, filter: {} } }] },
  ],
  ["GET", "", {}],
  ["GET", "points/2", {}],
  ["GET", "aliases", {}],
  ["POST", "snapshots", {}],
  ["DELETE", "", {}],
];

test("what Qdrant's clients ask", { timeout: 60_000 }, async () => {
  const random = new SeededRandom(seed);
  await fill();
  const before = await hidden();
  const ask = async (method: string, path: string, body: string): Promise<number> => {
    const sent = method === "GET" ? {} : { body, headers: { "content-type": "application/json", "api-key": key } };
    const answer = await fetch(`http://${server.node.qdrantAddress}${path}`, {
      method,
      headers: { "api-key": key },
      ...sent,
    });
    const text = await answer.text();
    expect(text.includes(secretWord), `${method} ${path} ${body}: ${text.slice(0, 300)}`).toBe(false);
    return answer.status;
  };
  const answered = new Set<string>();
  for (let i = 0; i < 200; i++) {
    // Each of them first as it is, by every name.
    const [method, own, body] =
      i < 3 * qdrantRequests.length
        ? (qdrantRequests[i % qdrantRequests.length] as (typeof qdrantRequests)[number])
        : pick(qdrantRequests, random);
    const name = ["rows", "second", "open"][Math.floor(i / qdrantRequests.length)] ?? pick(words.collections, random);
    const other = JSON.stringify(pick(qdrantRequests, random)[2]);
    const text = i < 3 * qdrantRequests.length ? JSON.stringify(body) : mutateJson(JSON.stringify(body), other, random);
    const status = await ask(method, `/collections/${name}${own === "" ? "" : `/${own}`}`, text);
    if (status === 200) answered.add(`${method} ${own} ${JSON.stringify(body)}`);
    if (i % 50 === 49) expect(await hidden(), `after request ${i}`).toBe(before);
  }
  expect(answered.size).toBeGreaterThan(20);
  for (const path of ["/collections", "/aliases", "/telemetry", "/cluster", "/snapshots", "/metrics"])
    await ask("GET", path, "");
});

/** Calls of the REST API that tell of no points, and change none, whoever asks. */
const ofNoPoints = [
  ...["GET /collections", "GET /aliases", "GET /snapshots", "GET /quotas", "GET /issues", "DELETE /issues"],
  ...["POST /cluster/recover", "GET /collections/:collection_name/exists", "GET /collections/:collection_name/shards"],
  "GET /collections/:collection_name/optimizations",
];

test("each call of Qdrant's REST API has its request above, or refuses a caller with a rule", {
  timeout: 60_000,
}, async () => {
  const before = await hidden();
  const above = new Set(qdrantRequests.map(([method, own]) => `${method} ${own.replace("points/2", "points/:id")}`));
  const given = [
    {},
    { query: [1, 1, 1], limit: 50, with_payload: true },
    { vector: [1, 1, 1], limit: 50, with_payload: true },
  ];
  const batch = { searches: given.slice(1) };
  const left: string[] = [];
  for (const { verb, path } of qdrantRoutes) {
    const own = path.replace(/^\/collections\/:collection_name\/?/, "");
    if (above.has(`${verb} ${own}`)) continue;
    const bound = path.replace(":collection_name", "rows").replace(":field_name", "n").replaceAll(/:\w+/g, "1");
    for (const body of [...given, batch]) {
      const sent =
        verb === "GET"
          ? {}
          : { body: JSON.stringify(body), headers: { "content-type": "application/json", "api-key": key } };
      const headers = { "api-key": key };
      const answer = await fetch(`http://${server.node.qdrantAddress}${bound}`, { method: verb, headers, ...sent });
      const text = await answer.text();
      expect(text.includes(secretWord), `${verb} ${path}: ${text.slice(0, 300)}`).toBe(false);
      if (answer.status < 300 && !ofNoPoints.includes(`${verb} ${path}`)) left.push(`${verb} ${path}`);
    }
  }
  // What such a caller gets an answer to must be asked above, with what would tell the most.
  expect([...new Set(left)]).toEqual([]);
  expect(await hidden()).toBe(before);
});

test("every call of Qdrant's gRPC", { timeout: 60_000 }, async () => {
  const random = new SeededRandom(seed);
  const qdrant = new Client(server.node.qdrantGrpcAddress, credentials.createInsecure());
  try {
    await fill();
    const before = await hidden();
    const methods = publicMethods("qdrant");
    const common = methods.filter(({ parent }) => parent.name === "Points");
    expect(common.length).toBeGreaterThan(20);
    const answered = new Set<string>();
    for (let i = 0; i < 500; i++) {
      // Each of them first.
      const method = methods[i] ?? pick(random.float() < 0.85 ? common : methods, random);
      const path = `/${method.parent.typeName}/${method.name}`;
      const message = generateMessage(method.input, words, random);
      const { text, isAnswered } = await ask(path, [message], qdrant);
      expect(text.includes(secretWord), `${path} ${message.toString("base64")}`).toBe(false);
      if (isAnswered) answered.add(method.name);
      if (i % 100 === 99) expect(await hidden(), `after call ${i}`).toBe(before);
    }
    // The chances mean something.
    expect(answered.size).toBeGreaterThan(9);
  } finally {
    qdrant.close();
  }
});
