import * as fc from "fast-check";
import { expect, test } from "vitest";
import { type GeoPoint, type GeoPolygonCondition, parseJson, parsePath } from "../model/index.js";
import { geoDistanceMeters, geoPointOf, geoTest, ringProblem } from "./geo.js";

const path = parsePath("place");
const at = (lat: number, lon: number): GeoPoint => ({ lat, lon });
const ring = (...points: [number, number][]): GeoPoint[] => points.map(([lat, lon]) => at(lat, lon));
const polygon = (exterior: GeoPoint[], ...interiors: GeoPoint[][]): GeoPolygonCondition => ({
  kind: "geoPolygon",
  path,
  exterior,
  interiors,
});

test("distances are those of the haversine formula on the mean radius", () => {
  const berlin = at(52.52, 13.405);
  expect(geoDistanceMeters(berlin, berlin)).toBe(0);
  // From the formula in Python's floats.
  expect(geoDistanceMeters(at(55.7558, 37.6173), at(51.5074, -0.1278))).toBeCloseTo(2_500_539.474908, 5);
  expect(geoDistanceMeters(at(0, 179.5), at(0, -179.5))).toBeCloseTo((Math.PI / 180) * 6_371_008.8, 3);
  expect(geoDistanceMeters(at(90, 0), at(-90, 77))).toBeCloseTo(Math.PI * 6_371_008.8, 3);
});

test("a radius holds what is nearer, also across the date line and around a pole", () => {
  const within = geoTest({ kind: "geoRadius", path, center: at(0, 179.9), radiusMeters: 30_000 });
  expect([within(0, 179.9), within(0, -179.9), within(0, -179.5), within(0.2, 179.9), within(0.3, 179.9)]).toEqual([
    true,
    true,
    false,
    true,
    false,
  ]);
  const polar = geoTest({ kind: "geoRadius", path, center: at(89.9, 0), radiusMeters: 30_000 });
  expect([polar(89.9, 180), polar(89.9, 90), polar(89.7, 180)]).toEqual([true, true, false]);
  const nothing = geoTest({ kind: "geoRadius", path, center: at(1, 2), radiusMeters: 0 });
  expect(nothing(1, 2)).toBe(false);
});

test("the quick refusal by latitude refuses nothing that is near enough", () => {
  const lat = fc.double({ min: -90, max: 90, noNaN: true });
  const lon = fc.double({ min: -180, max: 180, noNaN: true });
  fc.assert(
    fc.property(lat, lon, lat, lon, fc.double({ min: 0, max: 2.1e7, noNaN: true }), (a, b, c, d, radiusMeters) => {
      const test = geoTest({ kind: "geoRadius", path, center: at(a, b), radiusMeters });
      expect(test(c, d)).toBe(geoDistanceMeters(at(a, b), at(c, d)) < radiusMeters);
    }),
  );
});

test("a box leaves its edge out and may cross the date line", () => {
  const box = geoTest({ kind: "geoBox", path, topLeft: at(10, 170), bottomRight: at(-10, -170) });
  expect([box(0, 175), box(0, -175), box(0, 170), box(0, 0), box(10, 175), box(-9.9, 180)]).toEqual([
    true,
    true,
    false,
    false,
    false,
    true,
  ]);
});

test("a polygon leaves out its edges, its corners and its holes with their edges", () => {
  const square = ring([0, 0], [0, 10], [10, 10], [10, 0], [0, 0]);
  const hole = ring([4, 4], [4, 6], [6, 6], [6, 4], [4, 4]);
  const inside = geoTest(polygon(square, hole));
  expect([inside(2, 2), inside(5, 2), inside(5, 8), inside(4, 2), inside(6, 8)]).toEqual([
    true,
    true,
    true,
    true,
    true,
  ]);
  expect([inside(0, 5), inside(0, 0), inside(10, 10), inside(5, 10), inside(11, 5), inside(5, -1)]).toEqual(
    Array.from({ length: 6 }, () => false),
  );
  expect([inside(5, 5), inside(4, 5), inside(4, 4), inside(6, 6)]).toEqual([false, false, false, false]);
});

