/** Fields, labels, payload keys and placeholders named like what every JavaScript object has: they are names as any other. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connect, highlightOf, type KithClient } from "../../libs/client/index.js";
import { pb } from "../../libs/wire/index.js";
import { useCluster } from "../cluster/cluster.js";
import { startInProcess } from "../cluster/in-process.js";
import { rawCalls } from "../cluster/raw.js";
import { type Reply, TestServer } from "../cluster/rest-server.js";

const names = ["constructor", "__proto__", "toString", "hasOwnProperty", "valueOf", "plain"];
const byName = <T>(value: (name: string, i: number) => T): Record<string, T> =>
  Object.fromEntries(names.map((name, i) => [name, value(name, i)]));

const cluster = useCluster(() => startInProcess());

test("collections, points and queries keep every name, also after a restart", { timeout: 60_000 }, async () => {
  const client = await cluster().connect();
  const collection = client.collection("names");
  const labels = byName((name) => `label ${name}`);
  await collection.create({ vectors: byName(() => ({ dimension: 1, metric: "l2" as const })), labels });
  expect(Object.entries((await collection.info()).labels).sort()).toEqual(Object.entries(labels).sort());

  await collection.update({ labels: { __proto__: "", constructor: "", added: "yes" } });
  await collection.update({ labels: Object.fromEntries([["__proto__", "again"]]), efSearch: { toString: 77 } });
  const { labels: updated, vectors } = await collection.info();
  expect(Object.entries(updated)).toContainEqual(["__proto__", "again"]);
  expect(Object.hasOwn(updated, "constructor")).toBe(false);
  expect(vectors.map(({ name, efSearch }) => [name, efSearch])).toEqual(
    names.map((name) => [name, name === "toString" ? 77 : 64]),
  );
  expect(await client.collections.list()).toHaveLength(1);

  const payload = JSON.parse('{"__proto__":"p","constructor":{"__proto__":3},"price":2}') as Record<string, unknown>;
  // By columns, by rows (unlike shapes), and over a stream.
  await collection.upsert({ id: 1, vectors: byName((_, i) => [i]), payload });
  await collection.upsert([
    { id: 2, vectors: Object.fromEntries([["__proto__", [20]]]), payload },
    { id: 3, vectors: { constructor: [30] }, payload },
    { id: 4, vectors: { plain: [40] }, payload },
  ]);
  const many = await collection.upsertMany([
    { id: 5, vectors: { constructor: [50] } },
    { id: 6, vectors: { plain: [60] } },
    { id: 7, vectors: Object.fromEntries([["__proto__", [70]]]) },
  ]);
  expect(many).toMatchObject({ upserted: 3, failed: 0 });

  const entries = (vectors: Record<string, Float32Array> | undefined): [string, number][] =>
    Object.entries(vectors ?? {})
      .map(([name, vector]): [string, number] => [name, vector[0] as number])
      .sort();
  const check = async (): Promise<void> => {
    const found = await collection.get([1, 2, 3, 5, 7], { withVectors: true });
    expect(found.map((point) => entries(point.vectors))).toEqual([
      names.map((name, i) => [name, i]).sort(),
      [["__proto__", 20]],
      [["constructor", 30]],
      [["constructor", 50]],
      [["__proto__", 70]],
    ]);
    expect(JSON.stringify(found[0]?.payload)).toBe(JSON.stringify(payload));
    for (const using of names) {
      const { points } = await collection.query({ vector: [0], using, limit: 1, withVectors: [using] });
      expect(points.map(({ id, vectors }) => [id, entries(vectors)])).toEqual([[1, [[using, names.indexOf(using)]]]]);
    }
    expect(await collection.count({ filter: { must: [{ key: "constructor.__proto__", match: { value: 3 } }] } })).toBe(
      4,
    );
    expect(await collection.count({ filter: { must: [{ key: "toString", match: { value: 3 } }] } })).toBe(0);
    expect(await client.collections.list()).toHaveLength(1);
  };
  await check();
  const [node] = cluster().shardNodes;
  await cluster().stop(node as string);
  await cluster().start(node as string);
  await check();
});

test("orders, formulas, projections, lookups and changes of parts take every name", { timeout: 60_000 }, async () => {
  const client = await cluster().connect();
  const all = [...names, "__defineGetter__", "__lookupSetter__", "isPrototypeOf"];
  const byAll = <T>(value: (name: string, i: number) => T): Record<string, T> =>
    Object.fromEntries(all.map((name, i) => [name, value(name, i)]));
  const rows = client.collection("parts");
  await rows.create({ vectors: byAll(() => ({ dimension: 1, metric: "l2" as const })) });
  await rows.upsert(all.map((name, id) => ({ id, vectors: byAll(() => [id]), payload: { ...byAll(() => id), name } })));
  const lookup = client.collection("looked-up");
  await lookup.create({ vectors: { dimension: 1, metric: "l2" } });
  await lookup.upsert(all.map((name, i) => ({ id: name, vector: [i], payload: Object.fromEntries([[name, i]]) })));
  for (const [i, name] of all.entries()) {
    const [, ...others] = byOrder(all, i);
    const ordered: unknown[] = [];
    for await (const { id } of rows.scroll({ orderBy: { key: name, direction: "desc" } })) ordered.push(id);
    expect(ordered).toEqual(all.map((_, id) => all.length - 1 - id));
    const prefetch = [{ query: { nearest: [0] }, using: name, limit: 50 }];
    const formula = { sum: [name, `${name}.none`] };
    const defaults = Object.fromEntries([[`${name}.none`, 100]]);
    const scored = await rows.query({ prefetch, query: { formula, defaults }, limit: 50 });
    expect(scored.points[0]).toMatchObject({ id: all.length - 1, score: 100 + all.length - 1 });
    const included = await rows.get([i], { withPayload: { include: [name] } });
    expect(JSON.stringify(included.map(({ payload }) => payload))).toBe(
      JSON.stringify([Object.fromEntries([[name, i]])]),
    );
    await rows.deletePayload([i], [name]);
    await rows.deleteVectors([i], [name]);
    const [left] = await rows.get([i], { withVectors: true });
    expect(Object.keys(left?.vectors ?? {}).sort()).toEqual(others.sort());
    expect(Object.keys(left?.payload ?? {}).sort()).toEqual([...others, "name"].sort());
    await rows.setPayload([i], Object.fromEntries([[name, "again"]]));
    expect(await rows.count({ filter: { must: [{ key: name, match: { value: "again" } }] } })).toBe(1);
  }
  const grouped = await rows.queryGroups({
    ...{ prefetch: [], vector: [0], using: "plain", groupBy: "name", limit: 20 },
    withLookup: { collection: "looked-up" },
  });
  const found = grouped.groups.map(({ value, lookup: point }) => [value, point?.id, Object.keys(point?.payload ?? {})]);
  expect(found.sort()).toEqual(
    all
      .filter((name) => name !== "plain")
      .map((name) => [name, name, [name]])
      .sort(),
  );
});

/** All names, that of the place first. */
const byOrder = (all: readonly string[], at: number): string[] => [
  all[at] as string,
  ...all.filter((_, i) => i !== at),
];

