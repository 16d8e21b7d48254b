/** Messages of Qdrant's clients become the JSON of its REST API, and its answers messages again. The other side is protobuf's own library. */
import { create, type DescMessage, fromBinary, toBinary, toJson } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { systemClock } from "../../../../libs/base/index.js";
import { isJsonObject, type JsonValue, parseJson } from "../../../../libs/model/index.js";
import { JsonText } from "../values.js";
import { MessageReaders } from "./reader.js";
import { qdrantMethods } from "./schema.js";
import type { Source } from "./source.js";
import { MessageWriters } from "./writer.js";

const methods = qdrantMethods();
const readers = new MessageReaders();
const writers = new MessageWriters();

/** Every message that a request is made of, by its name. */
const messages = new Map<string, DescMessage>();
function note(message: DescMessage): void {
  if (messages.has(message.name)) return;
  messages.set(message.name, message);
  for (const field of message.fields) if (field.message !== undefined) note(field.message);
}
for (const { input, output } of methods.values()) for (const message of [input, output]) note(message);

function messageOf(name: string): DescMessage {
  const found = messages.get(name);
  if (found === undefined) throw new Error(`there is no message ${name}`);
  return found;
}

/** What is read of a message that protobuf's library has written. */
function read(name: string, init: Record<string, unknown>): JsonValue {
  const message = messageOf(name);
  return readers.decode(message, toBinary(message, create(message, init)));
}

/** The JSON of protobuf's library of what is written. */
function written(name: string, value: Source): unknown {
  const message = messageOf(name);
  return toJson(message, fromBinary(message, writers.encode(message, value, systemClock) as Buffer));
}

const kind = (name: string, value: unknown) => ({ kind: { case: name, value } });

