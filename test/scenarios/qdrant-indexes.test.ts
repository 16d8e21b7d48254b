/** Quantizations, datatypes, graphs and ranked texts, as Qdrant's client for JavaScript asks for them, are those of Kith's indexes. */
import { QdrantClient } from "@qdrant/js-client-rest";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import { TestServer } from "../cluster/rest-server.js";

let server: TestServer;
let client: QdrantClient;
beforeAll(async () => {
  server = await TestServer.start({}, { qdrant: { httpPort: 0 } });
  client = new QdrantClient({ url: `http://${server.node.qdrantAddress}` });
});
afterAll(() => server.close());

interface Field {
  name: string;
  datatype: string;
  originals?: boolean;
  m: number;
}

async function fieldsIn(collection: string): Promise<Record<string, Field>> {
  const { json } = await server.call("GET", `/v1/collections/${collection}`);
  const { vectors } = json["collection"] as { vectors: Field[] };
  return Object.fromEntries(vectors.map((field) => [field.name, field]));
}

const warningsOf = async (collection: string): Promise<string> =>
  JSON.stringify((await client.getCollection(collection)).warnings ?? []);

test("quantizations and datatypes decide how indexes keep vectors", async () => {
  const name = "codes";
  const field = (more: object, distance: "Cosine" | "Euclid" = "Cosine") => ({ size: 8, distance, ...more });
  const quantized = (config: object) => ({ quantization_config: config as never });
  await client.createCollection(name, {
    vectors: {
      scalar: field(quantized({ scalar: { type: "int8" } }), "Euclid"),
      binary: field(quantized({ binary: { always_ram: true } })),
      turbo: field(quantized({ turbo: { bits: "bits4" } }), "Euclid"),
      turbo1: field(quantized({ turbo: { bits: "bits1" } })),
      two: field(quantized({ binary: { encoding: "two_bits" } })),
      half: field({ datatype: "float16" }),
      turbo8: field({ datatype: "turbo8" as never }),
      bytes: field({ datatype: "uint8" }),
      x4: field(quantized({ product: { compression: "x4" } })),
      x8: field(quantized({ product: { compression: "x8" } })),
      x16: field(quantized({ product: { compression: "x16" } })),
      x32: field(quantized({ product: { compression: "x32", always_ram: true } }), "Euclid"),
      x64: field(quantized({ product: { compression: "x64" } })),
    },
  });
  expect(await fieldsIn(name)).toMatchObject({
    scalar: { datatype: "i8", originals: true },
    binary: { datatype: "binary" },
    turbo: { datatype: "i4" },
    turbo1: { datatype: "binary" },
    two: { datatype: "i4" },
    half: { datatype: "f16" },
    turbo8: { datatype: "i8", originals: true },
    bytes: { datatype: "f32" },
    x4: { datatype: "i8", originals: true },
    x8: { datatype: "i4" },
    x16: { datatype: "pq16" },
    x32: { datatype: "pq32" },
    x64: { datatype: "pq64" },
  });
  expect(await warningsOf(name)).toBe("[]");
});

test("what Kith has no codes for is kept whole, with a warning", async () => {
  const binary = { binary: { always_ram: true } };
  await client.createCollection("far", { vectors: { size: 8, distance: "Euclid" }, quantization_config: binary });
  expect(await fieldsIn("far")).toMatchObject({ "": { datatype: "f32" } });
  expect(await warningsOf("far")).toMatch(/quantization_config/);
  const product = { product: { compression: "x2" as never } };
  await expect(
    client.createCollection("odd", { vectors: { size: 8, distance: "Dot" }, quantization_config: product }),
  ).rejects.toMatchObject({ status: 400 });
  await expect(
    client.createCollection("odd", { vectors: { size: 8, distance: "Dot", datatype: "float8" as never } }),
  ).rejects.toMatchObject({ status: 400 });
});

test("a quantization and a graph that change are built while the old ones answer, and the latest is told", async () => {
  const name = "changing";
  const random = (i: number) => Array.from({ length: 8 }, (_, j) => Math.sin(i * 8 + j + 1));
  const scalar = { scalar: { type: "int8" as const } };
  await client.createCollection(name, { vectors: { size: 8, distance: "Cosine" }, quantization_config: scalar });
  await client.upsert(name, {
    wait: true,
    points: Array.from({ length: 50 }, (_, id) => ({ id, vector: random(id) })),
  });
  await client.updateCollection(name, { quantization_config: { binary: { always_ram: true } } });
  const { config } = await client.getCollection(name);
  expect(config.quantization_config).toEqual({ binary: { always_ram: true } });
  const answers = async (datatype: string, m: number) =>
    eventually(async () => expect((await fieldsIn(name))[""]).toMatchObject({ datatype, m }), 20_000);
  await answers("binary", 16);
  await client.updateCollection(name, { quantization_config: "Disabled" as never });
  expect((await client.getCollection(name)).config.quantization_config).toBeNull();
  await answers("f32", 16);
  await client.updateCollection(name, { hnsw_config: { m: 8 } });
  await answers("f32", 8);
  const { points } = await client.query(name, { query: random(7), limit: 1 });
  expect(points).toMatchObject([{ id: 7 }]);
});

