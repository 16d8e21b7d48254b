/** Bad input of every kind over gRPC: a typed error with the offending value, nothing written, the process alive. */
import { afterAll, beforeEach, expect, test } from "vitest";
import { type CollectionHandle, KithError, type KithClient } from "../../libs/client/index.js";
import type { pb } from "../../libs/wire/index.js";
import { useCluster } from "../cluster/cluster.js";
import { onBothDrivers } from "../cluster/drivers.js";
import { rawCalls, type RawCalls } from "../cluster/raw.js";

let client: KithClient;
let cosine: CollectionHandle;
let raw: RawCalls;

const good = [0.1, 0.2, 0.3];
const num = (value: bigint) => ({ id: { $case: "num" as const, value } });
const point = (id: bigint, values: number[], payload = "") => ({
  id: num(id),
  vectors: { "": { values: Float32Array.from(values), indices: [] } },
  payload: Buffer.from(payload),
  version: 0,
  expiresAtMs: 0,
});
const upsert =
  (points: ReturnType<typeof point>[], collection = "cosine") =>
  () =>
    raw.upsert({
      collection,
      points,
      mode: 0,
      options: undefined,
      expectedVersions: [],
      onlyIf: undefined,
      expiresAtMs: [],
    });

const cases: [string, () => Promise<unknown>, string, RegExp][] = [
  [
    "a vector of the wrong dimension",
    upsert([point(1n, [1, 2])]),
    "DIMENSION_MISMATCH",
    /points\[0\].*2 dimensions.*has 3/,
  ],
  ["NaN", upsert([point(1n, [1, Number.NaN, 0])]), "VECTOR_NOT_FINITE", /element 1 .* NaN/],
  ["infinity", upsert([point(1n, [1, 2, Number.POSITIVE_INFINITY])]), "VECTOR_NOT_FINITE", /Infinity/],
  ["a zero vector with cosine", upsert([point(1n, [0, 0, 0])]), "ZERO_VECTOR", /length zero/],
  ["one bad point among good ones", upsert([point(1n, good), point(2n, [0, 0, 0])]), "ZERO_VECTOR", /points\[1\]/],
  ["the same id twice", upsert([point(1n, good), point(1n, good)]), "DUPLICATE_ID", /points\[1\].*points\[0\]/],
  ["no points at all", upsert([]), "INVALID_ARGUMENT", /no points/],
  [
    "too many points",
    upsert(Array.from({ length: 10_001 }, (_, i) => point(BigInt(i), good))),
    "BATCH_TOO_LARGE",
    /10001.*10000/,
  ],
  ["a payload that is not JSON", upsert([point(1n, good, "{oops")]), "INVALID_PAYLOAD", /points\[0\].*JSON/],
  [
    "a payload that is too deep",
    upsert([point(1n, good, `${'{"a":'.repeat(101)}1${"}".repeat(101)}`)]),
    "INVALID_PAYLOAD",
    /points\[0\].*more than 100 arrays and objects/,
  ],
  ["a payload that is not an object", upsert([point(1n, good, "[1]")]), "INVALID_PAYLOAD", /an array/],
  [
    "a payload beyond the limit",
    upsert([point(1n, good, JSON.stringify({ a: "x".repeat(70_000) }))]),
    "PAYLOAD_TOO_LARGE",
    /65536/,
  ],
  [
    "a point without an id",
    () =>
      raw.upsert({
        collection: "cosine",
        points: [{ ...point(1n, good), id: undefined }],
        mode: 0,
        options: undefined,
        expectedVersions: [],
        onlyIf: undefined,
        expiresAtMs: [],
      }),
    "INVALID_ID",
    /no id/,
  ],
  [
    "a UUID that is none",
    () =>
      raw.upsert({
        collection: "cosine",
        points: [{ ...point(1n, good), id: { id: { $case: "uuid", value: "123" } } }],
        mode: 0,
        options: undefined,
        expectedVersions: [],
        onlyIf: undefined,
        expiresAtMs: [],
      }),
    "INVALID_ID",
    /"123" is not a UUID/,
  ],
  [
    "an empty string id",
    () =>
      raw.upsert({
        collection: "cosine",
        points: [{ ...point(1n, good), id: { id: { $case: "name", value: "" } } }],
        mode: 0,
        options: undefined,
        expectedVersions: [],
        onlyIf: undefined,
        expiresAtMs: [],
      }),
    "INVALID_ID",
    /empty/,
  ],
  [
    "an id beyond 256 bytes",
    () =>
      raw.upsert({
        collection: "cosine",
        points: [{ ...point(1n, good), id: { id: { $case: "name", value: "ä".repeat(129) } } }],
        mode: 0,
        options: undefined,
        expectedVersions: [],
        onlyIf: undefined,
        expiresAtMs: [],
      }),
    "INVALID_ID",
    /258 bytes.*256/,
  ],
  [
    "an unknown vector name",
    () =>
      raw.upsert({
        collection: "cosine",
        points: [{ ...point(1n, good), vectors: { image: { values: Float32Array.of(1), indices: [] } } }],
        mode: 0,
        options: undefined,
        expectedVersions: [],
        onlyIf: undefined,
        expiresAtMs: [],
      }),
    "UNKNOWN_VECTOR",
    /no vector field "image"/,
  ],
  [
    "a point without vectors",
    () =>
      raw.upsert({
        collection: "cosine",
        points: [{ ...point(1n, good), vectors: {} }],
        mode: 0,
        options: undefined,
        expectedVersions: [],
        onlyIf: undefined,
        expiresAtMs: [],
      }),
    "INVALID_ARGUMENT",
    /no vector/,
  ],
  [
    "an unknown upsert mode",
    () =>
      raw.upsert({
        collection: "cosine",
        points: [point(1n, good)],
        mode: 9 as number,
        options: undefined,
        expectedVersions: [],
        onlyIf: undefined,
        expiresAtMs: [],
      }),
    "INVALID_ARGUMENT",
    /mode 9/,
  ],
  [
    "an idempotency key beyond 64 bytes",
    () =>
      raw.upsert({
        collection: "cosine",
        points: [point(1n, good)],
        mode: 0,
        options: { ack: 0, idempotencyKey: "k".repeat(65) },
        expectedVersions: [],
        onlyIf: undefined,
        expiresAtMs: [],
      }),
    "INVALID_ARGUMENT",
    /65 bytes.*64/,
  ],
  ["an unknown collection", upsert([point(1n, good)], "nowhere"), "COLLECTION_NOT_FOUND", /"nowhere"/],
  ["an empty collection name", upsert([point(1n, good)], ""), "INVALID_NAME", /empty/],
  ["a path as the collection name", upsert([point(1n, good)], "../x"), "INVALID_NAME", /"\.\.\/x"/],
  [
    "columns whose matrix does not fit",
    () =>
      raw.upsertColumns({
        collection: "cosine",
        idColumn: { $case: "nums", value: new Uint8Array(16) },
        sparseVectors: [],
        vectors: [{ name: "", matrix: new Uint8Array(12), rows: [] }],
        payloads: [],
        mode: 0,
        options: undefined,
        expectedVersions: [],
        onlyIf: undefined,
        expiresAtMs: [],
      }),
    "DUPLICATE_ID",
    /row 1/,
  ],
  [
    "columns with a matrix that is not f32",
    () =>
      raw.upsertColumns({
        collection: "cosine",
        idColumn: { $case: "nums", value: new Uint8Array(8) },
        sparseVectors: [],
        vectors: [{ name: "", matrix: new Uint8Array(13), rows: [] }],
        payloads: [],
        mode: 0,
        options: undefined,
        expectedVersions: [],
        onlyIf: undefined,
        expiresAtMs: [],
      }),
    "DIMENSION_MISMATCH",
    /13 bytes/,
  ],
  [
    "columns with too many ids, before any of them is looked at",
    () =>
      raw.upsertColumns({
        collection: "cosine",
        idColumn: { $case: "ids", value: { ids: new Array<pb.PointId>(10_001).fill({ id: undefined }) } },
        sparseVectors: [],
        vectors: [],
        payloads: [],
        mode: 0,
        options: undefined,
        expectedVersions: [],
        onlyIf: undefined,
        expiresAtMs: [],
      }),
    "BATCH_TOO_LARGE",
    /10001.*10000/,
  ],
  [
    "a score threshold that is no number",
    () => raw.query({ collection: "cosine", vector: Float32Array.from(good), scoreThreshold: Number.NaN }),
    "INVALID_ARGUMENT",
    /score_threshold is NaN/,
  ],
  [
    "a payload with a byte-order mark",
    upsert([point(1n, good, '\uFEFF{"a":1}')]),
    "INVALID_PAYLOAD",
    /points\[0\].*JSON/,
  ],
  [
    "columns without ids",
    () =>
      raw.upsertColumns({
        collection: "cosine",
        idColumn: undefined,
        sparseVectors: [],
        vectors: [],
        payloads: [],
        mode: 0,
        options: undefined,
        expectedVersions: [],
        onlyIf: undefined,
        expiresAtMs: [],
      }),
    "INVALID_ID",
    /no ids/,
  ],
  [
    "columns with too few payloads",
    () =>
      raw.upsertColumns({
        collection: "cosine",
        idColumn: { $case: "nums", value: Buffer.concat([Buffer.alloc(8, 1), Buffer.alloc(8, 2)]) },
        sparseVectors: [],
        vectors: [{ name: "", matrix: Buffer.from(Float32Array.from([1, 2, 3, 4, 5, 6]).buffer), rows: [] }],
        payloads: [Buffer.from("{}")],
        mode: 0,
        options: undefined,
        expectedVersions: [],
        onlyIf: undefined,
        expiresAtMs: [],
      }),
    "INVALID_ARGUMENT",
    /1 payloads for 2 ids/,
  ],
  [
    "a query of the wrong dimension",
    () => raw.query({ collection: "cosine", vector: Float32Array.of(1) }),
    "DIMENSION_MISMATCH",
    /the query/,
  ],
  ["a query without a vector", () => raw.query({ collection: "cosine" }), "DIMENSION_MISMATCH", /0 dimensions/],
  [
    "a query for NaN",
    () => raw.query({ collection: "cosine", vector: Float32Array.of(1, Number.NaN, 1) }),
    "VECTOR_NOT_FINITE",
    /NaN/,
  ],
  [
    "a query for a million results",
    () => raw.query({ collection: "cosine", vector: Float32Array.from(good), limit: 1_000_000 }),
    "LIMIT_OUT_OF_RANGE",
    /1000000.*1\.\.10000/,
  ],
  [
    "a huge ef",
    () => raw.query({ collection: "cosine", vector: Float32Array.from(good), ef: 100_000 }),
    "LIMIT_OUT_OF_RANGE",
    /ef is 100000/,
  ],
  [
    "a query on an unknown vector",
    () => raw.query({ collection: "named", using: "c", vector: Float32Array.of(1, 2) }),
    "UNKNOWN_VECTOR",
    /"a", "b"/,
  ],
  [
    "a query by a point that is not there",
    () => raw.query({ collection: "cosine", point: num(77n) }),
    "POINT_NOT_FOUND",
    /no point/,
  ],
  [
    "a token with shards that the collection does not have",
    () =>
      raw.query({
        collection: "cosine",
        vector: Float32Array.from(good),
        consistency: { level: { $case: "atLeast", value: { shards: [{ shard: 9, sequence: 1 }], collectionId: "" } } },
      }),
    "INVALID_TOKEN",
    /shard 9/,
  ],
  [
    "a token of another collection",
    () =>
      raw.query({
        collection: "cosine",
        vector: Float32Array.from(good),
        consistency: {
          level: { $case: "atLeast", value: { shards: [{ shard: 0, sequence: 1 }], collectionId: "x7" } },
        },
      }),
    "INVALID_TOKEN",
    /collection x7/,
  ],
  [
    "a scroll limit beyond the bound",
    () => raw.scroll({ collection: "cosine", limit: 10_001 }),
    "LIMIT_OUT_OF_RANGE",
    /10001/,
  ],
  [
    "a cursor that is none",
    () => raw.scroll({ collection: "cosine", cursor: Buffer.from("hello") }),
    "INVALID_ARGUMENT",
    /cursor/,
  ],
  [
    "a collection that exists",
    () =>
      raw.create({
        name: "cosine",
        vectors: [{ name: "", dimension: 3, metric: 1, datatype: 0, m: 0, efConstruction: 0, efSearch: 0 }],
      }),
    "COLLECTION_EXISTS",
    /"cosine"/,
  ],
  ["a collection without vectors", () => raw.create({ name: "x", vectors: [] }), "INVALID_SCHEMA", /at least one/],
  [
    "a collection of dimension 0",
    () =>
      raw.create({
        name: "x",
        vectors: [{ name: "", dimension: 0, metric: 1, datatype: 0, m: 0, efConstruction: 0, efSearch: 0 }],
      }),
    "INVALID_SCHEMA",
    /dimension is 0/,
  ],
  [
    "a collection without a metric",
    () =>
      raw.create({
        name: "x",
        vectors: [{ name: "", dimension: 3, metric: 0, datatype: 0, m: 0, efConstruction: 0, efSearch: 0 }],
      }),
    "INVALID_SCHEMA",
    /no metric/,
  ],
  [
    "a collection name of 200 characters",
    () =>
      raw.create({
        name: "x".repeat(200),
        vectors: [{ name: "", dimension: 3, metric: 1, datatype: 0, m: 0, efConstruction: 0, efSearch: 0 }],
      }),
    "INVALID_NAME",
    /200 characters.*128/,
  ],
  [
    "too many shards",
    () =>
      raw.create({
        name: "x",
        vectors: [{ name: "", dimension: 3, metric: 1, datatype: 0, m: 0, efConstruction: 0, efSearch: 0 }],
        shardCount: 5000,
      }),
    "INVALID_SCHEMA",
    /5000.*256/,
  ],
  ["deleting what is not there", () => raw.deleteCollection("nowhere"), "COLLECTION_NOT_FOUND", /nowhere/],
  [
    "a string id of a lone surrogate, as bytes",
    () => raw.garbage("/kith.v1.Points/Delete", Buffer.from("0a06636f73696e6512051a03eda080", "hex")),
    "INVALID_ID",
    /not valid UTF-8/,
  ],
  [
    "a name that is not UTF-8",
    () => raw.garbage("/kith.v1.Points/Count", Buffer.from("0a03eda080", "hex")),
    "INVALID_ARGUMENT",
    /not a valid message/,
  ],
  [
    "a string id with a lone surrogate",
    () => cosine.upsert({ id: "\ud800", vector: good }),
    "INVALID_ID",
    /lone surrogate/,
  ],
  ["reading one", () => cosine.get("a\udfffb"), "INVALID_ID", /"a\\udfffb".*lone surrogate/],
  [
    "a label with a lone surrogate",
    () => cosine.update({ labels: { a: "\ud800" } }),
    "INVALID_SCHEMA",
    /lone surrogate/,
  ],
  ["bytes that are no protobuf", () => raw.garbage("/kith.v1.Points/Query"), "INVALID_ARGUMENT", /./],
];

