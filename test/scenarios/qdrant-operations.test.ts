/** What operators ask Qdrant's API for: snapshots from wherever they were, aliases in batches, each limit of strict mode, and what a server says of itself. */
import { QdrantClient } from "@qdrant/js-client-rest";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import { connect, type KithClient } from "../../libs/client/index.js";
import { TestServer } from "../cluster/rest-server.js";

let server: TestServer;
let client: QdrantClient;
let kith: KithClient;
let url: string;
beforeAll(async () => {
  server = await TestServer.start({}, { qdrant: { httpPort: 0 } });
  url = `http://${server.node.qdrantAddress}`;
  client = new QdrantClient({ url });
  kith = await connect(server.node.address);
});
afterAll(async () => {
  kith.close();
  await server.close();
});

const vectors = { size: 2, distance: "Dot" } as const;

/** The status that a call ends with, and Kith's code. */
async function refusal(call: Promise<unknown>): Promise<{ status: number; code: string }> {
  try {
    await call;
  } catch (thrown) {
    const { status, data } = thrown as { status: number; data: { status: { code: string } } };
    return { status, code: data.status.code };
  }
  throw new Error("the call succeeded");
}

interface Answer {
  status: number;
  body: { result: unknown };
}
async function call(method: string, path: string, body?: object): Promise<Answer> {
  const response = await fetch(url + path, { method, body: body === undefined ? null : JSON.stringify(body) });
  return { status: response.status, body: (await response.json()) as { result: unknown } };
}

test("a snapshot is recovered by its name at the end of any location, into its collection or into none", async () => {
  const points = [
    { id: 1, vector: [1, 2], payload: { n: 1 } },
    { id: 2, vector: [3, 4], payload: { n: 2 } },
  ];
  await client.createCollection("kept", { vectors });
  await client.createPayloadIndex("kept", { field_name: "n", field_schema: "integer", wait: true });
  await client.upsert("kept", { wait: true, points });
  const [first, second] = [await client.createSnapshot("kept"), await client.createSnapshot("kept")];
  expect((await client.listSnapshots("kept")).map(({ name }) => name).sort()).toEqual(
    [first?.name, second?.name].sort(),
  );
  const told = await call("POST", "/collections/kept/snapshots?wait=false");
  expect(told).toMatchObject({ status: 202, body: { result: null, status: "accepted" } });

  for (const location of [
    `http://other:6333/collections/kept/snapshots/${first?.name}?a=b`,
    `file:///qdrant/snapshots/kept/${first?.name}`,
    first?.name ?? "",
  ]) {
    await client.delete("kept", { filter: {}, wait: true });
    expect(await client.recoverSnapshot("kept", { location, priority: "snapshot" })).toBe(true);
    expect((await client.scroll("kept", { with_vector: true })).points).toMatchObject(points);
    expect((await client.getCollection("kept")).payload_schema).toMatchObject({ n: { data_type: "integer" } });
  }
  const again = { location: second?.name ?? "", checksum: second?.checksum ?? "" };
  expect(again.checksum).toMatch(/^[0-9a-f]{64}$/);
  expect(again.checksum).not.toBe(first?.checksum);
  const other = { location: first?.name ?? "", checksum: again.checksum };
  expect(await refusal(client.recoverSnapshot("again", other))).toEqual({ status: 400, code: "INVALID_ARGUMENT" });
  expect((await refusal(client.recoverSnapshot("again", { ...other, checksum: "abc" }))).status).toBe(422);
  expect(await client.recoverSnapshot("again", again)).toBe(true);
  expect((await client.scroll("again", { with_vector: true })).points).toMatchObject(points);

  const missing = client.recoverSnapshot("kept", { location: "file:///snapshots/none" });
  expect((await refusal(missing)).status).toBe(404);
  expect((await client.count("kept")).count).toBe(2);
  expect(await call("POST", "/collections/kept/snapshots/upload?priority=snapshot")).toMatchObject({ status: 501 });
  expect(await call("GET", `/collections/kept/snapshots/${first?.name}`)).toMatchObject({ status: 501 });
  expect(await refusal(client.deleteSnapshot("kept", "none"))).toEqual({ status: 404, code: "NOT_FOUND" });
  expect(await client.deleteSnapshot("kept", first?.name ?? "")).toBe(true);
  expect((await client.listSnapshots("kept")).map(({ name }) => name)).not.toContain(first?.name);
});