test("the API refuses a field that is not there, whatever it is called", async () => {
  const client = await cluster().connect();
  await client.collection("unnamed").create({ vectors: { dimension: 1, metric: "l2" } });
  const raw = rawCalls(cluster().target);
  try {
    for (const name of names) {
      const vectors = Object.fromEntries([
        ["", { values: Float32Array.of(1), indices: [] }],
        [name, { values: Float32Array.of(1), indices: [] }],
      ]);
      const point = {
        id: { id: { $case: "num" as const, value: 1n } },
        vectors,
        payload: Buffer.alloc(0),
        version: 0,
        expiresAtMs: 0,
      };
      const conditions = { expectedVersions: [], expiresAtMs: [], onlyIf: undefined };
      const upsert = raw.upsert({ collection: "unnamed", points: [point], mode: 0, options: undefined, ...conditions });
      await expect(upsert).rejects.toMatchObject({ code: "UNKNOWN_VECTOR" });
      const update = client.collection("unnamed").update({ efSearch: Object.fromEntries([[name, 100]]) });
      await expect(update).rejects.toMatchObject({ code: "UNKNOWN_VECTOR" });
    }
  } finally {
    raw.close();
  }
});

test("generated code keeps every key of a map", () => {
  const labels = byName((name) => name);
  const bytes = pb.CreateCollectionRequest.encode(pb.CreateCollectionRequest.fromPartial({ labels })).finish();
  expect(Object.entries(pb.CreateCollectionRequest.decode(bytes).labels)).toEqual(Object.entries(labels));
  const defaults = byName((_, value) => ({ value: { $case: "number" as const, value } }));
  const formula = pb.Formula.decode(pb.Formula.encode(pb.Formula.fromPartial({ defaults })).finish());
  expect(Object.keys(formula.defaults)).toEqual(names);
  expect(pb.UpdateCollectionRequest.fromPartial({}).efSearch["constructor"]).toBeUndefined();
});

