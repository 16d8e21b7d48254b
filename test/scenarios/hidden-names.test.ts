/**
 * What a caller may not know of, and what does not exist: each call at each door is made of both, by names of the same length, and answered with the same
 * bytes: status, message, details, trailers and headers.
 */
import { Client, credentials, Metadata, status, type StatusObject } from "@grpc/grpc-js";
import { type DescMethod, ScalarType } from "@bufbuild/protobuf";
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { rpcRules } from "../../libs/auth/index.js";
import { SeededRandom } from "../../libs/base/index.js";
import { eventually } from "../../libs/base/testing.js";
import { connect, type KithClient } from "../../libs/client/index.js";
import { pb } from "../../libs/wire/index.js";
import { qdrantRoutes } from "../../services/gateway/testing/routes.js";
import { TestServer } from "../cluster/rest-server.js";
import { generateMessage, type Words } from "../fuzz/generate.js";
import { RequestGenerator } from "../fuzz/generate-json.js";
import { restQueries } from "../fuzz/qdrant-requests.js";
import { publicMethods } from "../fuzz/target.js";

const seed = Number(process.env["KITH_SEED"] ?? 1);
const adminKey = "an-administrator-of-this-test-alone";
/** A collection, an alias of it, and nothing: three names of the same length. */
const [hidden, covert, absent] = ["hidden", "covert", "absent"] as const;
const own = "shown-to-callers";

let folder: string;
let server: TestServer;
let admin: KithClient;
let keys: Record<string, string>;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "kith-hidden-"));
  const doors = {
    qdrant: { httpPort: 0, grpcPort: 0 },
    auth: { adminKey, required: true },
    backup: { folder: join(folder, "backups") },
  };
  server = await TestServer.start({}, doors);
  admin = await connect(server.node.address, { apiKey: adminKey });
  for (const name of [own, hidden]) {
    const made = admin.collection(name);
    await made.create({ vectors: { dimension: 3, metric: "l2" }, sparse: { sparse: {} }, shards: 1 });
    await made.createPayloadIndex("n", "integer", { wait: true });
    await made.createPayloadIndex("title", "bm25", { wait: true });
    await made.update({ strictMode: { maxBatchQueries: 2, maxLimit: 50 } });
    await made.upsert({ id: 1, vector: [1, 1, 1], payload: { tenant: "a", title: "a word", n: 1 } });
  }
  await admin.aliases.create(covert, hidden);
  await admin.roles.put({
    name: "schemer",
    rules: [
      {
        verbs: ["read", "write", "create", "alter", "drop", "backup"],
        collections: [own],
      },
    ],
  });
  await admin.roles.put({
    name: "ruled",
    rules: [{ verbs: ["read", "write"], collections: [own], filter: 'tenant = "a"' }],
  });
  keys = {};
  for (const role of ["schemer", "ruled"]) keys[role] = (await admin.keys.create(role, { role })).secret;
  for (const apiKey of Object.values(keys)) {
    const client = await connect(server.node.address, { apiKey });
    await eventually(async () => expect(await client.collection(own).count()).toBe(1));
    client.close();
  }
});