describe("requests", () => {
  test("vectors of all kinds, and those of older clients", () => {
    const values = { data: [1, 2.5] };
    expect(read("Vector", { vector: { case: "dense", value: values } })).toEqual(Float32Array.of(1, 2.5));
    expect(read("Vector", { data: [1, 2] })).toEqual(Float32Array.of(1, 2));
    const sparse = { indices: [7, 3], values: [0.5, 1] };
    expect(read("Vector", { vector: { case: "sparse", value: sparse } })).toEqual(sparse);
    expect(read("Vector", { data: [0.5, 1], indices: { data: [7, 3] } })).toEqual(sparse);
    const several = { vectors: [{ data: [1, 2] }, { data: [3, 4] }] };
    const lists = [
      [1, 2],
      [3, 4],
    ];
    expect(read("Vector", { vector: { case: "multiDense", value: several } })).toEqual(lists);
    expect(read("Vector", { data: [1, 2, 3, 4], vectorsCount: 2 })).toEqual(lists);
    expect(() => read("Vector", { data: [1, 2, 3], vectorsCount: 2 })).toThrow(/3 numbers are no 2 vectors/);
    expect(() => read("Vector", { data: [], vectorsCount: 3 })).toThrow(/0 numbers are no 3 vectors/);
    expect(() => read("Vector", { data: [1], vectorsCount: 4_294_967_295 })).toThrow(/1 numbers are no/);
    const text = { text: "hello", model: "qdrant/bm25", options: { k: kind("doubleValue", 1.5) } };
    expect(read("VectorInput", { variant: { case: "document", value: text } })).toEqual({
      text: "hello",
      model: "qdrant/bm25",
      options: { k: 1.5 },
    });
  });

  test("payloads keep digits, floats, nulls and every key", () => {
    const fields = {
      big: kind("integerValue", 9_007_199_254_740_993n),
      whole: kind("doubleValue", 1),
      list: kind("listValue", { values: [kind("nullValue", 0), kind("boolValue", true), {}] }),
      constructor: kind("structValue", { fields: { a: kind("stringValue", "b") } }),
    };
    const point = read("PointStruct", {
      id: { pointIdOptions: { case: "num", value: 2n ** 64n - 1n } },
      payload: fields,
    });
    expect(point).toEqual({
      id: 2n ** 64n - 1n,
      payload: parseJson('{"big":9007199254740993,"whole":1.0,"list":[null,true,null],"constructor":{"a":"b"}}'),
    });
    expect(() => read("PointStruct", { payload: { x: kind("doubleValue", Infinity) } })).toThrow(/none of JSON/);
  });

  test("selectors, filters and queries have the form of REST", () => {
    expect(read("WithPayloadSelector", { selectorOptions: { case: "enable", value: false } })).toBe(false);
    expect(read("WithVectorsSelector", { selectorOptions: { case: "include", value: { names: ["a"] } } })).toEqual([
      "a",
    ]);
    const condition = (name: string, value: object) => ({ conditionOneOf: { case: name, value } });
    const since = { gte: { seconds: 1_700_000_000n, nanos: 5_000 } };
    const filter = read("Filter", {
      must: [
        condition("field", { key: "a", match: { matchValue: { case: "prefix", value: "x" } } }),
        condition("field", { key: "b", datetimeRange: since }),
        condition("field", { key: "c", geoRadius: { center: { lon: 1, lat: 2 }, radius: 5 } }),
        condition("field", { key: "d", isEmpty: true }),
        condition("nested", { key: "e", filter: { mustNot: [condition("isNull", { key: "f" })] } }),
        condition("slice", { total: 4, index: 1 }),
        condition("hasVector", { hasVector: "g" }),
      ],
      minShould: { minCount: 2n },
    });
    const none = { must: [], should: [], must_not: [] };
    expect(filter).toEqual({
      ...none,
      must: [
        { key: "a", match: { prefix: "x" } },
        { key: "b", range: { gte: "2023-11-14T22:13:20.000005000Z" } },
        { key: "c", geo_radius: { center: { lon: 1, lat: 2 }, radius: 5 } },
        { key: "d", is_empty: true },
        { nested: { key: "e", filter: { ...none, must_not: [{ is_null: { key: "f" } }] } } },
        { slice: { total: 4, index: 1 } },
        { has_vector: "g" },
      ],
      min_should: { conditions: [], min_count: 2 },
    });
    const expression = { variant: { case: "neg", value: { variant: { case: "constant", value: 2 } } } };
    const formula = { expression, defaults: { price: kind("integerValue", 3n) } };
    expect(read("Query", { variant: { case: "formula", value: formula } })).toEqual({
      formula: { neg: 2 },
      defaults: { price: 3 },
    });
    const fallback = { key: { case: "number", value: 7n } };
    expect(read("ShardKeySelector", { shardKeys: [{ key: { case: "keyword", value: "a" } }], fallback })).toEqual({
      target: "a",
      fallback: 7,
    });
  });

  test("of the members of a oneof the last one counts", () => {
    const message = messageOf("PointId");
    const num = toBinary(message, create(message, { pointIdOptions: { case: "num", value: 5n } }));
    const uuid = toBinary(message, create(message, { pointIdOptions: { case: "uuid", value: "u" } }));
    expect(readers.decode(message, Buffer.concat([num, uuid]))).toBe("u");
    expect(readers.decode(message, Buffer.concat([uuid, num]))).toBe(5);
  });

  test("bytes that are cut or changed are read as something else, or refused; nothing hangs and nothing breaks", () => {
    const message = messageOf("QueryPoints");
    const vector = { variant: { case: "dense", value: { data: [1, 2, 3] } } };
    const field = { key: "a", match: { matchValue: { case: "keywords", value: { strings: ["x", "y"] } } } };
    const init = {
      collectionName: "films",
      prefetch: [{ query: { variant: { case: "nearest", value: vector } }, limit: 5n }],
      query: { variant: { case: "fusion", value: 0 } },
      filter: { must: [{ conditionOneOf: { case: "field", value: field } }] },
      limit: 10n,
    };
    const bytes = toBinary(message, create(message, init));
    let readable = 0;
    fc.assert(
      fc.property(
        fc.array(fc.record({ at: fc.nat(bytes.length - 1), to: fc.nat(255) }), { maxLength: 4 }),
        fc.nat(bytes.length),
        (changes, length) => {
          const changed = Uint8Array.from(bytes);
          for (const { at, to } of changes) changed[at] = to;
          let value: JsonValue;
          try {
            value = readers.decode(message, changed.subarray(0, length));
          } catch (error) {
            expect(error).toBeInstanceOf(Error);
            // Text that is not UTF-8 is the one thing that is told so.
            if (error instanceof TypeError) expect(error.message).toMatch(/encoded data was not valid/);
            return;
          }
          readable++;
          expect(isJsonObject(value)).toBe(true);
        },
      ),
      { numRuns: 3_000 },
    );
    expect(readable).toBeGreaterThan(10);
  });
});

