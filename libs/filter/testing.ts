import * as fc from "fast-check";
import {
  type Bounds,
  boundNames,
  type Condition,
  type Filter,
  filterOf,
  type GeoPoint,
  type GeoRing,
  type IdKey,
  idFromName,
  idFromNum,
  idFromUuid,
  integer,
  JsonFloat,
  type JsonObject,
  type JsonValue,
  type Match,
  type Path,
  type PathStep,
  pathOf,
} from "../model/index.js";
import { formatDatetime } from "./datetime.js";
import { ringProblem } from "./geo.js";

// Small pools: random filters should pass some of the random payloads, and random histories meet the same values again.

const keys = ["a", "b", "tags", "__proto__", "x y"];
const wordPool = ["red", "Green", "BLUE", "don't", "東京都", "naïve", "x1"];
const uuidPool = [
  "550e8400-e29b-41d4-a716-446655440000",
  "00000000-0000-4000-8000-000000000001",
  "550E8400-E29B-41D4-A716-446655440000",
];

const word = fc.constantFrom(...wordPool);
const text = fc.oneof(
  word,
  fc.array(word, { maxLength: 4 }).map((words) => words.join(" ")),
  fc.string({ unit: "binary", maxLength: 3 }),
);
const int = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: -3, max: 6 }) },
  { weight: 1, arbitrary: fc.constantFrom(2 ** 53 - 1, 2n ** 53n, 2n ** 53n + 1n, 2n ** 63n - 1n, -(2n ** 63n)) },
);
/** No negative zero: JSON's integers have none. */
const float = fc.oneof(
  fc.constantFrom(0.5, 1.5, -2.5),
  fc.double({ min: -10, max: 10, noNaN: true, noDefaultInfinity: true }).filter((value) => !Number.isInteger(value)),
);
const micros = fc.oneof(
  fc.constantFrom(0, 1, 1_700_000_000_000_000, 1_700_000_000_000_001),
  fc.bigInt({ min: -62_167_219_200_000_000n, max: 253_402_300_799_999_999n }).map(integer),
);
const lat = fc.oneof(fc.integer({ min: -9, max: 9 }), fc.constantFrom(-90, 90, 52.5)).map((each) => each + 0);
const lon = fc
  .oneof(fc.integer({ min: -9, max: 9 }), fc.constantFrom(-180, 180, 179, -179, 13.4))
  .map((each) => each + 0);
const geoPoint: fc.Arbitrary<GeoPoint> = fc.record({ lat, lon });

const scalar: fc.Arbitrary<JsonValue> = fc.oneof(
  { weight: 1, arbitrary: fc.constantFrom(null, true, false) },
  { weight: 3, arbitrary: int },
  {
    weight: 2,
    arbitrary: fc.oneof(
      float,
      int.map((value) => new JsonFloat(Number(value))),
    ),
  },
  { weight: 4, arbitrary: text },
  { weight: 1, arbitrary: micros.map(formatDatetime) },
  { weight: 1, arbitrary: fc.constantFrom(...uuidPool) },
  { weight: 2, arbitrary: geoPoint.map((point): JsonObject => ({ lat: point.lat, lon: point.lon })) },
);

const { object } = fc.letrec<{ value: JsonValue; object: JsonObject }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    { weight: 5, arbitrary: scalar },
    { weight: 2, arbitrary: fc.array(fc.oneof({ weight: 3, arbitrary: scalar }, tie("value")), { maxLength: 3 }) },
    { weight: 1, arbitrary: fc.array(tie("object"), { maxLength: 3 }) },
    { weight: 1, arbitrary: tie("object") },
  ),
  object: fc.array(fc.tuple(fc.constantFrom(...keys), tie("value")), { maxLength: 4 }).map(ownProperties),
}));

function ownProperties(entries: [string, JsonValue][]): JsonObject {
  const built: JsonObject = {};
  for (const [key, each] of entries) {
    Object.defineProperty(built, key, { value: each, enumerable: true, configurable: true, writable: true });
  }
  return built;
}

/** Payloads with few keys and values, so that conditions find some. */
export const payloads: fc.Arbitrary<JsonObject> = object;

export const pointIds: fc.Arbitrary<IdKey> = fc.oneof(
  fc.integer({ min: 0, max: 9 }).map(idFromNum),
  fc.constant(2n ** 64n - 1n).map(idFromNum),
  fc.constantFrom(...uuidPool).map(idFromUuid),
  fc.constantFrom("one", "550e8400-e29b-41d4-a716-446655440000", 'a"b\\c').map(idFromName),
);

const step: fc.Arbitrary<PathStep> = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...keys).map((key): PathStep => ({ kind: "key", key })) },
  { weight: 2, arbitrary: fc.constant<PathStep>({ kind: "each" }) },
  { weight: 1, arbitrary: fc.nat(2).map((index): PathStep => ({ kind: "index", index })) },
);

export const paths: fc.Arbitrary<Path> = fc
  .tuple(fc.constantFrom(...keys), fc.array(step, { maxLength: 2 }))
  .map(([key, rest]) => pathOf([{ kind: "key", key }, ...rest]));

/** Mostly one bound, or one on each side. */
const boundSets: readonly (readonly (keyof Bounds<unknown>)[])[] = [
  ...boundNames.map((name) => [name]),
  ...(["gt", "gte"] as const).flatMap((low) => [
    [low, "lt" as const],
    [low, "lte" as const],
  ]),
  [],
  boundNames,
];