onBothDrivers({ processes: { shardNodes: 2, replicas: 1 }, inProcess: {} }, (start) => {
  useCluster(start, async (started) => {
    client = await started.connect();
    raw = rawCalls(started.target);
    cosine = client.collection("cosine");
    await cosine.create({ vectors: { dimension: 3, metric: "cosine" }, shards: 2 });
    await client.collection("named").create({ vectors: { a: { dimension: 2 }, b: { dimension: 4, metric: "l2" } } });
  });
  afterAll(() => raw?.close());
  beforeEach(async () => {
    const ids: (number | bigint | string)[] = [];
    for await (const point of cosine.scroll()) ids.push(point.id);
    if (ids.length > 0) await cosine.delete(ids);
  });

  /** Where the log of each shard ends: a record that was refused only when it was applied shows here. */
  async function logEnds(): Promise<[string, number | undefined][]> {
    const { shards } = await client.cluster.describe();
    return shards.map(({ collection, shard, logSequence }) => [`${collection}/${shard}`, logSequence]);
  }

  test.each(cases)("%s", async (_, call, code, message) => {
    const before = await logEnds();
    expect(before.map(([, end]) => typeof end)).toEqual(["number", "number", "number"]);
    const error = await call().then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(KithError);
    expect({ code: (error as KithError).code, message: (error as KithError).message }).toEqual({
      code,
      message: expect.stringMatching(message) as string,
    });
    expect(await logEnds()).toEqual(before);
    expect(await cosine.count({ consistency: "linearizable" })).toBe(0);
  });

  test("a negative limit cannot be said on the wire, and the SDK refuses it with the value", async () => {
    await expect(cosine.query({ vector: good, limit: -1 })).rejects.toThrow(/-1/);
  });

  test("a message beyond the limit is refused and the process lives", async () => {
    for (const mebibytes of [40, 80]) {
      await expect(
        raw.upsertColumns({
          collection: "cosine",
          idColumn: { $case: "nums", value: new Uint8Array(8) },
          sparseVectors: [],
          vectors: [{ name: "", matrix: new Uint8Array(mebibytes * 1024 * 1024), rows: [] }],
          payloads: [],
          mode: 0,
          options: undefined,
          expectedVersions: [],
          onlyIf: undefined,
          expiresAtMs: [],
        }),
      ).rejects.toMatchObject({ code: "BATCH_TOO_LARGE", retryable: false });
    }
    expect(await cosine.exists()).toBe(true);
  });

  test("a query by a point may ask for as many results as any other", async () => {
    await upsert([point(1n, good), point(2n, [0.3, 0.2, 0.1])])();
    const { points } = await raw.query({ collection: "cosine", point: num(1n), limit: 10_000 });
    expect(points.map(({ id }) => id)).toEqual([num(2n)]);
  });
});
