/**
 * What callers with keys may do, over gRPC on a node in this process: roles by collections, and rules that let a caller see and write some
 * points alone. The last is shown by chance: whatever is called, nothing tells of a point outside the rule, and none is changed.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { SeededRandom, systemClock, toKithError } from "../../libs/base/index.js";
import { eventually } from "../../libs/base/testing.js";
import { connect, type KithClient } from "../../libs/client/index.js";
import { loadNodeConfig } from "../../libs/config/index.js";
import { type Channel, createChannel, openAnswers, openStream, unaryCall } from "../../libs/rpc/client/index.js";
import type { UnaryDefinition } from "../../libs/rpc/common/index.js";
import { silentLogger } from "../../libs/telemetry/index.js";
import { pb } from "../../libs/wire/index.js";
import { type RunningNode, startNode } from "../../services/node/index.js";

const adminKey = "an-administrator-of-this-test-alone";

let folder: string;
let node: RunningNode;
let admin: KithClient;
let channel: Channel;
/** Of a caller that may see and write points of tenant "a" alone. */
let tenantKey: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kith-access-"));
  const config = loadNodeConfig({
    flags: {
      ...{ nodeId: "n", roles: ["router", "shard", "coordinator"], data: folder, listen: { port: 0 } },
      ...{ drainTimeoutMs: 200, auth: { adminKey } },
    },
  });
  node = await startNode(config, { version: "test", logger: () => silentLogger });
  admin = await connect(node.address, { apiKey: adminKey });
  channel = createChannel(node.address, { clock: systemClock });
  for (const name of ["rows", "secret"]) {
    const made = admin.collection(name);
    await made.create({ vectors: { dimension: 2, metric: "l2" }, shards: name === "rows" ? 2 : 1 });
    await made.createPayloadIndex("n", "integer", { wait: true });
  }
  await admin.collection("secret").upsert({ id: 1, vector: [1, 1], payload: { tenant: "b", name: "hidden" } });
  await admin.roles.put({
    name: "tenant-a",
    rules: [{ verbs: ["read", "write"], collections: ["rows"], filter: 'tenant = "a"' }],
  });
  tenantKey = (await admin.keys.create("tenant", { role: "tenant-a" })).secret;
});

afterAll(async () => {
  admin.close();
  channel.close();
  await node.close();
  await rm(folder, { recursive: true, force: true });
});

function callAs<Req, Res>(key: string, method: UnaryDefinition<Req, Res>, request: Req): Promise<Res> {
  const deadlineMs = systemClock.monotonicMs() + 10_000;
  return unaryCall(channel, method, request, { deadlineMs, metadata: key === "" ? {} : { "api-key": key } });
}

async function failureOf(call: Promise<unknown>): Promise<{ code: string; message: string }> {
  try {
    await call;
  } catch (error) {
    const { code, message } = toKithError(error);
    return { code, message };
  }
  return { code: "none", message: "" };
}

const points = pb.PointsService;
const collections = pb.CollectionsService;
const idOf = (num: number): pb.PointId => pb.PointId.fromPartial({ id: { $case: "num", value: BigInt(num) } });
const keyword = (key: string, value: string): pb.Condition => {
  return pb.Condition.fromPartial({
    condition: { $case: "match", value: { key, match: { $case: "keyword", value } } },
  });
};

test("who shows nothing, or nothing good, is not let in by any call or stream", async () => {
  for (const key of ["", "wrong", `kith_${"0".repeat(16)}_${"A".repeat(43)}`]) {
    expect((await failureOf(callAs(key, collections.list, {}))).code).toBe("UNAUTHENTICATED");
    const metadata: Record<string, string> = key === "" ? {} : { authorization: `Bearer ${key}` };
    const ended = await new Promise<unknown>((onEnd) => {
      openStream(channel, points.queryStream, { onMessage: () => undefined, onEnd }, { metadata });
    });
    expect(ended).toMatchObject({ code: "UNAUTHENTICATED" });
  }
  await expect(connect(node.address)).rejects.toMatchObject({ code: "UNAUTHENTICATED" });
});