test("searches say how their results are scored", async () => {
  const name = "scored";
  const scalar = { scalar: { type: "int8" as const } };
  await client.createCollection(name, { vectors: { size: 3, distance: "Dot" }, quantization_config: scalar });
  await client.upsert(name, { wait: true, points: [{ id: 1, vector: [0.123, 0.4567, 0.89] }] });
  const scoreBy = async (quantization: object, more: object = {}): Promise<number | undefined> =>
    (await client.query(name, { query: [1, 1, 1], params: { quantization }, ...more })).points[0]?.score;
  const exact = 0.123 + 0.4567 + 0.89;
  expect(await scoreBy({})).toBeCloseTo(exact, 6);
  expect(await scoreBy({ rescore: true, oversampling: 2 })).toBeCloseTo(exact, 6);
  expect(await scoreBy({ rescore: false, ignore: true })).toBeCloseTo(exact, 6);
  const prefetch = { prefetch: { query: [1, 1, 1], limit: 5 } };
  expect(await scoreBy({ rescore: true, oversampling: 3 }, prefetch)).toBeCloseTo(exact, 6);
  await expect(scoreBy({ oversampling: 0.5 })).rejects.toMatchObject({ status: 400 });
});

test("settings of the latest version are told back", async () => {
  const name = "latest";
  const settings = { payload: { memory: "cold" }, id_tracker: { memory: "pinned" } };
  // The client leaves out what its version does not know.
  await fetch(`http://${server.node.qdrantAddress}/collections/${name}`, {
    method: "PUT",
    body: JSON.stringify({ vectors: { size: 2, distance: "Dot" }, ...settings }),
    headers: { "content-type": "application/json" },
  });
  const info = await client.getCollection(name);
  expect(info.config.params).toMatchObject(settings);
  expect(Date.parse((info as { created_at?: string }).created_at ?? "")).toBeGreaterThan(0);
  await client.upsert(name, { wait: true, points: [{ id: 1, vector: [1, 2], payload: { n: Math.cosh(2) } }] });
  const formula = { formula: { acosh: "n" } } as never;
  const { points } = await client.query(name, { prefetch: { query: [1, 0] }, query: formula });
  expect(points[0]?.score).toBeCloseTo(2, 5);
});

test("texts with scoring are ranked by BM25", async () => {
  const name = "ranked";
  await client.createCollection(name, { vectors: { size: 2, distance: "Dot" } });
  const texts = ["the quick brown fox", "a fox and another fox", "the lazy dog", "foxes, in the plural"];
  const points = texts.map((text, id) => ({ id, vector: [id, 1], payload: { text, even: id % 2 === 0 } }));
  await client.upsert(name, { wait: true, points });
  const indexed = (params: object) =>
    client.createPayloadIndex(name, {
      wait: true,
      field_name: "text",
      field_schema: { type: "text", scoring: { type: "bm25" }, ...params },
    });
  await indexed({});
  const found = async (query: object): Promise<unknown[]> =>
    (await client.query(name, { using: "text", ...query })).points.map(({ id }) => id);
  expect(await found({ query: { text: "fox" } })).toEqual([1, 0]);
  expect(await found({ query: { text: { query: "fox dog", scoring: { bm25: { k: 1.2 } } } }, limit: 1 })).toEqual([2]);
  const even = { must: [{ key: "even", match: { value: true } }] };
  expect(await found({ query: { text: "fox" }, filter: even })).toEqual([0]);
  const prefetch = [{ query: { text: "fox" }, using: "text", limit: 2 }];
  expect(await found({ prefetch, query: [1, 0], using: "" })).toEqual([1, 0]);
  expect(await client.scroll(name, { filter: { must: [{ key: "text", match: { text: "lazy" } }] } })).toMatchObject({
    points: [{ id: 2 }],
  });
  const { payload_schema: schema } = await client.getCollection(name);
  expect(schema).toMatchObject({ text: { data_type: "text", params: { scoring: { type: "bm25" } } } });
  expect(Object.keys(schema)).toEqual(["text"]);
  await indexed({ stemmer: { type: "snowball", language: "english" } });
  expect((await found({ query: { text: "fox" } })).toSorted()).toEqual([0, 1, 3]);
  const weighed = found({ query: { text: { query: "fox", scoring: { bm25: { k: 2 } } } } });
  await expect(weighed).rejects.toMatchObject({ status: 501, data: { status: { code: "UNIMPLEMENTED" } } });
  await client.deletePayloadIndex(name, "text");
  await expect(found({ query: { text: "fox" } })).rejects.toMatchObject({ status: 400 });
});
