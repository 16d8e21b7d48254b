/** JSON of requests and answers against the generated code: the same message either way. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { pb } from "../../../libs/wire/index.js";
import { composed, notOffered, routes } from "../rest/routes.js";
import { floatText, Printers } from "./answer.js";
import { callName, Descriptors, shortName } from "./descriptors.js";
import { Readers } from "./request.js";

const descriptors = new Descriptors();
const readers = new Readers();
const printers = new Printers();

function encode(type: string, json: unknown): Uint8Array {
  return readers.encode(descriptors.message(type), typeof json === "string" ? json : JSON.stringify(json));
}

function print(type: string, bytes: Uint8Array): string {
  return printers.print(descriptors.message(type), bytes);
}

test("each call has a route, or a reason why it has none", () => {
  const served = new Map(routes.map((route) => [route.call, route]));
  const missing = descriptors
    .methods()
    .map(callName)
    .filter((name) => !served.has(name) && notOffered[name] === undefined);
  expect(missing).toEqual([]);
  const known = new Set(descriptors.methods().map(callName));
  expect([...served.keys(), ...Object.keys(notOffered)].filter((name) => !known.has(name))).toEqual([]);
  expect(Object.keys(notOffered).filter((name) => served.has(name))).toEqual([]);
  const places = [...routes.map(({ verb, path }) => `${verb} ${path}`), `POST ${composed.import}`];
  expect(new Set(places).size).toBe(places.length);
});

test("a path or a query names fields that the request has", () => {
  const methods = new Map(descriptors.methods().map((method) => [callName(method), method]));
  for (const route of routes) {
    for (const part of route.path.split("/").filter((each) => each.startsWith(":"))) {
      const name = part.slice(1);
      let message = methods.get(route.call)?.input;
      for (const step of (route.bind?.[name] ?? name).split(".")) {
        const field = message?.fields.find((each) => each.name === step);
        expect(field, `${route.call} ${name}`).toBeDefined();
        message = field?.message;
      }
    }
  }
});

test("every scalar of every message has a JSON form", () => {
  for (const method of descriptors.methods()) {
    expect(() => encode(method.input.typeName, "{}")).not.toThrow();
    expect(print(method.output.typeName, new Uint8Array())).toMatch(/^\{/);
  }
});

test("a query with all that it may have", () => {
  const bytes = encode("kith.v1.QueryRequest", {
    collection: "c",
    vector: [0.5, -1],
    limit: 3,
    select: { payload: true, include: ["a.b"] },
    consistency: { linearizable: true },
    point: { name: "00000000-0000-0000-0000-000000000000" },
    filter: { must: [{ key: "n", range: { gte: 1.5 } }] },
    prefetch: [{ query: { nearest: { example: { point: 7 } } }, limit: 5 }],
    query: {
      formula: {
        expression: { sum: { operands: [{ variable: "$score" }, { constant: 2 }] } },
        defaults: { x: { number: 1 } },
      },
    },
    score_threshold: 0.25,
  });
  const query = pb.QueryRequest.decode(bytes);
  expect(query.vector).toEqual(Float32Array.of(0.5, -1));
  expect(query).toMatchObject({
    collection: "c",
    limit: 3,
    select: { payload: true, include: ["a.b"] },
    scoreThreshold: 0.25,
    point: { id: { $case: "name" } },
    prefetch: [{ limit: 5, query: { query: { $case: "nearest" } } }],
  });
  expect(query.filter?.must).toHaveLength(1);
});

test("a sparse vector is an object of indices and values, also where dense ones are lists", () => {
  const text = '{"id":1,"vector":[0.5,1],"vectors":{"a":[2],"words":{"indices":[4294967295,7],"values":[1.5,-2]}}}';
  const bytes = encode("kith.v1.Point", text);
  expect(pb.Point.decode(bytes).vectors["words"]).toEqual({
    indices: [4_294_967_295, 7],
    values: Float32Array.of(1.5, -2),
  });
  expect(print("kith.v1.Point", bytes)).toContain('"words":{"indices":[4294967295,7],"values":[1.5,-2]}');
  for (const wrong of ['{"indices":[-1],"values":[1]}', '{"indices":[4294967296],"values":[1]}', '{"index":[1]}']) {
    const point = `{"vectors":{"w":${wrong}}}`;
    expect(() => encode("kith.v1.Point", point), wrong).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  }
});

test("whole numbers of all sizes, as numbers and as texts", () => {
  for (const digits of ["0", "9007199254740993", "18446744073709551615"]) {
    for (const value of [digits, `"${digits}"`]) {
      const bytes = encode("kith.v1.RestoreBackupRequest", `{"id":"b","sequences":{"shards":{"3":${value}}}}`);
      expect(print("kith.v1.RestoreBackupRequest", bytes)).toContain(`"shards":{"3":${digits}}`);
    }
    expect(print("kith.v1.PointIds", encode("kith.v1.PointIds", `{"ids":[${digits}]}`))).toBe(`{"ids":[${digits}]}`);
  }
  for (const wrong of ["-1", "18446744073709551616", "1.5", '"1e3"', "1e30", '"x"', "true"]) {
    expect(() => encode("kith.v1.ScrollRequest", `{"limit":${wrong}}`), wrong).toThrow(/^limit: /);
  }
});

test("names that users choose are keys, whatever they are", () => {
  const bytes = encode("kith.v1.CreateCollectionRequest", '{"name":"c","labels":{"__proto__":"x","constructor":"y"}}');
  const { labels } = pb.CreateCollectionRequest.decode(bytes);
  expect(Object.keys(labels).sort()).toEqual(["__proto__", "constructor"]);
  expect(() => encode("kith.v1.CreateCollectionRequest", '{"__proto__":{"name":"c"}}')).toThrow(/unknown key/);
});

test("an f32 comes back from its text, and the text is short", () => {
  expect(
    ["0.9", "0.1", "1", "-0.25", "1e-7", "16777216", "0.33333334"].map((text) => floatText(Math.fround(Number(text)))),
  ).toEqual(["0.9", "0.1", "1", "-0.25", "1e-7", "16777216", "0.33333334"]);
  fc.assert(
    fc.property(fc.float({ noNaN: true, noDefaultInfinity: true }), (value) => {
      const text = floatText(value);
      expect(Math.fround(JSON.parse(text) as number)).toBe(value + 0);
      expect(text.replaceAll(/[-.]|e.*$/g, "").replaceAll(/^0+|0+$/g, "").length).toBeLessThan(10);
    }),
    { numRuns: 2_000 },
  );
});

test("points go through JSON and come back the same", () => {
  const point = fc.record({
    id: fc.oneof(fc.bigInt(0n, 2n ** 64n - 1n), fc.uuid(), fc.string({ minLength: 1, unit: "grapheme" })),
    vectors: fc.dictionary(
      fc.string({ maxLength: 4 }),
      fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { minLength: 1, maxLength: 4 }),
      { maxKeys: 3 },
    ),
    payload: fc.option(fc.dictionary(fc.string(), fc.jsonValue({ noUnicodeString: false })), { nil: undefined }),
    version: fc.maxSafeNat(),
  });
  fc.assert(
    fc.property(point, ({ id, vectors, payload, version }) => {
      const wire: pb.Point = {
        id: {
          id:
            typeof id === "bigint"
              ? { $case: "num", value: id }
              : { $case: /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/.test(id) ? "uuid" : "name", value: id },
        },
        vectors: Object.fromEntries(
          Object.entries(vectors).map(([name, values]) => [
            name,
            { values: Float32Array.from(values, (each) => each + 0), indices: [] },
          ]),
        ),
        payload: payload === undefined ? new Uint8Array() : Buffer.from(JSON.stringify(payload)),
        version,
        expiresAtMs: 0,
      };
      const bytes = pb.Point.encode(wire).finish();
      const again = encode("kith.v1.Point", print("kith.v1.Point", bytes));
      expect(pb.Point.decode(again)).toEqual(pb.Point.decode(bytes));
    }),
    { numRuns: 300 },
  );
});

test("names of values stand without the name of their enum, and both are read", () => {
  expect(shortName("RecommendStrategy", "RECOMMEND_STRATEGY_BEST_SCORE")).toBe("best_score");
  for (const metric of ["cosine", "METRIC_COSINE"]) {
    expect(pb.VectorField.decode(encode("kith.v1.VectorField", { metric })).metric).toBe(pb.Metric.COSINE);
  }
});

test.each([
  ['{"ids":[1', /not JSON/],
  ['{"ids":[1]}x', /the end/],
  ['{"ids":{}}', /^ids: expected a list/],
  ['{"ids":{"a":[1]},"x":{}}', /^ids: expected a list, found "\{\\"a\\":\[1\]\}"$/],
  ['{"ids":[-1]}', /not in 0/],
  ['{"ids":["\\ud800"]}', /lone surrogate/],
  ['{"ids":["\u0001"]}', /control/],
  ['{"ids":[{"uuid":"x"}]}', /"name"/],
  ['["ids"]', /an object/],
])("refused: %s", (text, message) => {
  expect(() => encode("kith.v1.PointIds", text)).toThrow(message);
});

test.each(['{"ids":["\\ud800"]}', '{"ids":[{"name":"a\\udc00b"}]}'])("%s has an id that UTF-8 cannot hold", (text) => {
  expect(() => encode("kith.v1.PointIds", text)).toThrow(expect.objectContaining({ code: "INVALID_ID" }) as Error);
});

test("a number in the path is a number of the request", () => {
  const split = descriptors.message("kith.v1.SplitShardRequest");
  const bound = (value: string) => [{ path: ["shard"], value, source: "the path" }];
  expect(pb.SplitShardRequest.decode(readers.encode(split, '{"into":4}', bound("7")))).toMatchObject({
    shard: 7,
    into: 4,
  });
  for (const wrong of ["x", "-1", "7x", "4294967296", ""]) {
    expect(() => readers.encode(split, "", bound(wrong)), wrong).toThrow(/^shard: /);
  }
});

test("an answer in pieces is the same text, whatever is large in it", () => {
  const large = Buffer.from(JSON.stringify({ text: "é".repeat(40_000) }));
  const id = { id: { $case: "num" as const, value: 7n } };
  const point = pb.Point.create({ id, payload: large, vectors: { v: { values: Float32Array.of(1, 2) } } });
  const hit = { id, score: 0.5, payload: large, version: 3 };
  const explain = {
    steps: [
      {
        name: "answer",
        facts: [{ name: "n", value: { $case: "number" as const, value: 3 } }],
        steps: [{ name: "inner" }],
      },
    ],
  };
  const query = pb.QueryResponse.fromPartial({ points: [hit, hit], missing: [{ first: 1, last: 2 }], explain });
  const failure = { $case: "failure" as const, value: { code: "UNKNOWN_VECTOR", message: "é", details: { a: "b" } } };
  const answers: [string, Uint8Array][] = [
    ["QueryResponse", pb.QueryResponse.encode(query).finish()],
    ["QueryResponse", pb.QueryResponse.encode(pb.QueryResponse.create()).finish()],
    ["GetPointsResponse", pb.GetPointsResponse.encode(pb.GetPointsResponse.create({ points: [point] })).finish()],
    [
      "ScrollResponse",
      pb.ScrollResponse.encode(pb.ScrollResponse.create({ points: [point], orders: [1, 2] })).finish(),
    ],
    [
      "QueryBatchResponse",
      pb.QueryBatchResponse.encode(
        pb.QueryBatchResponse.fromPartial({
          results: [{ outcome: { $case: "response", value: query } }, { outcome: failure }, {}],
        }),
      ).finish(),
    ],
    [
      "QueryGroupsResponse",
      pb.QueryGroupsResponse.encode(
        pb.QueryGroupsResponse.fromPartial({
          groups: [{ value: { $case: "integer", value: 7 }, points: [hit], lookup: point }, { points: [] }],
        }),
      ).finish(),
    ],
    ["FacetResponse", pb.FacetResponse.encode(pb.FacetResponse.create()).finish()],
  ];
  for (const [name, bytes] of answers) {
    const pieces = [...printers.pieces(descriptors.message(`kith.v1.${name}`), bytes)];
    expect(pieces.join("")).toBe(print(`kith.v1.${name}`, bytes));
    expect(Math.max(...pieces.map((piece) => piece.length))).toBeLessThan(2 * large.length);
  }
});