test("a snapshot of the whole storage has all collections, of which each is recovered by its name", async () => {
  for (const { name } of (await client.getCollections()).collections) await client.deleteCollection(name);
  expect(await refusal(client.createFullSnapshot())).toEqual({ status: 400, code: "FAILED_PRECONDITION" });
  for (const [name, n] of [
    ["one", 1],
    ["two", 2],
  ] as const) {
    await client.createCollection(name, { vectors });
    await client.upsert(name, { wait: true, points: [{ id: n, vector: [n, n], payload: { n } }] });
  }
  const whole = await client.createFullSnapshot();
  expect(whole).toMatchObject({ name: expect.stringMatching(/^full-snapshot-[0-9-]{19}-[0-9a-f]{8}$/) as string });
  expect(await client.listFullSnapshots()).toEqual([whole]);
  expect(await client.listSnapshots("one")).toEqual([]);
  expect(await call("GET", `/snapshots/${whole?.name}`)).toMatchObject({ status: 501 });

  const location = `http://other:6333/snapshots/${whole?.name}`;
  const { checksum } = whole as { checksum: string };
  await client.delete("one", { points: [1], wait: true });
  await client.deleteCollection("two");
  const other = client.recoverSnapshot("one", { location, checksum: "0".repeat(64) });
  expect(await refusal(other)).toEqual({ status: 400, code: "INVALID_ARGUMENT" });
  for (const [name, n] of [
    ["one", 1],
    ["two", 2],
  ] as const) {
    expect(await client.recoverSnapshot(name, { location, checksum })).toBe(true);
    expect((await client.scroll(name)).points).toMatchObject([{ id: n, payload: { n } }]);
  }
  expect((await refusal(client.recoverSnapshot("three", { location }))).status).toBe(404);

  // What a group lacks, such as one that `kith backup create` was ended of, is no snapshot.
  const { id, operation } = await kith.backups.create("one", { group: { name: "some", size: 2 } });
  await kith.backups.wait(operation, { everyMs: 20 });
  expect((await kith.backups.list({ group: "some" })).map((each) => each.id)).toEqual([id]);
  expect(await client.listFullSnapshots()).toEqual([whole]);
  for (const name of ["some", whole?.name ?? ""]) expect(await client.deleteFullSnapshot(name)).toBe(true);
  expect(await client.listFullSnapshots()).toEqual([]);
  expect((await kith.backups.list()).filter(({ group }) => group !== undefined)).toEqual([]);
  expect(await refusal(client.deleteFullSnapshot("some"))).toEqual({ status: 404, code: "NOT_FOUND" });
  const told = await call("POST", "/snapshots?wait=false");
  expect(told).toMatchObject({ status: 202, body: { result: null, status: "accepted" } });
  await eventually(async () => expect(await client.listFullSnapshots()).toHaveLength(1));
});

test("aliases change in batches, all of them or none", async () => {
  for (const name of ["blue", "green"]) await client.createCollection(name, { vectors });
  const create = (alias_name: string, collection_name: string) => ({ create_alias: { alias_name, collection_name } });
  const change = (...actions: object[]) => client.updateCollectionAliases({ actions: actions as never });
  await change(create("live", "blue"), create("next", "green"), create("old", "green"));
  // Two that change places, in one step.
  await change(
    { rename_alias: { old_alias_name: "live", new_alias_name: "spare" } },
    { rename_alias: { old_alias_name: "next", new_alias_name: "live" } },
    { delete_alias: { alias_name: "old" } },
  );
  const aliases = async () =>
    Object.fromEntries((await client.getAliases()).aliases.map((each) => [each.alias_name, each.collection_name]));
  expect(await aliases()).toEqual({ spare: "blue", live: "green" });
  expect((await client.collectionExists("live")).exists).toBe(true);
  expect((await client.collectionExists("old")).exists).toBe(false);
  const broken = change(create("new", "blue"), create("other", "nowhere"));
  expect(await refusal(broken)).toEqual({ status: 404, code: "COLLECTION_NOT_FOUND" });
  expect(await aliases()).toEqual({ spare: "blue", live: "green" });
});