function boundsOf<T>(value: fc.Arbitrary<T>): fc.Arbitrary<Bounds<T>> {
  return fc
    .tuple(fc.constantFrom(...boundSets), fc.tuple(value, value, value, value))
    .map(([names, values]) => Object.fromEntries(names.map((name, i) => [name, values[i]])) as Bounds<T>);
}

const list = fc.oneof(fc.array(text, { maxLength: 4 }), fc.array(int, { maxLength: 4 }));

const match: fc.Arbitrary<Match> = fc.oneof(
  fc.oneof(text, int, fc.boolean()).map((value): Match => ({ kind: "value", value })),
  list.map((values): Match => ({ kind: "any", values })),
  list.map((values): Match => ({ kind: "except", values })),
  fc.constantFrom(...uuidPool).map((value): Match => ({ kind: "value", value })),
  ...(["text", "textAny", "phrase", "prefix", "substring"] as const).map((kind) =>
    text.map((each): Match => ({ kind, text: each })),
  ),
);

/** Corners around a middle, in the order of their angles. */
const ring: fc.Arbitrary<GeoRing> = fc
  .array(fc.tuple(fc.double({ min: 0, max: 2 * Math.PI, noNaN: true }), fc.integer({ min: 1, max: 9 })), {
    minLength: 3,
    maxLength: 6,
  })
  .map((corners) => {
    const sorted = [...corners].sort((a, b) => a[0] - b[0]);
    const points = sorted.map(([angle, far]) => ({
      lat: Math.round(far * Math.sin(angle)) + 0,
      lon: Math.round(far * Math.cos(angle)) + 0,
    }));
    return [...points, points[0] as GeoPoint];
  })
  .filter((points) => ringProblem(points) === undefined);

const leaf: fc.Arbitrary<Condition> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("match" as const), path: paths, match }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("range" as const), path: paths, range: boundsOf(fc.oneof(int, float)) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("datetimeRange" as const),
      path: paths,
      range: boundsOf(micros).filter((bounds) => Object.keys(bounds).length > 0),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("geoRadius" as const),
      path: paths,
      center: geoPoint,
      radiusMeters: fc.oneof(
        fc.double({ min: 0, max: 2e6, noNaN: true }).map((each) => each + 0),
        fc.constant(3e7),
      ),
    }),
  },
  {
    weight: 1,
    arbitrary: fc
      .record({ kind: fc.constant("geoBox" as const), path: paths, topLeft: geoPoint, bottomRight: geoPoint })
      .filter((box) => box.topLeft.lat >= box.bottomRight.lat),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("geoPolygon" as const),
      path: paths,
      exterior: ring,
      interiors: fc.array(ring, { maxLength: 1 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("valuesCount" as const), path: paths, range: boundsOf(fc.nat(3)) }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom("isEmpty" as const, "isNull" as const), path: paths }) },
);

const pointLeaf: fc.Arbitrary<Condition> = fc.oneof(
  fc.record({ kind: fc.constant("hasId" as const), ids: fc.array(pointIds, { maxLength: 6 }) }),
  fc.record({ kind: fc.constant("hasVector" as const), name: fc.constantFrom("", "image", "a b") }),
  fc.record({ kind: fc.constant("partition" as const), partition: fc.constantFrom("acme", "7", "a b") }),
  fc
    .integer({ min: 1, max: 4 })
    .chain((total) =>
      fc.record({ kind: fc.constant("slice" as const), index: fc.nat(total - 1), total: fc.constant(total) }),
    ),
);

type Trees = {
  condition: Condition;
  element: Condition;
};

function filterWith(condition: fc.Arbitrary<Condition>): fc.Arbitrary<Filter> {
  const conditions = fc.array(condition, { maxLength: 2 });
  const minShould = fc
    .array(condition, { minLength: 1, maxLength: 3 })
    .chain((list) => fc.record({ conditions: fc.constant(list), count: fc.integer({ min: 1, max: list.length }) }));
  return fc
    .record({
      must: conditions,
      should: conditions,
      mustNot: conditions,
      minShould: fc.option(minShould, { nil: undefined, freq: 8 }),
    })
    .map(filterOf);
}

function isNotEmpty(filter: Filter): boolean {
  return filter.must.length + filter.should.length + filter.mustNot.length > 0 || filter.minShould !== undefined;
}

const trees = fc.letrec<Trees>((tie) => ({
  // What stands in an element of an array: nothing about the point.
  element: fc.oneof(
    { maxDepth: 2 },
    { weight: 6, arbitrary: leaf },
    { weight: 1, arbitrary: nestedOf(tie("element")) },
    { weight: 1, arbitrary: innerOf(tie("element")) },
  ),
  condition: fc.oneof(
    { maxDepth: 3 },
    { weight: 8, arbitrary: leaf },
    { weight: 2, arbitrary: pointLeaf },
    { weight: 2, arbitrary: nestedOf(tie("element")) },
    { weight: 2, arbitrary: innerOf(tie("condition")) },
  ),
}));

function nestedOf(condition: fc.Arbitrary<Condition>): fc.Arbitrary<Condition> {
  return fc.record({
    kind: fc.constant("nested" as const),
    path: paths,
    filter: filterWith(condition).filter(isNotEmpty),
  });
}

function innerOf(condition: fc.Arbitrary<Condition>): fc.Arbitrary<Condition> {
  return fc.record({ kind: fc.constant("filter" as const), filter: filterWith(condition).filter(isNotEmpty) });
}

/** Valid conditions of every kind. */
export const conditions: fc.Arbitrary<Condition> = trees.condition;

/** Valid filters of every kind, the empty one among them. */
export const filters: fc.Arbitrary<Filter> = filterWith(trees.condition);