afterAll(async () => {
  admin.close();
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

/** A request or an answer of one of the names, as if it were of another. */
function renamed(bytes: Buffer, from: string, to: string): Buffer {
  return Buffer.from(bytes.toString("latin1").replaceAll(from, to), "latin1");
}

function pathOf({ parent, name }: DescMethod): string {
  return `/${parent.typeName}/${name}`;
}

/** An answer without how long it took, as text. */
function withoutTime({ output }: DescMethod, message: Buffer): string {
  const time = output.fields.find(({ name }) => name === "time")?.number;
  const kept: string[] = [];
  const reader = new BinaryReader(message);
  while (reader.pos < reader.len) {
    const from = reader.pos;
    const [number, type] = reader.tag();
    reader.skip(type, number);
    if (number !== time) kept.push(message.toString("latin1", from, reader.pos));
  }
  return kept.join("");
}

const asIs = (bytes: Buffer): Buffer => bytes;

/** All that tells how a call over gRPC ended, with `name` left out. */
function asked(client: Client, method: DescMethod, bytes: Buffer, key: string, name: string): Promise<string> {
  return new Promise((resolve) => {
    const path = pathOf(method);
    const metadata = new Metadata();
    metadata.set("api-key", key);
    const call = client.makeBidiStreamRequest(path, asIs, asIs, metadata, { deadline: Date.now() + 10_000 });
    const told: string[] = [];
    const shown = (sent: Metadata): string =>
      Object.entries(sent.toJSON())
        .filter(([header]) => header !== "date")
        .map(([header, values]) => `${header}: ${values.map((each) => Buffer.from(each).toString("latin1")).join(",")}`)
        .sort()
        .join("\n");
    call.on("metadata", (sent: Metadata) => told.push(`headers ${shown(sent)}`));
    call.on("data", (message: Buffer) => told.push(`message ${withoutTime(method, message)}`));
    call.on("error", () => undefined);
    call.on("status", ({ code, details, metadata: trailers }: StatusObject) => {
      told.push(`status ${code} ${details}`, `trailers ${shown(trailers)}`);
      resolve(told.join("\n").replaceAll(name, "NAME"));
    });
    call.write(bytes);
    call.end();
  });
}

const words: Words = {
  collections: [hidden],
  keys: ["n", "title", "tenant"],
  payloads: ['{"tenant":"a","n":3}', "{}"],
  others: ["sparse", "n", "title", "word", "a", "n > 1", ""],
};

const client = (): Client => new Client(server.node.address, credentials.createInsecure());

/** Whether the request is answered alike whatever it names; gives the status. */
async function same(
  of: Client,
  method: DescMethod,
  bytes: Buffer,
  from: string,
  names: readonly string[],
): Promise<number[]> {
  const codes: number[] = [];
  for (const key of Object.values(keys)) {
    const answers = await Promise.all(names.map((name) => asked(of, method, renamed(bytes, from, name), key, name)));
    const why = `${pathOf(method)} ${bytes.toString("base64")}`;
    for (const answer of answers) expect(answer, why).toBe(answers[0]);
    codes.push(Number(/^status (\d+)/m.exec(answers[0] as string)?.[1]));
  }
  return codes;
}

/** Each call a few times by chance; gives the statuses of those that name a collection. */
async function byChance(address: string, methods: readonly DescMethod[], each: number): Promise<Map<string, number[]>> {
  const asking = new Client(address, credentials.createInsecure());
  const random = new SeededRandom(seed);
  const ends = new Map<string, number[]>();
  try {
    for (const method of methods) {
      const codes: number[] = [];
      // Some have the name in one of several places alone.
      for (let made = 0, tries = 0; made < each && tries < each * 50; tries++) {
        const bytes = generateMessage(method.input, words, random);
        if (!bytes.includes(hidden)) continue;
        made++;
        codes.push(...(await same(asking, method, bytes, hidden, [hidden, covert, absent])));
      }
      ends.set(pathOf(method), codes);
    }
  } finally {
    asking.close();
  }
  return ends;
}

/** Calls that name none, or name one deeper within, by chance hardly ever; those are asked on purpose. */
const others = ["List", "UpdateAliases", "QueryBatch", "QueryGroups"];

/** Every one of them names a collection, by these statuses. */
const known = [status.OK, status.NOT_FOUND, status.INVALID_ARGUMENT, status.PERMISSION_DENIED];

test("by chance over gRPC, each call", { timeout: 60_000 }, async () => {
  const ends = await byChance(server.node.address, publicMethods(), 3);
  for (const [path, codes] of ends) {
    if (rpcRules[path]?.on !== "collection" || others.includes(path.split("/")[2] ?? "")) continue;
    expect(codes.length, path).toBeGreaterThan(0);
    for (const code of codes) expect(known, path).toContain(code);
  }
});

test("by chance over Qdrant's gRPC, each call", { timeout: 60_000 }, async () => {
  const ends = await byChance(server.node.qdrantGrpcAddress, publicMethods("qdrant"), 2);
  expect([...ends.values()].filter((codes) => codes.length > 0).length).toBeGreaterThan(40);
});

interface Message {
  fromPartial(value: object): unknown;
  encode(message: never): { finish(): Uint8Array };
}

function methodOf(path: string): DescMethod {
  const found = publicMethods().find((each) => pathOf(each) === `/kith.v1.${path}`);
  if (found === undefined) throw new Error(`there is no call ${path}`);
  return found;
}

const vector = [1, 1, 1];
const example = { example: { $case: "point", value: { id: { $case: "num", value: 1n } } } };
const recommend = { query: { $case: "recommend", value: { positive: [example] } } };
const lookup = { collection: hidden, using: "" };
const fusion = { query: { $case: "fusion", value: { method: { $case: "reciprocalRank", value: {} } } } };
const sparse = { collection: hidden, using: "sparse", vector };
/** What is decided by the schema of the collection, or by a second one that is named. */
const onPurpose: [path: string, type: Message, request: object][] = [
  ["Points/Query", pb.QueryRequest, { ...sparse, exactScores: true }],
  ["Points/Query", pb.QueryRequest, { ...sparse, oversampling: 2 }],
  ["Points/Query", pb.QueryRequest, { ...sparse, rescore: true }],
  ["Points/Query", pb.QueryRequest, { collection: hidden, vector: [1] }],
  ["Points/Query", pb.QueryRequest, { collection: hidden, vector, explain: true, trace: true }],
  ["Points/Query", pb.QueryRequest, { collection: hidden, vector, limit: 51 }],
  ["Points/Query", pb.QueryRequest, { collection: own, query: recommend, lookup }],
  ["Points/Query", pb.QueryRequest, { collection: own, query: fusion, prefetch: [{ query: recommend, lookup }] }],
  ["Points/QueryGroups", pb.QueryGroupsRequest, { query: { collection: hidden, vector }, groupBy: "n" }],
  [
    "Points/QueryGroups",
    pb.QueryGroupsRequest,
    { query: { collection: own, vector }, groupBy: "n", withLookup: { collection: hidden } },
  ],
  [
    "Points/QueryBatch",
    pb.QueryBatchRequest,
    { queries: Array.from({ length: 3 }, () => ({ ...sparse, rescore: true })) },
  ],
  ["Points/QueryStream", pb.QueryStreamRequest, { requestId: 1n, query: { ...sparse, exactScores: true } }],
  ["Points/Upsert", pb.UpsertRequest, { collection: hidden, points: [{ vectors: { no: { values: [1] } } }] }],
  ["Points/Scroll", pb.ScrollRequest, { collection: hidden, cursor: Buffer.from("none"), limit: 51 }],
  ["Points/Count", pb.CountRequest, { collection: hidden, partition: "a" }],
  ["Changes/Watch", pb.WatchRequest, { collection: hidden, batch: 1e6 }],
  ["Collections/Rename", pb.RenameCollectionRequest, { name: hidden, newName: own }],
  ["Collections/Rename", pb.RenameCollectionRequest, { name: own, newName: hidden }],
  [
    "Collections/Create",
    pb.CreateCollectionRequest,
    { name: hidden, vectors: [{ dimension: 2, metric: pb.Metric.L2 }] },
  ],
  ...["create", "switch", "delete", "rename"].map((kind): [string, Message, object] => [
    "Collections/UpdateAliases",
    pb.UpdateAliasesRequest,
    { actions: [{ action: { $case: kind, value: { alias: hidden, collection: own, newAlias: own } } }] },
  ]),
  [
    "Collections/UpdateAliases",
    pb.UpdateAliasesRequest,
    { actions: [{ action: { $case: "create", value: { alias: own, collection: hidden } } }] },
  ],
];

test("on purpose, where the schema of a collection or a second name decides", async () => {
  const asking = client();
  try {
    for (const [path, type, request] of onPurpose) {
      const bytes = Buffer.from(type.encode(type.fromPartial(request) as never).finish());
      expect(bytes.includes(hidden), path).toBe(true);
      await same(asking, methodOf(path), bytes, hidden, [hidden, covert, absent]);
    }
  } finally {
    asking.close();
  }
});

/** A message all of whose texts are this one. */
function filledWith(method: DescMethod, text: string): Buffer {
  const writer = new BinaryWriter();
  for (const field of method.input.fields) {
    const isText = field.fieldKind === "scalar" && field.scalar === ScalarType.STRING;
    if (isText) writer.tag(field.number, WireType.LengthDelimited).string(text);
  }
  return Buffer.from(writer.finish());
}

test("keys, roles, backups, operations and nodes", async () => {
  const made = await admin.keys.create("another", { role: "reader" });
  const backup = await admin.backups.create(own);
  const there = [made.key.id, "schemer", backup.id, backup.operation, "rest", hidden];
  const asking = client();
  const paths = Object.entries(rpcRules).filter(([, { on }]) => on === "cluster");
  try {
    for (const [path] of paths) {
      const method = methodOf(path.replace("/kith.v1.", ""));
      for (const text of there) {
        const codes = await same(asking, method, filledWith(method, text), text, [text, "x".repeat(text.length)]);
        expect(new Set(codes), path).toEqual(new Set([status.PERMISSION_DENIED]));
      }
    }
  } finally {
    asking.close();
  }
});

/** Status, headers and body of an answer over HTTP, with `name` and how long it took left out. */
async function askedOverHttp(url: string, method: string, body: string, key: string, name: string): Promise<string> {
  const has = method !== "GET" && body !== "";
  const answer = await fetch(url, {
    method,
    headers: { "api-key": key, ...(has && { "content-type": "application/json" }) },
    ...(has && { body }),
  });
  // Whether a connection goes on is told of the connection, and not of the answer.
  const others = ["date", "content-length", "connection", "keep-alive"];
  const headers = [...answer.headers].filter(([each]) => !others.includes(each));
  const text = (await answer.text()).replace(/"time":[\d.e-]+/, "");
  return JSON.stringify([answer.status, headers, text]).replaceAll(name, "NAME");
}

async function sameOverHttp(base: string, method: string, path: string, body: string): Promise<number> {
  let code = 0;
  for (const key of Object.values(keys)) {
    const answers = await Promise.all(
      [hidden, covert, absent].map((name) =>
        askedOverHttp(base + path.replaceAll(hidden, name), method, body.replaceAll(hidden, name), key, name),
      ),
    );
    for (const answer of answers) expect(answer, `${method} ${path} ${body}`).toBe(answers[2]);
    code = Number(/^\[(\d+)/.exec(answers[0] as string)?.[1]);
  }
  return code;
}

test("over REST, each operation", { timeout: 60_000 }, async () => {
  const random = new SeededRandom(seed);
  const { text } = await server.call("GET", "/openapi.json");
  const generator = new RequestGenerator(text, words);
  const named = new Set<string>();
  for (const operation of generator.paths) {
    for (let i = 0; i < 1; i++) {
      const { method, path, body } = generator.next(random, (each) => each === operation);
      if (!`${path}${body}`.includes(hidden)) continue;
      const code = await sameOverHttp(server.url, method, path, body);
      expect([200, 400, 403, 404, 415], `${operation} ${body}`).toContain(code);
      named.add(operation);
    }
  }
  const collections = generator.paths.filter((each) => each.includes("{collection}"));
  expect(collections.filter((each) => !named.has(each))).toEqual([]);
});

test("over Qdrant's REST API, each call", { timeout: 60_000 }, async () => {
  const bodies = [
    "{}",
    ...restQueries.map((each) => JSON.stringify(each)),
    `{"actions":[{"delete_alias":{"alias_name":"${hidden}"}}]}`,
  ];
  for (const { verb, path } of qdrantRoutes) {
    if (!path.includes(":collection_name")) continue;
    const at = path.replace(":collection_name", hidden).replaceAll(/:\w+/g, "1");
    for (const body of path.endsWith("/query") ? bodies : bodies.slice(0, 1)) {
      await sameOverHttp(`http://${server.node.qdrantAddress}`, verb, at, body);
    }
  }
  for (const [method, path, body] of [
    ["POST", "/collections/aliases", `{"actions":[{"delete_alias":{"alias_name":"${hidden}"}}]}`],
    [
      "POST",
      "/collections/aliases",
      `{"actions":[{"create_alias":{"alias_name":"new","collection_name":"${hidden}"}}]}`,
    ],
    [
      "POST",
      "/collections/aliases",
      `{"actions":[{"create_alias":{"alias_name":"${hidden}","collection_name":"${own}"}}]}`,
    ],
    [
      "POST",
      "/collections/aliases",
      `{"actions":[{"rename_alias":{"old_alias_name":"${hidden}","new_alias_name":"new"}}]}`,
    ],
    ["POST", `/collections/${own}/points/query`, `{"query":1,"lookup_from":{"collection":"${hidden}"}}`],
    ["POST", `/collections/${own}/points/query/groups`, `{"query":[1,1,1],"group_by":"n","with_lookup":"${hidden}"}`],
    [
      "POST",
      `/collections/${own}/points/recommend`,
      `{"positive":[1],"limit":1,"lookup_from":{"collection":"${hidden}"}}`,
    ],
  ] as const)
    await sameOverHttp(`http://${server.node.qdrantAddress}`, method, path, body);
});