test("an alias goes to the place of another, and what has a name already is told as Qdrant tells it", async () => {
  for (const name of ["day", "night"]) await client.createCollection(name, { vectors });
  const change = (...actions: object[]) => client.updateCollectionAliases({ actions: actions as never });
  const create = (alias_name: string, collection_name: string) => ({ create_alias: { alias_name, collection_name } });
  const rename = (old_alias_name: string, new_alias_name: string) => ({
    rename_alias: { old_alias_name, new_alias_name },
  });
  await change(create("sun", "day"), create("moon", "night"));
  await change(rename("moon", "sun"), rename("sun", "sun"));
  const { aliases } = await client.getAliases();
  expect(aliases.filter(({ collection_name }) => ["day", "night"].includes(collection_name))).toEqual([
    { alias_name: "sun", collection_name: "night" },
  ]);
  expect(await refusal(change(create("day", "night")))).toEqual({ status: 409, code: "COLLECTION_EXISTS" });
  expect(await refusal(client.createCollection("sun", { vectors }))).toEqual({ status: 400, code: "ALREADY_EXISTS" });
  expect(await refusal(client.createCollection("day", { vectors }))).toEqual({
    status: 409,
    code: "COLLECTION_EXISTS",
  });
  expect((await refusal(change(rename("gone", "here")))).status).toBe(404);
});

test("values that may not stand there are answered 422, and what cannot be read 400", async () => {
  await client.createCollection("valid", { vectors, sparse_vectors: { words: {} } });
  const post = async (path: string, body: object, method = "POST") =>
    (await call(method, `/collections/valid${path}`, body)).status;
  const points = "/points";
  const one = { id: 1, vector: [1, 2] };
  const cases: [number, string, object, string?][] = [
    [422, `${points}/query`, { query: [1, 2], limit: 0 }],
    [422, `${points}/query`, { prefetch: { query: [1, 2], limit: 0 }, query: [1, 2] }],
    [422, `${points}/query`, { query: { recommend: {} } }],
    [422, `${points}/query`, { query: { nearest: [1, 2], mmr: { diversity: 2 } } }],
    [422, `${points}/query`, { query: { indices: [1, 2], values: [1] }, using: "words" }],
    [422, `${points}/query`, { query: [[1, 2], [1]] }],
    [422, `${points}/query/batch`, { searches: [{ query: [1, 2], limit: 0 }] }],
    [422, `${points}/query/groups`, { query: [1, 2], group_by: "a", group_size: 0 }],
    [422, `${points}/query/groups`, { query: [1, 2], group_by: "a", limit: 0 }],
    [422, `${points}/search`, { vector: [1, 2], limit: 0 }],
    [422, `${points}/scroll`, { limit: 0 }],
    [422, "/facet", { key: "a", limit: 0 }],
    [422, `${points}/search/matrix/pairs`, { sample: 1 }],
    [422, `${points}/search/matrix/pairs`, { limit: 0 }],
    [422, points, { batch: { ids: [1, 2], vectors: [[1, 2]] } }, "PUT"],
    [422, points, { batch: { ids: [1], vectors: [[1, 2]], payloads: [{}, {}] } }, "PUT"],
    [422, "a", { vectors: { size: 0, distance: "Dot" } }, "PUT"],
    [422, "a", { vectors: { size: 65_537, distance: "Dot" } }, "PUT"],
    [422, "a", { vectors: { size: 2, distance: "Dot", hnsw_config: { ef_construct: 3 } } }, "PUT"],
    [422, encodeURIComponent("a*"), { vectors: { size: 2, distance: "Dot" } }, "PUT"],
    [400, `${points}/query`, { query: [1, 2], limit: "a" }],
    [400, `${points}/query`, { query: [1, 2], limit: -1 }],
    [400, `${points}/query`, { query: [1, 2, 3] }],
    [400, `${points}/recommend`, { positive: [], limit: 1 }],
    [400, points, { points: [{ ...one, id: -1 }] }, "PUT"],
    [400, points, { points: [{ ...one, vector: ["a"] }] }, "PUT"],
  ];
  for (const [status, path, body, method] of cases) {
    expect({ path, body, status: await post(path, body, method) }).toEqual({ path, body, status });
  }
});