describe("answers", () => {
  test("points with payloads, vectors, orders and shard keys", () => {
    const payload = new JsonText('{"n":9007199254740993,"f":1.0,"l":[null,"a",{"__proto__":2}]}');
    const point = { id: 2n ** 64n - 1n, version: 3, score: 0.5, payload, order_value: 1.5, shard_key: "acme" };
    expect(written("ScoredPoint", { ...point, vector: Float32Array.of(1, 2) })).toEqual({
      id: { num: "18446744073709551615" },
      version: "3",
      score: 0.5,
      payload: {
        n: { integerValue: "9007199254740993" },
        f: { doubleValue: 1 },
        l: {
          listValue: {
            values: [
              { nullValue: "NULL_VALUE" },
              { stringValue: "a" },
              { structValue: { fields: JSON.parse('{"__proto__":{"integerValue":"2"}}') as object } },
            ],
          },
        },
      },
      orderValue: { float: 1.5 },
      shardKey: { keyword: "acme" },
      vectors: { vector: { dense: { data: [1, 2] } } },
    });
    const vector = {
      a: Float32Array.of(1),
      b: { indices: [4], values: [0.5] },
      c: [Float32Array.of(1), Float32Array.of(2)],
    };
    expect(written("RetrievedPoint", { id: "u", vector })).toEqual({
      id: { uuid: "u" },
      vectors: {
        vectors: {
          vectors: {
            a: { dense: { data: [1] } },
            b: { sparse: { indices: [4], values: [0.5] } },
            c: { multiDense: { vectors: [{ data: [1] }, { data: [2] }] } },
          },
        },
      },
    });
  });

  test("settings that were given come back as they were", () => {
    const several = { comparator: "max_sim" };
    const params = { vectors: { a: { size: 3, distance: "Dot", datatype: "float16", multivector_config: several } } };
    const config = {
      params: { ...params, sparse_vectors: { s: { modifier: "idf" } }, sharding_method: "custom" },
      quantization_config: new JsonText('{"binary":{"always_ram":true,"query_encoding":"scalar4bits"}}'),
      optimizer_config: new JsonText('{"deleted_threshold":0.25,"max_optimization_threads":"auto"}'),
      strict_mode_config: new JsonText('{"enabled":true,"sparse_config":{"s":{"max_length":7}}}'),
    };
    const texts = { type: "text", tokenizer: "prefix", stopwords: "english", stemmer: { type: "none" } };
    const schema = { title: { data_type: "text", params: texts, points: 2 } };
    expect(
      written("CollectionInfo", { status: "yellow", optimizer_status: "ok", config, payload_schema: schema }),
    ).toEqual({
      status: "Yellow",
      optimizerStatus: { ok: true },
      config: {
        params: {
          vectorsConfig: {
            paramsMap: {
              map: { a: { size: "3", distance: "Dot", datatype: "Float16", multivectorConfig: {} } },
            },
          },
          sparseVectorsConfig: { map: { s: { modifier: "Idf" } } },
          shardingMethod: "Custom",
        },
        quantizationConfig: { binary: { alwaysRam: true, queryEncoding: { setting: "Scalar4Bits" } } },
        optimizerConfig: { deletedThreshold: 0.25, maxOptimizationThreads: { setting: "Auto" } },
        strictModeConfig: { enabled: true, sparseConfig: { sparseConfig: { s: { maxLength: "7" } } } },
      },
      payloadSchema: {
        title: {
          dataType: "Text",
          params: {
            textIndexParams: { tokenizer: "Prefix", stopwords: { languages: ["english"] }, stemmer: { disabled: {} } },
          },
          points: "2",
        },
      },
    });
  });

  test("groups, facets, matrices and times", () => {
    expect(written("GroupId", -3)).toEqual({ integerValue: "-3" });
    expect(written("GroupId", 3)).toEqual({ unsignedValue: "3" });
    expect(written("FacetHit", { value: true, count: 4 })).toEqual({ value: { boolValue: true }, count: "4" });
    const matrix = { offsets_row: [0, 1], offsets_col: [1, 0], scores: [0.5, 0.25], ids: [1n, "u"] };
    expect(written("SearchMatrixOffsets", matrix)).toEqual({
      offsetsRow: ["0", "1"],
      offsetsCol: ["1", "0"],
      scores: [0.5, 0.25],
      ids: [{ num: "1" }, { uuid: "u" }],
    });
    const made = { name: "s", creation_time: "2026-01-02T03:04:05", size: 7 };
    expect(written("SnapshotDescription", made)).toEqual({
      name: "s",
      creationTime: "2026-01-02T03:04:05Z",
      size: "7",
    });
  });
});