test("triangles that tile a square hold every point in one of them at most, and those off their edges in one", () => {
  const coordinate = fc.integer({ min: 0, max: 8 });
  const inner = fc.tuple(fc.integer({ min: 1, max: 7 }), fc.integer({ min: 1, max: 7 }));
  fc.assert(
    fc.property(inner, coordinate, coordinate, fc.boolean(), ([midLat, midLon], lat, lon, third) => {
      const corners = ring([0, 0], [0, 8], [8, 8], [8, 0], [0, 0]);
      const triangles = [0, 1, 2, 3].map((i) =>
        geoTest(polygon([corners[i], corners[i + 1], at(midLat, midLon), corners[i]] as GeoPoint[])),
      );
      // Thirds lie on none of the edges from a corner to the middle but the diagonal ones.
      const point = third ? at(lat + 1 / 3, lon + 1 / 7) : at(lat, lon);
      const hits = triangles.filter((inside) => inside(point.lat, point.lon)).length;
      expect(hits).toBeLessThanOrEqual(1);
      if (third && point.lat < 8 && point.lon < 8 && !onRay(point, midLat, midLon)) expect(hits).toBe(1);
    }),
  );
});

/** In whole numbers: whether a point of thirds and sevenths lies on one of the four lines from the middle to a corner. */
function onRay(point: GeoPoint, midLat: number, midLon: number): boolean {
  const lat = Math.round(point.lat * 21);
  const lon = Math.round(point.lon * 21);
  return [0, 168].some((a) => [0, 168].some((b) => (lat - a) * (midLon * 21 - b) === (lon - b) * (midLat * 21 - a)));
}

test.each<[string, GeoPoint[], RegExp | undefined]>([
  ["a triangle", ring([0, 0], [0, 1], [1, 0], [0, 0]), undefined],
  ["a concave ring", ring([0, 0], [0, 4], [2, 1], [4, 4], [4, 0], [0, 0]), undefined],
  ["a corner on a straight line", ring([0, 0], [0, 2], [0, 4], [4, 4], [0, 0]), undefined],
  ["a point twice in a row", ring([0, 0], [0, 0], [0, 1], [1, 1], [1, 1], [0, 0]), undefined],
  ["three points", ring([0, 0], [0, 1], [0, 0]), /at least 4 points/],
  ["an open ring", ring([0, 0], [0, 1], [1, 1], [1, 0]), /not closed/],
  ["one place", ring([0, 0], [0, 0], [0, 0], [0, 0]), /different points/],
  ["a bow tie", ring([0, 0], [4, 4], [4, 0], [0, 4], [0, 0]), /crosses itself/],
  ["a line there and back", ring([0, 0], [1, 1], [2, 2], [0, 0]), /crosses itself/],
  ["a spike", ring([0, 0], [0, 4], [0, 2], [4, 2], [0, 0]), /crosses itself/],
  ["two rings in one corner", ring([0, 0], [0, 2], [2, 0], [0, 0], [0, -2], [-2, 0], [0, 0]), /touches/],
  ["a corner on another edge", ring([0, 0], [0, 4], [4, 4], [0, 2], [4, 0], [0, 0]), /touches/],
  ["edges over one another", ring([0, 0], [0, 4], [2, 4], [2, 5], [0, 5], [0, 2], [-2, 2], [0, 0]), /touches/],
])("%s", (_, points, problem) => {
  const found = ringProblem(points);
  if (problem === undefined) expect(found).toBeUndefined();
  else expect(found).toMatch(problem);
});

test("a payload's point has two numbers in their ranges as its own keys", () => {
  expect(geoPointOf(parseJson('{"lat": 1.0, "lon": -180}'))).toEqual(at(1, -180));
  for (const text of [
    '{"lat": 1}',
    '{"lat": "1", "lon": 2}',
    '{"lat": 90.001, "lon": 2}',
    '{"lat": 1, "lon": -180.5}',
    '{"lat": 1, "lon": 12345678901234567890}',
    "[1, 2]",
    "null",
    '{"__proto__": {"lat": 1, "lon": 2}}',
  ]) {
    expect(geoPointOf(parseJson(text))).toBeUndefined();
  }
});