test("a rule holds in a collection with a partition key, and one that names ids gives nothing there", async () => {
  const keyed = admin.collection("keyed");
  await keyed.create({ vectors: { dimension: 2, metric: "l2" }, shards: 3, partitionKey: "tenant" });
  await keyed.upsert(["a", "b"].map((tenant) => ({ id: 1, vector: [1, 1], payload: { tenant } })));
  const as = async (filter: string | object): Promise<KithClient> => {
    const role = `keyed-${typeof filter}`;
    const collections = ["keyed"];
    await admin.roles.put({ name: role, rules: [{ verbs: ["read", "write"], collections, filter: filter as string }] });
    return connect(node.address, { apiKey: (await admin.keys.create(role, { role })).secret });
  };
  const tenant = await as('tenant = "a"');
  const rows = tenant.collection("keyed");
  await eventually(async () => expect(await rows.count()).toBe(1));
  expect((await rows.get(1, { partition: "a" }))?.payload).toEqual({ tenant: "a" });
  expect(await rows.get(1, { partition: "b" })).toBeUndefined();
  expect((await rows.query({ vector: [1, 1] })).points).toHaveLength(1);
  expect((await rows.delete(1, { partition: "b" })).deleted).toBe(0);
  expect((await rows.delete({ filter: {} }, { partition: "b" })).deleted).toBe(0);
  const other = rows.upsert({ id: 2, vector: [1, 1], payload: { tenant: "b" } });
  expect((await failureOf(other)).code).toBe("PERMISSION_DENIED");
  expect(await keyed.count()).toBe(2);
  const byIds = await as({ must_not: [{ has_id: [1] }] });
  await eventually(async () => {
    expect((await failureOf(byIds.collection("keyed").count())).code).toBe("PERMISSION_DENIED");
  });
  tenant.close();
  byIds.close();
});

test("what a caller may not know of is answered as what is not there, by whatever name", async () => {
  await admin.aliases.create("open", "secret");
  await admin.aliases.create("rows-too", "rows");
  const { secret: key } = await admin.keys.create("docs", { role: "writer", collections: ["rows", "open", "none*"] });
  const vector = Float32Array.of(1, 1);
  const query = (collection: string): pb.QueryRequest => pb.QueryRequest.fromPartial({ collection, vector, limit: 1 });
  const lookup = pb.QueryRequest.fromPartial({
    collection: "rows",
    query: { query: { $case: "recommend", value: { positive: [{ example: { $case: "point", value: idOf(1) } }] } } },
  });
  const calls: Record<string, (name: string) => Promise<unknown>> = {
    get: (name) => callAs(key, collections.get, { name }),
    stats: (name) => callAs(key, collections.stats, { name }),
    query: (name) => callAs(key, points.query, query(name)),
    count: (name) => callAs(key, points.count, pb.CountRequest.fromPartial({ collection: name })),
    facet: (name) => callAs(key, points.facet, pb.FacetRequest.fromPartial({ collection: name, key: "tenant" })),
    lookup: (name) => callAs(key, points.query, { ...lookup, lookup: { collection: name, using: "" } }),
    prefetchLookup: (name) =>
      callAs(key, points.query, {
        ...lookup,
        query: pb.Query.fromPartial({
          query: { $case: "fusion", value: { method: { $case: "reciprocalRank", value: {} } } },
        }),
        prefetch: [pb.Prefetch.fromPartial({ query: lookup.query, lookup: { collection: name, using: "" } })],
      }),
    groupLookup: (name) =>
      callAs(key, points.queryGroups, {
        ...pb.QueryGroupsRequest.fromPartial({ groupBy: "n", withLookup: { collection: name } }),
        query: { ...query("rows"), limit: 0 },
      }),
    write: (name) =>
      callAs(key, points.delete, pb.DeletePointsRequest.fromPartial({ collection: name, ids: [idOf(1)] })),
    aliases: (name) => callAs(key, collections.listAliases, { collection: name }),
  };
  for (const [what, call] of Object.entries(calls)) {
    const absent = await failureOf(call("absent"));
    expect(absent.code, what).toBe("COLLECTION_NOT_FOUND");
    for (const hidden of ["secret", "open"]) {
      const told = await failureOf(call(hidden));
      expect({ what, ...told }).toEqual({ what, ...absent, message: absent.message.replaceAll("absent", hidden) });
    }
  }
  // Case counts, and a name that only looks the same is none.
  for (const name of ["Rows", "ROWS", "\uff52ows", "rows\u0000", "rows "]) {
    expect(["COLLECTION_NOT_FOUND", "INVALID_NAME"]).toContain(
      (await failureOf(callAs(key, collections.get, { name }))).code,
    );
  }
  expect((await callAs(key, collections.get, { name: "rows-too" })).collection?.name).toBe("rows");
  expect((await callAs(key, collections.list, {})).collections.map(({ name }) => name)).toEqual(["rows"]);
  expect((await callAs(key, collections.listAliases, { collection: "" })).aliases).toEqual([
    { alias: "rows-too", collection: "rows" },
  ]);
  expect(await callAs(key, collections.exists, { name: "secret" })).toEqual({ exists: false });
  const batch = await callAs(key, points.queryBatch, { queries: [query("secret"), query("rows")] });
  expect(batch.results.map(({ outcome }) => outcome?.$case)).toEqual(["failure", "response"]);
});