test("large answers are written in turns, and others in between", async () => {
  let turns = 0;
  const clock = { soon: (work: () => void) => void (turns++, setImmediate(work)) };
  const text = "x".repeat(64 * 1024);
  const pointsOf = (count: number, first: number) =>
    Array.from({ length: count }, (_, i) => ({ id: first + i, score: 0.5, version: 1, payload: { text } }));
  const groups = [0, 100].map((first) => ({ id: "g", hits: pointsOf(60, first) }));
  const asked: [string, Source][] = [
    ["QueryResponse", { result: pointsOf(100, 1), time: 0.5 }],
    [
      "QueryBatchResponse",
      { result: [pointsOf(40, 1), pointsOf(1, 50), pointsOf(60, 100)].map((result) => ({ result })) },
    ],
    ["ScrollResponse", { result: pointsOf(90, 7) }],
    ["QueryGroupsResponse", { result: { groups } }],
  ];
  const bytesOf = async ([name, value]: [string, Source]): Promise<string> => {
    const message = messageOf(name);
    return JSON.stringify(toJson(message, fromBinary(message, await writers.encode(message, value, clock))));
  };
  const alone: string[] = [];
  for (const each of asked) alone.push(await bytesOf(each));
  // Five to eight MB each, of which one is written in a turn.
  expect(turns).toBeGreaterThan(20);
  const together = asked.map(bytesOf);
  const small = writers.encode(messageOf("QueryResponse"), { result: [{ id: 1, score: 2 }] }, clock);
  expect(small).toBeInstanceOf(Buffer);
  expect((await Promise.all(together)).map((each, i) => each === alone[i])).toEqual([true, true, true, true]);
  // The first answer as the library reads it has every point, in order.
  const { result } = JSON.parse(alone[0] as string) as { result: { id: { num: string } }[] };
  expect(result.map(({ id }) => Number(id.num))).toEqual(Array.from({ length: 100 }, (_, i) => 1 + i));
  // One that fails on its way disturbs nobody.
  const bad = [
    {
      id: 1,
      get payload(): never {
        throw new Error("bad point");
      },
    },
    ...pointsOf(40, 2),
  ];
  await expect(writers.encode(messageOf("QueryResponse"), { result: bad as never }, clock)).rejects.toThrow(
    "bad point",
  );
  expect(await bytesOf(asked[2] as [string, Source])).toBe(alone[2]);
});