describe("over HTTP, with keys", () => {
  const adminKey = "an-administrator-of-this-test-alone";
  let server: TestServer;
  let client: KithClient;
  beforeAll(async () => {
    server = await TestServer.start({}, { qdrant: { httpPort: 0 }, auth: { adminKey } });
    client = await connect(server.node.address, { apiKey: adminKey });
  });
  afterAll(async () => {
    client.close();
    await server.close();
  });

  const call = (method: string, path: string, body?: object, key = adminKey): Promise<Reply> =>
    server.call(method, path, body, { authorization: `Bearer ${key}` });
  /** The status and, of what was refused, the code. */
  const told = ({ status, json }: Reply): [number, unknown?] => (status < 400 ? [status] : [status, json["code"]]);
  /** A call of Qdrant's API: the status, and the result. */
  const qdrant = async (method: string, path: string, body?: object): Promise<[number, unknown]> => {
    const response = await fetch(`http://${server.node.qdrantAddress}${path}`, {
      ...{ method, body: body === undefined ? null : JSON.stringify(body) },
      headers: { "api-key": adminKey, "content-type": "application/json" },
    });
    const text = await response.text();
    return [response.status, response.ok ? (JSON.parse(text) as { result: unknown }).result : text];
  };
  const listed = async (path: string, of: string): Promise<unknown[]> =>
    ((await call("GET", path)).json[of] as { name: unknown }[]).map(({ name }) => name);

  test("roles and keys are those of their names, and allow what they say", { timeout: 30_000 }, async () => {
    expect(told(await call("PUT", "/v1/roles/__proto__", { role: { rules: [] } }))).toEqual([400, "INVALID_NAME"]);
    expect(told(await call("GET", "/v1/collections/__proto__"))).toEqual([400, "INVALID_NAME"]);
    expect(told(await call("POST", "/v1/keys", { name: "__proto__", role: "reader" }))).toEqual([201]);
    const others = names.filter((name) => name !== "__proto__");
    const secrets: [string, string, string][] = [];
    for (const name of others) {
      expect(told(await call("POST", "/v1/keys", { name, role: name }))).toEqual([404, "NOT_FOUND"]);
      const rules = [{ verbs: ["describe", "read"], collections: [name] }];
      expect(told(await call("PUT", `/v1/roles/${name}`, { role: { rules } }))).toEqual([200]);
      const spec = { name, vectors: [{ dimension: 1, metric: "l2" }] };
      expect(told(await call("POST", "/v1/collections", spec))).toEqual([201]);
      const made = await call("POST", "/v1/keys", { name, role: name, collections: [name] });
      expect(told(made)).toEqual([201]);
      const { key, secret } = made.json as { key: { id: string }; secret: string };
      secrets.push([name, key.id, secret]);
    }
    expect(await listed("/v1/roles", "roles")).toEqual(expect.arrayContaining(others));
    expect((await listed("/v1/keys", "keys")).sort()).toEqual([...names].sort());
    const vector = { points: [{ id: 1, vector: [1] }] };
    for (const [name, id, secret] of secrets) {
      await expect
        .poll(async () => told(await call("GET", `/v1/collections/${name}`, undefined, secret)))
        .toEqual([200]);
      const seen = (await call("GET", "/v1/collections", undefined, secret)).json["collections"] as { name: string }[];
      expect(seen.map((each) => each.name)).toEqual([name]);
      const refused = await call("POST", `/v1/collections/${name}/points`, vector, secret);
      expect(told(refused)).toEqual([403, "PERMISSION_DENIED"]);
      expect(told(await call("DELETE", `/v1/roles/${name}`))).toEqual([412, "FAILED_PRECONDITION"]);
      expect(told(await call("DELETE", `/v1/keys/${id}`))).toEqual([200]);
      expect(told(await call("DELETE", `/v1/roles/${name}`))).toEqual([200]);
      expect(told(await call("DELETE", `/v1/collections/${name}`))).toEqual([200]);
    }
  });

  test("texts are found in fields of these names, and in no others", async () => {
    const fields = names.map((path) => ({ path }));
    const labels = byName((name) => `label ${name}`);
    const vectors = [{ dimension: 1, metric: "l2" }];
    expect(told(await call("POST", "/v1/collections", { name: "texts", vectors, labels }))).toEqual([201]);
    const indexes = "/v1/collections/texts/indexes";
    const refused = async (analyzer: object): Promise<unknown> =>
      told(await call("POST", indexes, { index: { path: "toString", kind: "bm25", bm25: { analyzer } } }));
    for (const name of names) {
      expect(await refused(Object.fromEntries([[name, true]]))).toEqual([400, "INVALID_ARGUMENT"]);
      expect(await refused({ tokenizer: name })).toEqual([400, "INVALID_ARGUMENT"]);
      expect(await refused({ language: name })).toEqual([400, "INVALID_SCHEMA"]);
      const analyzer = { tokenizer: name as "word" };
      const bySdk = client.collection("texts").createPayloadIndex("toString", "bm25", { bm25: { analyzer } });
      await expect(bySdk).rejects.toMatchObject({ code: "INVALID_SCHEMA" });
    }
    const index = { path: "toString", kind: "bm25", bm25: { fields, analyzer: { language: "english" } } };
    expect(told(await call("POST", indexes, { index, wait: true }))).toEqual([200]);
    const [kept] = (await call("GET", indexes)).json["indexes"] as {
      index: { bm25: { fields: { path: string }[] } };
    }[];
    expect(kept?.index.bm25.fields.map(({ path }) => path)).toEqual(names);
    const changed = await call("PATCH", "/v1/collections/texts", { labels: { plain: "" }, efSearch: { "": 99 } });
    const { labels: left } = (changed.json as { collection: { labels: object } }).collection;
    expect(Object.entries(left).sort()).toEqual(
      Object.entries(labels)
        .filter(([name]) => name !== "plain")
        .sort(),
    );

    const points = names.map((name, id) => ({
      id,
      vector: [id],
      payload: Object.fromEntries([[name, `Lighthouse${id}`]]),
    }));
    points.push({ id: 99, vector: [99], payload: {} });
    expect((await call("POST", "/v1/collections/texts/points", { points })).json).toMatchObject({ upserted: 7 });
    const texts = client.collection("texts");
    const find = async (text: string): Promise<unknown[]> =>
      (await texts.query({ query: { text }, using: "toString", limit: 10 })).points.map(({ id }) => id);
    for (const id of names.keys()) expect(await find(`lighthouse${id}`)).toEqual([id]);
    expect(await find("function OR native OR code OR object")).toEqual([]);
    const [spec = { path: "none" }] = (await texts.info()).payloadIndexes;
    const payload = JSON.parse('{"__proto__":"Lighthouse1"}') as { [key: string]: string };
    expect(Object.keys(highlightOf(payload, "lighthouse1", spec))).toEqual(["__proto__"]);
  });

  test("partition keys and their values, facets and groups are what payloads have", { timeout: 30_000 }, async () => {
    for (const key of ["__proto__", "constructor", "toString"]) {
      const name = `by-${names.indexOf(key)}`;
      const path = `/v1/collections/${name}`;
      const spec = { name, vectors: [{ dimension: 1, metric: "l2" }], shardCount: 2, partitionKey: key };
      expect(told(await call("POST", "/v1/collections", spec))).toEqual([201]);
      const payloadOf = (value: string): object => Object.fromEntries([[key, value]]);
      const points = names.map((value, i) => ({ id: 1, vector: [i], payload: payloadOf(value) }));
      expect((await call("POST", `${path}/points`, { points })).json).toMatchObject({ upserted: names.length });
      const without = await call("POST", `${path}/points`, { points: [{ id: 1, vector: [1], payload: {} }] });
      expect(JSON.stringify([told(without), without.json])).toContain("PARTITION_KEY_MISSING");
      for (const [i, value] of names.entries()) {
        const point = await call("GET", `${path}/points/1?partition=${value}&vectors=true`);
        expect(JSON.stringify([point.json["payload"], point.json["vector"]])).toBe(
          JSON.stringify([payloadOf(value), [i]]),
        );
      }
      const rows = client.collection(name);
      const { hits } = await rows.facet(key);
      expect(hits.map(({ value, count }) => [value, count]).sort()).toEqual(names.map((value) => [value, 1]).sort());
      const { groups } = await rows.queryGroups({ vector: [0], groupBy: key, limit: 10 });
      expect(groups.map(({ value, points: [best] }) => [value, best?.score])).toEqual(
        names.map((value, i) => [value, i]),
      );
      expect(told(await call("DELETE", `${path}/points/1?partition=${key}`))).toEqual([200]);
      expect(await rows.count()).toBe(names.length - 1);
    }
  });

  test("Qdrant's API keeps every name, and harms no other collection", async () => {
    const path = "/collections/qdrant-names";
    const vectors = byName((_, i) => ({ size: 1, distance: "Euclid", hnsw_config: { m: 10 + i } }));
    expect(await qdrant("PUT", path, { vectors, metadata: { plain: 1 } })).toEqual([200, true]);
    expect(await qdrant("PATCH", path, { metadata: byName((_, i) => i) })).toEqual([200, true]);
    const changes = byName((_, i) => ({ hnsw_config: { m: 20 + i } }));
    expect(await qdrant("PATCH", path, { vectors: changes })).toEqual([200, true]);
    for (const name of names) {
      const schema = { field_name: name, field_schema: { type: "keyword", on_disk: true } };
      expect(await qdrant("PUT", `${path}/index?wait=true`, schema)).toMatchObject([200, { status: "completed" }]);
    }
    const [status, info] = await qdrant("GET", path);
    expect(status).toBe(200);
    const { config, payload_schema: schema } = info as {
      config: { params: { vectors: Record<string, { hnsw_config: { m: number } }> }; metadata: Record<string, number> };
      payload_schema: Record<string, { params?: object }>;
    };
    const sorted = (object: object): [string, unknown][] => Object.entries(object).sort();
    expect(Object.entries(config.params.vectors).map(([name, params]) => [name, params.hnsw_config.m])).toEqual(
      names.map((name, i) => [name, 20 + i]),
    );
    expect(sorted(config.metadata)).toEqual(sorted(byName((_, i) => i)));
    expect(
      Object.entries(schema)
        .map(([name, { params }]) => [name, params])
        .sort(),
    ).toEqual([...names].sort().map((name) => [name, { type: "keyword", on_disk: true }]));
    expect(told(await call("GET", "/v1/collections"))).toEqual([200]);
    const efs = (await client.collection("qdrant-names").info()).vectors.map(({ name, efSearch }) => [name, efSearch]);
    expect(efs).toEqual(names.map((name) => [name, 64]));

    const payload = byName((name) => name);
    const points = [
      { id: 1, vector: byName((_, i) => [i]), payload },
      { id: 2, vector: { plain: [99] }, payload: {} },
    ];
    expect((await qdrant("PUT", `${path}/points?wait=true`, { points }))[0]).toBe(200);
    const columns = { ids: [3], vectors: byName((_, i) => [[10 + i]]), payloads: [payload] };
    expect((await qdrant("PUT", `${path}/points?wait=true`, { batch: columns }))[0]).toBe(200);
    for (const [i, using] of names.entries()) {
      const filter = { must: [{ key: using, match: { value: using } }] };
      const asked = { query: [10 + i], using, filter, limit: 1, with_vector: [using], with_payload: [using] };
      const [, found] = await qdrant("POST", `${path}/points/query`, asked);
      const [best] = (found as { points: { id: number; vector: object; payload: object }[] }).points;
      expect([best?.id, JSON.stringify(best?.vector), JSON.stringify(best?.payload)]).toEqual([
        3,
        JSON.stringify(Object.fromEntries([[using, [10 + i]]])),
        JSON.stringify(Object.fromEntries([[using, using]])),
      ]);
      const unknown = await qdrant("POST", `${path}/points/count`, { filter: Object.fromEntries([[using, []]]) });
      expect(unknown).toEqual([400, expect.stringContaining("INVALID_FILTER")]);
      expect(await qdrant("DELETE", `${path}/index/${using}?wait=true`)).toMatchObject([200, { status: "completed" }]);
    }
    const [, bare] = await qdrant("GET", path);
    expect((bare as { payload_schema: object }).payload_schema).toEqual({});
  });
});