test("names and aliases lead to nothing that the caller may not have", async () => {
  await admin.roles.put({ name: "schemer", rules: [{ verbs: ["alter", "create"], collections: ["my*"] }] });
  await admin.collection("my-first").create({ vectors: { dimension: 2, metric: "l2" } });
  await admin.aliases.create("my-alias", "secret");
  const { secret: key } = await admin.keys.create("schemer", { role: "schemer" });
  const update = (action: pb.AliasAction["action"]): Promise<unknown> =>
    callAs(key, collections.updateAliases, { actions: [{ action }] });
  const attempts: [() => Promise<unknown>, string][] = [
    [() => callAs(key, collections.rename, { name: "secret", newName: "my-secret" }), "COLLECTION_NOT_FOUND"],
    [() => callAs(key, collections.rename, { name: "my-first", newName: "rows" }), "PERMISSION_DENIED"],
    [() => callAs(key, collections.rename, { name: "my-first", newName: "other" }), "PERMISSION_DENIED"],
    [() => callAs(key, collections.rename, { name: "my-first", newName: "my-alias" }), "ALREADY_EXISTS"],
    [() => update({ $case: "create", value: { alias: "my-a", collection: "secret" } }), "COLLECTION_NOT_FOUND"],
    [() => update({ $case: "create", value: { alias: "rows", collection: "my-first" } }), "PERMISSION_DENIED"],
    [() => update({ $case: "switch", value: { alias: "my-alias", collection: "my-first" } }), "NOT_FOUND"],
    [() => update({ $case: "delete", value: { alias: "my-alias" } }), "NOT_FOUND"],
    [() => update({ $case: "rename", value: { alias: "my-alias", newAlias: "my-b" } }), "NOT_FOUND"],
    [() => callAs(key, collections.create, pb.CreateCollectionRequest.fromPartial({ name: "rows" })), "INVALID_SCHEMA"],
    [() => callAs(key, points.count, pb.CountRequest.fromPartial({ collection: "my-first" })), "PERMISSION_DENIED"],
    [() => callAs(key, collections.delete, { name: "my-first" }), "PERMISSION_DENIED"],
    [() => callAs(key, pb.KeysService.list, {}), "PERMISSION_DENIED"],
    [() => callAs(key, pb.ClusterService.describe, {}), "PERMISSION_DENIED"],
  ];
  for (const [attempt, code] of attempts) {
    const failure = await failureOf(attempt());
    expect([attempt.toString(), failure.code]).toEqual([attempt.toString(), code]);
    if (!attempt.toString().includes('"secret"')) expect(failure.message).not.toContain("secret");
  }
  const vectors = [pb.VectorField.fromPartial({ dimension: 2, metric: pb.Metric.L2 })];
  const create = (name: string): Promise<unknown> =>
    callAs(key, collections.create, pb.CreateCollectionRequest.fromPartial({ name, vectors }));
  const denied = await failureOf(create("rows"));
  expect(denied).toEqual({
    code: "PERMISSION_DENIED",
    message: (await failureOf(create("free"))).message.replace("free", "rows"),
  });
  await create("my-own");
  await admin.aliases.delete("my-alias");
});

