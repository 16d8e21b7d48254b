/** What the types refuse comes from programs without types: it is refused with a KithError that names the place and the value. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type CollectionHandle, connect, type KithClient } from "./index.js";
import { TestServer } from "./testing/server.js";

let server: TestServer;
let client: KithClient;
let films: CollectionHandle;

beforeAll(async () => {
  server = await TestServer.start();
  client = await connect(server.target);
  films = client.collection("films");
  await films.create({ vectors: { dimension: 2 } });
});
afterAll(() => {
  client.close();
  server.stop();
});

/** For what TypeScript would refuse. */
type Wrong = never;
const vector = [1, 2];
const point = { id: 1, vector };
/** Each place with the values that it takes: "x" and {} may be right where 7 is not. */
const places: Record<string, [call: (value: Wrong) => unknown, right?: unknown[]]> = {
  prefetch: [(v) => films.query({ vector, prefetch: v })],
  "prefetch of a prefetch": [(v) => films.query({ vector, prefetch: [{ query: { nearest: vector }, prefetch: v }] })],
  "query of a prefetch": [(v) => films.query({ vector, prefetch: [{ query: v }] })],
  "exact of a prefetch": [(v) => films.query({ vector, prefetch: [{ exact: v }] }), [true]],
  recommend: [(v) => films.query({ query: { recommend: v } }), [{}]],
  "positive of recommend": [(v) => films.query({ query: { recommend: { positive: v } } })],
  discover: [(v) => films.query({ query: { discover: v } })],
  "context of discover": [(v) => films.query({ query: { discover: { target: 1, context: v } } })],
  context: [(v) => films.query({ query: { context: v } })],
  "a pair of context": [(v) => films.query({ query: { context: [v] } })],
  feedback: [(v) => films.query({ query: { feedback: v } })],
  "judged of feedback": [(v) => films.query({ query: { feedback: { target: 1, a: 1, b: 1, c: 1, judged: v } } })],
  "a of feedback": [(v) => films.query({ query: { feedback: { target: 1, a: v, b: 1, c: 1, judged: [] } } }), [7]],
  sample: [(v) => films.query({ query: { sample: v } })],
  diversity: [(v) => films.query({ query: { nearest: vector, mmr: { diversity: v } } }), [7]],
  fusion: [(v) => films.query({ prefetch: [{}], query: { fusion: v } })],
  "weights of a fusion": [(v) => films.query({ prefetch: [{}], query: { fusion: { rrf: { weights: v } } } })],
  "a weight of a fusion": [
    (v) => films.query({ prefetch: [{}], query: { fusion: { relative: { weights: [v] } } } }),
    [7],
  ],
  startFrom: [(v) => films.query({ query: { orderBy: { key: "n", startFrom: v } } }), [7]],
  formula: [(v) => films.query({ prefetch: [{}], query: { formula: v } }), ["x", 7]],
  "sum of a formula": [(v) => films.query({ prefetch: [{}], query: { formula: { sum: v } } })],
  "byZero of a formula": [
    (v) => films.query({ prefetch: [{}], query: { formula: { divide: { left: 1, right: 1, byZero: v } } } }),
    [7],
  ],
  "origin of a formula": [
    (v) => films.query({ prefetch: [{}], query: { formula: { geoDistance: { origin: v, to: "x" } } } }),
  ],
  "scale of a formula": [
    (v) => films.query({ prefetch: [{}], query: { formula: { gaussDecay: { x: 1, scale: v } } } }),
    [7],
  ],
  "defaults of a formula": [(v) => films.query({ prefetch: [{}], query: { formula: 1, defaults: v } }), [{}, null]],
  "a default of a formula": [
    (v) => films.query({ prefetch: [{}], query: { formula: 1, defaults: { x: v } } }),
    ["x", 7],
  ],
  "collection of a lookup": [(v) => films.query({ query: { nearest: 1 }, lookup: { collection: v } }), ["x"]],
  "example of a query": [(v) => films.query({ query: { nearest: v } }), ["x", 7, 7n, true]],
  "using of a prefetch": [(v) => films.query({ vector, prefetch: [{ using: v }] }), ["x"]],
  using: [(v) => films.query({ vector, using: v }), ["x"]],
  oversampling: [(v) => films.query({ vector, oversampling: v }), [7]],
  scoreThreshold: [(v) => films.query({ vector, scoreThreshold: v }), [7]],
  recallTarget: [(v) => films.query({ vector, recallTarget: v }), [7]],
  exact: [(v) => films.query({ vector, exact: v }), [true, null]],
  exactScores: [(v) => films.query({ vector, exactScores: v }), [true, null]],
  rescore: [(v) => films.query({ vector, rescore: v }), [true]],
  explain: [(v) => films.query({ vector, explain: v }), [true, null]],
  trace: [(v) => films.query({ vector, trace: v }), [true, null]],
  allowPartial: [(v) => films.query({ vector, allowPartial: v }), [true, null]],
  "explain of facet": [(v) => films.facet("a", { explain: v }), [true, null]],
  "approximate of facet": [(v) => films.facet("a", { approximate: v }), [true, null]],
  "approximate of count": [(v) => films.count({ approximate: v }), [true, null]],
  "batch of scroll": [(v) => films.scroll({ batch: v }).next(), [7, null]],
  "wait of createPayloadIndex": [(v) => films.createPayloadIndex("a", "keyword", { wait: v }), [true, null]],
  withPayload: [(v) => films.query({ vector, withPayload: v }), [true]],
  consistency: [(v) => films.query({ vector, consistency: v })],
  queryBatch: [(v) => films.queryBatch(v)],
  groupBy: [(v) => films.queryGroups({ vector, groupBy: v }), ["x"]],
  matrix: [(v) => films.matrix(v), [{}]],
  facet: [(v) => films.facet(v), ["x"]],
  writeBatch: [(v) => films.writeBatch(v)],
  "an operation of writeBatch": [(v) => films.writeBatch([v])],
  "upsert.vectors": [(v) => films.upsert({ ...point, vectors: v }), [{}]],
  "upsert.sparse": [(v) => films.upsert({ ...point, sparse: v }), [{}]],
  "upsert.matrices": [(v) => films.upsert({ ...point, matrices: v }), [{}]],
  ack: [(v) => films.upsert(point, { ack: v })],
  mode: [(v) => films.upsert(point, { mode: v })],
  idempotencyKey: [(v) => films.upsert(point, { idempotencyKey: v }), ["x", null]],
  upsertMany: [(v) => films.upsertMany(v)],
  onBatch: [(v) => films.upsertMany([point], { onBatch: v })],
  deletePayload: [(v) => films.deletePayload(1, v), ["x"]],
  deleteVectors: [(v) => films.deleteVectors(1, v), ["x"]],
  "path of setPayload": [(v) => films.setPayload(1, {}, { path: v }), ["x"]],
  createPayloadIndex: [(v) => films.createPayloadIndex(v, "keyword"), ["x"]],
  "kind of createPayloadIndex": [(v) => films.createPayloadIndex("a", v)],
  "options of createPayloadIndex": [(v) => films.createPayloadIndex("a", "keyword", v), [{}]],
  "metric of create": [(v) => films.create({ vectors: { dimension: 2, metric: v } }), [null]],
  "recallTarget of create": [(v) => films.create({ vectors: { dimension: 2 }, recallTarget: v }), [7]],
  "partitionKey of create": [(v) => films.create({ vectors: { dimension: 2 }, partitionKey: v }), ["x"]],
  "aliases.update": [(v) => client.aliases.update(v)],
  "an action of aliases.update": [(v) => client.aliases.update([v])],
};