test("each limit of strict mode holds, and what keeps to it is answered", async () => {
  const some = (count: number) => Array.from({ length: count }, (_, i) => ({ id: i + 1, vector: [i, 1] }));
  const match = (key: string) => ({ key, match: { value: "a" } });
  const filtered = (...keys: string[]) => ({ filter: { must: keys.map(match) } });
  const query = (name: string, more: object) => client.query(name, { query: [1, 2], ...more });
  const batch = (name: string, count: number) =>
    client.queryBatch(name, { searches: some(count).map(({ vector }) => ({ query: vector })) });
  type Asked = (name: string) => Promise<unknown>;
  /** A limit, what goes beyond it, and what does not. */
  const cases: [object, Asked, Asked][] = [
    [{ max_query_limit: 2 }, (name) => query(name, { limit: 3 }), (name) => query(name, { limit: 2 })],
    [{ max_query_limit: 2 }, (name) => client.scroll(name, { limit: 3 }), (name) => client.scroll(name, { limit: 2 })],
    [{ max_query_limit: 2 }, (name) => client.query(name, { limit: 3 }), (name) => client.query(name, { limit: 2 })],
    [
      { search_max_hnsw_ef: 20 },
      (name) => query(name, { params: { hnsw_ef: 21 } }),
      (name) => query(name, { params: { hnsw_ef: 20 } }),
    ],
    [{ search_allow_exact: false }, (name) => query(name, { params: { exact: true } }), (name) => query(name, {})],
    [
      { filter_max_conditions: 1 },
      (name) => client.count(name, filtered("a", "b")),
      (name) => client.count(name, filtered("a")),
    ],
    [
      { upsert_max_batchsize: 3 },
      (name) => client.upsert(name, { points: some(4) }),
      (name) => client.upsert(name, { points: some(3) }),
    ],
    [{ search_max_batchsize: 1 }, (name) => batch(name, 2), (name) => batch(name, 1)],
    [
      { unindexed_filtering_retrieve: false },
      (name) => client.scroll(name, filtered("a")),
      (name) => client.scroll(name, {}),
    ],
  ];
  for (const [i, [limit, beyond, within]] of cases.entries()) {
    const name = `strict-${i}`;
    await client.createCollection(name, { vectors, strict_mode_config: { enabled: true, ...limit } });
    await client.upsert(name, { wait: true, points: some(3) });
    expect((await client.getCollection(name)).config.strict_mode_config).toMatchObject({ enabled: true, ...limit });
    const refused = { status: 400, code: "COLLECTION_LIMIT" };
    expect(await refusal(beyond(name)), JSON.stringify(limit)).toEqual(refused);
    await within(name);
    await client.updateCollection(name, { strict_mode_config: { enabled: false } });
    await beyond(name);
  }
  await client.createCollection("slow", { vectors, strict_mode_config: { enabled: true, write_rate_limit: 6 } });
  expect(await call("PUT", "/collections/slow/points", { points: some(61) })).toMatchObject({
    status: 429,
    body: { status: { error: expect.stringMatching(/^Write rate limit exceeded: 61 points/) as string } },
  });
  await client.upsert("slow", { points: some(5) });
  const page = await client.scroll("strict-1", { limit: 2 });
  expect(page).toMatchObject({ points: [{ id: 1 }, { id: 2 }], next_page_offset: 3 });
  await client.createCollection("full", { vectors, strict_mode_config: { enabled: true, max_points_count: 3 } });
  await client.upsert("full", { wait: true, points: some(3) });
  // How many there are is known once a second.
  await eventually(async () => {
    const points = [{ id: 9, vector: [1, 2] }];
    expect((await call("PUT", "/collections/full/points?wait=true", { points })).status).toBe(429);
  });
});

test("a server tells what it is, how much it has, and that nothing is wrong", async () => {
  const { body } = await call("GET", "/telemetry");
  expect(body.result).toMatchObject({
    id: expect.stringMatching(/^\d+$/) as string,
    app: { name: "kith", version: "test", startup: expect.stringMatching(/^\d{4}-\d\d-\d\dT/) as string },
    collections: { number_of_collections: (await client.getCollections()).collections.length },
    cluster: { enabled: true, status: { number_of_peers: 1 } },
  });
  expect((await call("GET", "/issues")).body).toMatchObject({ result: { issues: [] }, status: "ok" });
  expect((await call("DELETE", "/issues")).body).toMatchObject({ result: true, status: "ok" });
  expect((await call("GET", "/quotas")).status).toBe(200);
  expect((await call("POST", "/cluster/recover")).body.result).toBe(true);
  await client.createCollection("told", { vectors });
  await client.upsert("told", { wait: true, points: [{ id: 7, vector: [1, 2], payload: { a: 1 } }] });
  expect((await call("GET", "/collections/told/points/7")).body.result).toMatchObject({
    id: 7,
    vector: [1, 2],
    payload: { a: 1 },
  });
  expect(await call("GET", "/collections/told/points/8")).toMatchObject({ status: 404 });
  expect((await call("GET", "/collections/told/optimizations")).body.result).toMatchObject({ running: [], queued: [] });
});