test("a revoked key is refused at once, also on streams that are open", async () => {
  const { key, secret } = await admin.keys.create("short", { role: "reader" });
  const metadata = { "api-key": secret };
  const answers: pb.QueryStreamResponse[] = [];
  const stream = openStream(
    channel,
    points.queryStream,
    { onMessage: (answer: pb.QueryStreamResponse) => answers.push(answer), onEnd: () => undefined },
    { metadata },
  );
  const ask = (requestId: number): boolean =>
    stream.write(
      pb.QueryStreamRequest.fromPartial({ requestId, other: { $case: "count", value: { collection: "rows" } } }),
    );
  ask(1);
  await eventually(() => answers.length === 1);
  const watching = new Promise<unknown>((onEnd) => {
    const watch = pb.WatchRequest.fromPartial({ collection: "rows" });
    openAnswers(channel, pb.ChangesService.watch, watch, { onMessage: () => undefined, onEnd }, { metadata });
  });
  await admin.keys.revoke(key.id);
  ask(2);
  await eventually(() => answers.length === 2);
  expect(answers.map(({ outcome }) => outcome?.$case)).toEqual(["count", "failure"]);
  expect(answers[1]?.outcome?.value).toMatchObject({ code: "UNAUTHENTICATED" });
  expect((await failureOf(callAs(secret, collections.list, {}))).code).toBe("UNAUTHENTICATED");
  expect(await watching).toMatchObject({ code: "UNAUTHENTICATED" });
  stream.cancel();
});

interface Row {
  tenant: string;
  n: number;
}

const rowCount = 40;

/** Half of tenant "a". */
async function fill(): Promise<void> {
  const rows = admin.collection<Row>("rows");
  await rows.truncate();
  const all = Array.from({ length: rowCount }, (_, i) => ({
    ...{ id: i + 1, vector: [i % 7, i % 5] },
    payload: { tenant: i % 2 === 0 ? "a" : "b", n: i % 6 },
  }));
  await rows.upsert(all);
}

async function allRows(): Promise<Map<number, { version: number; text: string; tenant: string | undefined }>> {
  const all = new Map<number, { version: number; text: string; tenant: string | undefined }>();
  const scrolled = admin.collection<Row>("rows").scroll({ withPayload: true, withVectors: true });
  for await (const point of scrolled) {
    all.set(Number(point.id), {
      version: point.version,
      text: JSON.stringify([point.payload, point.vector]),
      tenant: point.payload?.tenant,
    });
  }
  return all;
}

const hiddenOf = (rows: Awaited<ReturnType<typeof allRows>>) => [...rows].filter(([, { tenant }]) => tenant !== "a");

beforeEach(fill);

/** Every id and every payload in an answer, wherever it stands. */
function told(answer: unknown, ids: number[] = [], tenants: unknown[] = []): { ids: number[]; tenants: unknown[] } {
  if (answer instanceof Uint8Array) {
    const text = Buffer.from(answer).toString();
    if (text.startsWith("{")) tenants.push((JSON.parse(text) as Row).tenant);
  } else if (Array.isArray(answer)) for (const each of answer) told(each, ids, tenants);
  else if (typeof answer === "object" && answer !== null) {
    const { $case, value } = answer as { $case?: string; value?: unknown };
    if ($case === "num") ids.push(Number(value));
    for (const each of Object.values(answer)) told(each, ids, tenants);
  }
  return { ids, tenants };
}