const shown = (value: unknown): string => (typeof value === "bigint" ? `${value}n` : JSON.stringify(value));

test.each(Object.entries(places))("a wrong value is refused: %s", async (_, [call, right = []]) => {
  for (const value of ["x", 7, 7n, true, null, {}]) {
    if (right.some((each) => shown(each) === shown(value))) continue;
    const refused = async (): Promise<unknown> => call(value as Wrong);
    const error: unknown = await refused().catch((thrown: unknown) => thrown);
    const code = expect.stringMatching(/^INVALID_|^LIMIT_/) as string;
    expect(error, shown(value)).toMatchObject({ name: "KithError", code });
  }
});

test("a scroll takes no batches of nothing", async () => {
  await expect(films.scroll({ batch: 0 }).next()).rejects.toMatchObject({ code: "LIMIT_OUT_OF_RANGE" });
});

test.each([
  [{ a: { tags: new Set(["x"]) } }, "a.tags"],
  [{ a: [new Map([["x", 1]])] }, "a[0]"],
  [{ a: [1, Number.NaN] }, "a[1]"],
])("a value of which JSON keeps nothing is refused where it stands: %o", async (payload, path) => {
  const refused = films.upsert({ ...point, payload: payload as never });
  await expect(refused).rejects.toMatchObject({ code: "INVALID_PAYLOAD", details: { path } });
});

test("an unknown key of a query by groups names what groups have too", async () => {
  const refused = films.queryGroups({ vector, groupBy: "a", group: 1 } as never);
  await expect(refused).rejects.toThrow(/groupBy.*groupSize/);
});