/** Some call of any kind, with anything in it. */
class Calls {
  readonly #random: SeededRandom;

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
  }

  pick<T>(...of: readonly T[]): T {
    return of[Math.floor(this.#random.float() * of.length)] as T;
  }

  num(): number {
    return 1 + Math.floor(this.#random.float() * (rowCount + 6));
  }

  ids(): pb.PointId[] {
    const nums = new Set(Array.from({ length: 1 + Math.floor(this.#random.float() * 4) }, () => this.num()));
    return Array.from(nums, idOf);
  }

  vector(): Float32Array {
    return Float32Array.of(this.num() % 7, this.num() % 5);
  }

  filter(): pb.Filter | undefined {
    const conditions = [keyword("tenant", this.pick("a", "b")), keyword("x", "y")];
    return this.pick<pb.Filter | undefined>(
      undefined,
      pb.Filter.fromPartial({}),
      pb.Filter.fromPartial({ must: [this.pick(...conditions)] }),
      pb.Filter.fromPartial({ mustNot: [this.pick(...conditions)] }),
      pb.Filter.fromPartial({ should: conditions }),
      pb.Filter.fromPartial({ should: [{ condition: { $case: "hasId", value: { ids: this.ids() } } }] }),
    );
  }

  payload(): Uint8Array {
    const tenant = this.pick("a", "a", "a", "b");
    return Buffer.from(JSON.stringify(this.pick<object>({ tenant, n: 1 }, { tenant }, { n: 2 }, {})));
  }

  select(): pb.Select | undefined {
    return this.pick(undefined, pb.Select.fromPartial({ payload: true }), pb.Select.fromPartial({ allVectors: true }));
  }

  target(): pb.WriteTarget {
    const filter = this.filter() ?? pb.Filter.fromPartial({});
    const chosen = this.pick<pb.WriteTarget["points"]>(
      { $case: "ids", value: { ids: this.ids() } },
      { $case: "filter", value: filter },
    );
    return { points: chosen, expectedVersions: [], onlyIf: this.pick(undefined, this.filter()) };
  }

  query(): pb.QueryRequest {
    const example = this.pick<pb.Example>(
      { example: { $case: "point", value: idOf(this.num()) } },
      { example: { $case: "vector", value: { values: this.vector(), indices: [] } } },
    );
    const prefetch = [
      pb.Prefetch.fromPartial({
        query: { query: { $case: "nearest", value: { example } } },
        limit: 20,
        filter: this.filter(),
      }),
      pb.Prefetch.fromPartial({ query: { query: { $case: "sample", value: {} } }, limit: 20 }),
    ];
    const common = { collection: "rows", limit: 20, filter: this.filter(), select: this.select() };
    const formula = { expression: { expression: { $case: "variable", value: "$score" } } } as const;
    const kinds: (() => pb.QueryRequest)[] = [
      () => pb.QueryRequest.fromPartial({ ...common, vector: this.vector(), exact: this.pick(true, false) }),
      () => pb.QueryRequest.fromPartial({ ...common, vector: this.vector(), exactScores: true }),
      () => pb.QueryRequest.fromPartial({ ...common, point: idOf(this.num()) }),
      () =>
        pb.QueryRequest.fromPartial({
          ...common,
          prefetch,
          query: { query: { $case: "fusion", value: { method: { $case: "reciprocalRank", value: {} } } } },
        }),
      () =>
        pb.QueryRequest.fromPartial({ ...common, prefetch, query: { query: { $case: "formula", value: formula } } }),
      () =>
        pb.QueryRequest.fromPartial({
          ...common,
          prefetch,
          query: { query: { $case: "nearest", value: { example, mmr: {} } } },
        }),
      () =>
        pb.QueryRequest.fromPartial({
          ...common,
          query: { query: { $case: "recommend", value: { positive: [example], strategy: this.pick(1, 2, 3) } } },
        }),
      () =>
        pb.QueryRequest.fromPartial({
          ...common,
          query: {
            query: {
              $case: "discover",
              value: { target: example, context: [{ positive: example, negative: example }] },
            },
          },
        }),
      () =>
        pb.QueryRequest.fromPartial({
          ...common,
          query: { query: { $case: "context", value: { context: [{ positive: example, negative: example }] } } },
        }),
      () => pb.QueryRequest.fromPartial({ ...common, query: { query: { $case: "orderBy", value: { key: "n" } } } }),
      () => pb.QueryRequest.fromPartial({ ...common, query: { query: { $case: "sample", value: {} } } }),
      () =>
        pb.QueryRequest.fromPartial({
          ...common,
          offset: 2,
          vector: this.vector(),
          lookup: this.pick(undefined, { collection: "rows" }),
        }),
      () => pb.QueryRequest.fromPartial({ ...common, prefetch }),
    ];
    return this.pick(...kinds)();
  }

  read(): Promise<unknown> {
    const collection = "rows";
    const filter = this.filter();
    const select = this.select();
    const inner = { ...this.query(), limit: 0, offset: 0, exactScores: false };
    const grouped = { groupBy: this.pick("n", "tenant"), limit: 5, groupSize: 5, withLookup: { collection, select } };
    const reads: (() => Promise<unknown>)[] = [
      () => callAs(tenantKey, points.get, pb.GetPointsRequest.fromPartial({ collection, ids: this.ids(), select })),
      () => callAs(tenantKey, points.scroll, pb.ScrollRequest.fromPartial({ collection, filter, select, limit: 7 })),
      () =>
        callAs(
          tenantKey,
          points.scroll,
          pb.ScrollRequest.fromPartial({ collection, filter, select, orderBy: { key: "n" } }),
        ),
      () => callAs(tenantKey, points.query, this.query()),
      () => callAs(tenantKey, points.query, this.query()),
      () => callAs(tenantKey, points.query, this.query()),
      () => callAs(tenantKey, points.queryBatch, { queries: [this.query(), this.query()] }),
      () => callAs(tenantKey, points.queryGroups, { ...pb.QueryGroupsRequest.fromPartial(grouped), query: inner }),
      () =>
        callAs(
          tenantKey,
          points.searchMatrix,
          pb.SearchMatrixRequest.fromPartial({ collection, filter, sample: 20, limit: 5 }),
        ),
    ];
    return this.pick(...reads)();
  }

  write(): Promise<unknown> {
    const collection = "rows";
    const target = this.target();
    const payload = this.payload();
    const written = this.ids().map((id) =>
      pb.Point.fromPartial({ id, vectors: { "": { values: this.vector(), indices: [] } }, payload }),
    );
    const onlyIf = this.pick(undefined, undefined, this.filter());
    const mode = this.pick(0, 0, 1, 2);
    const upsert = pb.UpsertRequest.fromPartial({ collection, points: written, mode, onlyIf });
    const remove = pb.DeletePointsRequest.fromPartial(
      target.points?.$case === "filter"
        ? { collection, filter: target.points.value }
        : { collection, ids: this.ids(), onlyIf },
    );
    const setPayload = {
      ...pb.SetPayloadRequest.fromPartial({ collection, payload, path: this.pick("", "", "n.m") }),
      target,
    };
    const overwrite = { ...pb.OverwritePayloadRequest.fromPartial({ collection, payload }), target };
    const deletePayload = {
      ...pb.DeletePayloadRequest.fromPartial({ collection, paths: [this.pick("n", "tenant", "x")] }),
      target,
    };
    const operations = [
      { operation: { $case: "upsert", value: { ...upsert, collection: "" } } },
      { operation: { $case: "setPayload", value: { ...setPayload, collection: "" } } },
      { operation: { $case: "delete", value: { ...remove, collection: "" } } },
    ] as pb.WriteOperation[];
    const writes: (() => Promise<unknown>)[] = [
      () => callAs(tenantKey, points.upsert, upsert),
      () => callAs(tenantKey, points.upsert, upsert),
      () =>
        callAs(tenantKey, points.upsertColumns, {
          ...pb.UpsertColumnsRequest.fromPartial({ collection, payloads: [payload], mode }),
          idColumn: { $case: "ids", value: { ids: [idOf(this.num())] } },
          vectors: [{ name: "", matrix: Buffer.from(this.vector().buffer), rows: [] }],
        }),
      () => callAs(tenantKey, points.delete, remove),
      () => callAs(tenantKey, points.setPayload, setPayload),
      () => callAs(tenantKey, points.overwritePayload, overwrite),
      () => callAs(tenantKey, points.deletePayload, deletePayload),
      () => callAs(tenantKey, points.clearPayload, { ...pb.ClearPayloadRequest.fromPartial({ collection }), target }),
      () =>
        callAs(tenantKey, points.updateVectors, {
          ...pb.UpdateVectorsRequest.fromPartial({ collection, onlyIf }),
          points: this.ids().map((id) =>
            pb.PointVectors.fromPartial({ id, vectors: { "": { values: this.vector(), indices: [] } } }),
          ),
        }),
      () =>
        callAs(tenantKey, points.deleteVectors, {
          ...pb.DeleteVectorsRequest.fromPartial({ collection, vectors: [""] }),
          target,
        }),
      () =>
        callAs(tenantKey, points.setExpiry, {
          ...pb.SetExpiryRequest.fromPartial({ collection, expiresAtMs: this.pick(0, 4e12) }),
          target,
        }),
      () => callAs(tenantKey, points.writeBatch, pb.WriteBatchRequest.fromPartial({ collection, operations })),
      () => callAs(tenantKey, points.truncate, pb.TruncateRequest.fromPartial({ collection })),
    ];
    return this.pick(...writes)();
  }
}

/** What calls with anything in them may be refused for. */
const expectedCodes = [
  ...[
    "PERMISSION_DENIED",
    "POINT_NOT_FOUND",
    "INVALID_ARGUMENT",
    "UNKNOWN_VECTOR",
    "INVALID_PAYLOAD",
    "INVALID_FILTER",
  ],
  ...["DUPLICATE_ID", "LIMIT_OUT_OF_RANGE"],
];

test.each([1, 2, 3])(
  "no call of a restricted caller tells of a point outside its rule, or changes one (seed %i)",
  async (seed) => {
    const calls = new Calls(seed);
    const before = hiddenOf(await allRows());
    let answered = 0;
    for (let i = 0; i < 60; i++) {
      const isWrite = i % 3 === 0;
      let answer: unknown;
      try {
        answer = await (isWrite ? calls.write() : calls.read());
        answered++;
      } catch (error) {
        const { code, message } = toKithError(error);
        expect(expectedCodes, `${code}: ${message}`).toContain(code);
      }
      const { ids, tenants } = told(answer);
      const now = await allRows();
      expect(hiddenOf(now)).toEqual(before);
      if (!isWrite) {
        expect(ids.filter((id) => now.get(id)?.tenant !== "a")).toEqual([]);
        expect(new Set([...tenants, "a"])).toEqual(new Set(["a"]));
      }
      if (i % 20 === 19) await fill();
      if (i % 20 === 19) before.splice(0, Infinity, ...hiddenOf(await allRows()));
    }
    expect(answered).toBeGreaterThan(30);
  },
);

test("counts, facets and what else is told of all points is told of the caller's alone", async () => {
  const count = (filter?: pb.Filter, approximate = false): Promise<pb.CountResponse> =>
    callAs(tenantKey, points.count, { ...pb.CountRequest.fromPartial({ collection: "rows", approximate }), filter });
  expect((await count()).count).toBe(rowCount / 2);
  expect((await count(undefined, true)).count).toBe(rowCount / 2);
  expect((await count(pb.Filter.fromPartial({ must: [keyword("tenant", "b")] }))).count).toBe(0);
  const facet = await callAs(
    tenantKey,
    points.facet,
    pb.FacetRequest.fromPartial({ collection: "rows", key: "tenant" }),
  );
  expect(facet.hits).toEqual([{ value: { $case: "text", value: "a" }, count: rowCount / 2 }]);
  const query = pb.QueryRequest.fromPartial({ collection: "rows", vector: Float32Array.of(1, 1) });
  const told = [
    () => callAs(tenantKey, points.query, { ...query, explain: true }),
    () => callAs(tenantKey, points.query, { ...query, trace: true }),
    () => callAs(tenantKey, points.facet, pb.FacetRequest.fromPartial({ collection: "rows", key: "n", explain: true })),
    () => callAs(tenantKey, points.count, pb.CountRequest.fromPartial({ collection: "rows", explain: true })),
    () => callAs(tenantKey, points.scroll, pb.ScrollRequest.fromPartial({ collection: "rows", explain: true })),
    () => callAs(tenantKey, collections.stats, { name: "rows" }),
    () => callAs(tenantKey, collections.listPayloadIndexes, { collection: "rows" }),
    () => callAs(tenantKey, collections.waitIndexed, { name: "rows", token: undefined }),
    () => callAs(tenantKey, points.truncate, pb.TruncateRequest.fromPartial({ collection: "rows" })),
  ];
  for (const call of told) expect((await failureOf(call())).code).toBe("PERMISSION_DENIED");
});

test("a point outside the rule is missed like one that does not exist", async () => {
  const [hidden, missing] = [2, 1_000];
  const both = async (call: (num: number) => Promise<unknown>): Promise<void> => {
    const answers = [hidden, missing].map(async (num) => {
      const answer: unknown = await call(num).catch((error: unknown) => {
        const { code, message } = toKithError(error);
        // The caller's own words, which it has asked with.
        return { code, message: message.replace(String(num), "ID") };
      });
      return JSON.parse(
        JSON.stringify(answer, (key, value: unknown) => (key === "token" ? undefined : value)),
      ) as unknown;
    });
    const [first, second] = await Promise.all(answers);
    expect(first).toEqual(second);
  };
  const collection = "rows";
  const target = (num: number): pb.WriteTarget => {
    return { points: { $case: "ids", value: { ids: [idOf(num)] } }, expectedVersions: [], onlyIf: undefined };
  };
  const payload = Buffer.from('{"n":1}');
  await both((num) => callAs(tenantKey, points.get, pb.GetPointsRequest.fromPartial({ collection, ids: [idOf(num)] })));
  await both((num) => callAs(tenantKey, points.query, pb.QueryRequest.fromPartial({ collection, point: idOf(num) })));
  await both((num) =>
    callAs(tenantKey, points.delete, pb.DeletePointsRequest.fromPartial({ collection, ids: [idOf(num)] })),
  );
  await both((num) =>
    callAs(
      tenantKey,
      points.delete,
      pb.DeletePointsRequest.fromPartial({ collection, ids: [idOf(num)], expectedVersions: [1] }),
    ),
  );
  await both((num) =>
    callAs(tenantKey, points.setPayload, {
      ...pb.SetPayloadRequest.fromPartial({ collection, payload }),
      target: target(num),
    }),
  );
  await both((num) =>
    callAs(tenantKey, points.clearPayload, {
      ...pb.ClearPayloadRequest.fromPartial({ collection }),
      target: target(num),
    }),
  );
  await both((num) => {
    const point = pb.Point.fromPartial({
      id: idOf(num),
      vectors: { "": { values: Float32Array.of(1, 1), indices: [] } },
      payload: Buffer.from('{"tenant":"a"}'),
    });
    return callAs(tenantKey, points.upsert, pb.UpsertRequest.fromPartial({ collection, points: [point], mode: 2 }));
  });
});

test("a watch tells of what joins and leaves the rule as of insertions and deletions, and of nothing beyond it", async () => {
  const changes: pb.Change[] = [];
  let isOpen = false;
  const watch = pb.WatchRequest.fromPartial({ collection: "rows" });
  const onMessage = (answer: pb.WatchResponse): void => {
    isOpen = true;
    changes.push(...answer.changes);
  };
  const metadata = { "api-key": tenantKey };
  const stream = openAnswers(
    channel,
    pb.ChangesService.watch,
    watch,
    { onMessage, onEnd: () => undefined },
    { metadata },
  );
  await eventually(() => isOpen);
  const rows = admin.collection<Row>("rows");
  await rows.upsert({ id: 2, vector: [0, 0], payload: { tenant: "b", n: 9 } });
  await rows.upsert({ id: 2, vector: [0, 0], payload: { tenant: "a", n: 9 } });
  await rows.setPayload([1], { tenant: "b" });
  await rows.delete([4]);
  await rows.upsert({ id: 3, vector: [0, 0], payload: { tenant: "a", n: 8 } });
  await eventually(() => changes.some(({ id }) => id?.id?.value === 3n));
  stream.cancel();
  const seen = changes.map(({ kind, id, before, after }) => [
    kind,
    Number(id?.id?.value),
    before,
    after?.payload.toString(),
  ]);
  expect(seen.map(([kind, id, before]) => [kind, id, before]).sort()).toEqual(
    [
      [pb.ChangeKind.INSERT, 2, undefined],
      [pb.ChangeKind.DELETE, 1, undefined],
      [pb.ChangeKind.UPDATE, 3, undefined],
    ].sort(),
  );
});

test("points that come and go from under a rule are not seen while they are outside, and never overwritten", async () => {
  const rows = admin.collection<Row & { mark?: string }>("rows");
  let isOver = false;
  const flipping = (async () => {
    for (let i = 0; !isOver; i++) {
      const tenant = i % 2 === 0 ? "b" : "a";
      await rows.upsert(
        [1, 3, 5].map((id) => ({
          id,
          vector: [1, 1],
          payload: { tenant, n: 1, ...(tenant === "b" && { mark: "b" }) },
        })),
      );
    }
  })();
  const select = pb.Select.fromPartial({ payload: true });
  const calls = new Calls(7);
  for (let i = 0; i < 40; i++) {
    const read = await callAs(tenantKey, points.query, { ...calls.query(), select }).catch(() => undefined);
    const got = await callAs(
      tenantKey,
      points.get,
      pb.GetPointsRequest.fromPartial({ collection: "rows", ids: [1, 3, 5].map(idOf), select }),
    );
    expect(new Set([...told([read, got]).tenants, "a"])).toEqual(new Set(["a"]));
    await callAs(tenantKey, points.setPayload, {
      ...pb.SetPayloadRequest.fromPartial({ collection: "rows", payload: Buffer.from('{"mark":"a"}') }),
      target: {
        points: { $case: "ids", value: { ids: [1, 3, 5].map(idOf) } },
        expectedVersions: [],
        onlyIf: undefined,
      },
    });
    const { points: all } = await callAs(
      adminKey,
      points.get,
      pb.GetPointsRequest.fromPartial({ collection: "rows", ids: [1, 3, 5].map(idOf), select }),
    );
    for (const { payload } of all) {
      const { tenant, mark } = JSON.parse(Buffer.from(payload).toString()) as { tenant: string; mark?: string };
      if (tenant === "b") expect(mark).toBe("b");
    }
  }
  isOver = true;
  await flipping;
});
