import { orient2d } from "robust-predicates";
import {
  type GeoBoxCondition,
  type GeoPoint,
  type GeoPolygonCondition,
  type GeoRadiusCondition,
  type GeoRing,
  isJsonObject,
  JsonFloat,
  type JsonValue,
} from "../model/index.js";

export type GeoCondition = GeoRadiusCondition | GeoBoxCondition | GeoPolygonCondition;

export type GeoTest = (lat: number, lon: number) => boolean;

/** Mean radius of the Earth in metres, as the IUGG recommends it, and as Qdrant calculates with. */
export const earthRadiusMeters = 6_371_008.8;

const radians = Math.PI / 180;

/** Distance of two points on a sphere, in metres (haversine formula). */
export function geoDistanceMeters(a: GeoPoint, b: GeoPoint): number {
  const latA = a.lat * radians;
  const latB = b.lat * radians;
  return haversine(latA, a.lon * radians, Math.cos(latA), latB, b.lon * radians, Math.cos(latB));
}

/** In radians; the cosines of both latitudes are given, since the one of a centre is needed again and again. */
function haversine(latA: number, lonA: number, cosA: number, latB: number, lonB: number, cosB: number): number {
  const sinLat = Math.sin((latB - latA) / 2);
  const sinLon = Math.sin((lonB - lonA) / 2);
  return 2 * earthRadiusMeters * Math.asin(Math.sqrt(sinLat * sinLat + cosA * cosB * sinLon * sinLon));
}

/** The test of a condition on points; points on the edge are outside. */
export function geoTest(condition: GeoCondition): GeoTest {
  switch (condition.kind) {
    case "geoRadius":
      return radiusTest(condition);
    case "geoBox":
      return boxTest(condition);
    case "geoPolygon":
      return polygonTest(condition);
  }
}

function radiusTest({ center, radiusMeters }: GeoRadiusCondition): GeoTest {
  const centerLat = center.lat * radians;
  const centerLon = center.lon * radians;
  const centerCos = Math.cos(centerLat);
  // Points of the same meridian are as far apart as their latitudes say, others not nearer: most are refused without a sine.
  const latMax = radiusMeters / earthRadiusMeters + 1e-9;
  return (lat, lon) => {
    const latRadians = lat * radians;
    if (Math.abs(latRadians - centerLat) > latMax) return false;
    return haversine(centerLat, centerLon, centerCos, latRadians, lon * radians, Math.cos(latRadians)) < radiusMeters;
  };
}

function boxTest({ topLeft, bottomRight }: GeoBoxCondition): GeoTest {
  const { lat: top, lon: left } = topLeft;
  const { lat: bottom, lon: right } = bottomRight;
  if (left > right) return (lat, lon) => lat > bottom && lat < top && (lon > left || lon < right);
  return (lat, lon) => lat > bottom && lat < top && lon > left && lon < right;
}

function polygonTest({ exterior, interiors }: GeoPolygonCondition): GeoTest {
  const outer = ringTest(exterior);
  const holes = interiors.map(ringTest);
  return (lat, lon) => outer(lat, lon) === "inside" && holes.every((hole) => hole(lat, lon) === "outside");
}

type RingSide = "inside" | "outside" | "edge";

/** Counts the edges east of a point; the side of an edge comes from exact arithmetic, so that no point falls between two edges. */
function ringTest(ring: GeoRing): (lat: number, lon: number) => RingSide {
  const lats = Float64Array.from(ring, (point) => point.lat);
  const lons = Float64Array.from(ring, (point) => point.lon);
  const south = Math.min(...lats);
  const north = Math.max(...lats);
  const west = Math.min(...lons);
  const east = Math.max(...lons);
  return (lat, lon) => {
    if (!(lat >= south && lat <= north && lon >= west && lon <= east)) return "outside";
    let inside = false;
    for (let i = 1; i < lats.length; i++) {
      const latA = lats[i - 1] as number;
      const lonA = lons[i - 1] as number;
      const latB = lats[i] as number;
      const lonB = lons[i] as number;
      if ((latA > lat && latB > lat) || (latA < lat && latB < lat) || (lonA < lon && lonB < lon)) continue;
      const side = orient2d(lonA, latA, lonB, latB, lon, lat);
      if (side === 0 && lon >= Math.min(lonA, lonB)) return "edge";
      // An edge belongs to its lower end alone, or a ray through a corner would count it twice.
      if (latA > lat !== latB > lat && side < 0 === latB > latA) inside = !inside;
    }
    return inside ? "inside" : "outside";
  };
}

/** The point in a payload value: an object with numbers `lat` and `lon` in their ranges; undefined where it is none. */
export function geoPointOf(value: JsonValue): GeoPoint | undefined {
  if (!isJsonObject(value)) return undefined;
  const lat = coordinate(value, "lat", 90);
  const lon = coordinate(value, "lon", 180);
  return lat === undefined || lon === undefined ? undefined : { lat, lon };
}

function coordinate(object: { [key: string]: JsonValue }, name: "lat" | "lon", max: number): number | undefined {
  if (!Object.hasOwn(object, name)) return undefined;
  const value = object[name];
  const degrees = typeof value === "number" ? value : value instanceof JsonFloat ? value.value : Number.NaN;
  return degrees >= -max && degrees <= max ? degrees : undefined;
}

/** Why a ring is none: not closed, fewer than three corners, or touching or crossing itself; undefined where it is one. */
export function ringProblem(ring: GeoRing): string | undefined {
  if (ring.length < 4) return `a ring has at least 4 points (the last is the first again), this one ${ring.length}`;
  const first = ring[0] as GeoPoint;
  const last = ring.at(-1) as GeoPoint;
  if (!samePoint(first, last)) {
    return `the ring is not closed: it begins at ${formatPoint(first)} and ends at ${formatPoint(last)}`;
  }
  const corners = ring.filter((point, i) => i === 0 || !samePoint(point, ring[i - 1] as GeoPoint)).slice(0, -1);
  if (corners.length < 3) return `the ring has ${corners.length} different points in a row; at least 3 are needed`;
  const crossing = findCrossing(corners);
  if (crossing === undefined) return undefined;
  const [a, b] = crossing.map((edge) => `${formatPoint(edge.from)} to ${formatPoint(edge.to)}`);
  return `the ring touches or crosses itself: the edge from ${a} meets the one from ${b}`;
}

interface Edge {
  readonly number: number;
  readonly from: GeoPoint;
  readonly to: GeoPoint;
  readonly west: number;
  readonly east: number;
}

/** Two edges that meet elsewhere than in the corner between them. Edges are compared where their longitudes overlap. */
function findCrossing(corners: readonly GeoPoint[]): [Edge, Edge] | undefined {
  const edges = corners.map((from, number): Edge => {
    const to = corners[(number + 1) % corners.length] as GeoPoint;
    return { number, from, to, west: Math.min(from.lon, to.lon), east: Math.max(from.lon, to.lon) };
  });
  edges.sort((a, b) => a.west - b.west);
  for (let i = 0; i < edges.length; i++) {
    const a = edges[i] as Edge;
    for (let j = i + 1; j < edges.length; j++) {
      const b = edges[j] as Edge;
      if (b.west > a.east) break;
      if (edgesMeet(a, b, corners.length)) return [a, b];
    }
  }
  return undefined;
}

function edgesMeet(a: Edge, b: Edge, count: number): boolean {
  if ((a.number + 1) % count === b.number) return foldsBack(a.from, a.to, b.to);
  if ((b.number + 1) % count === a.number) return foldsBack(b.from, b.to, a.to);
  if (Math.min(a.from.lat, a.to.lat) > Math.max(b.from.lat, b.to.lat)) return false;
  if (Math.max(a.from.lat, a.to.lat) < Math.min(b.from.lat, b.to.lat)) return false;
  const fromSide = side(a.from, a.to, b.from);
  const toSide = side(a.from, a.to, b.to);
  if (fromSide * toSide > 0) return false;
  const otherFromSide = side(b.from, b.to, a.from);
  const otherToSide = side(b.from, b.to, a.to);
  // Edges on one line were told apart by their boxes above.
  return otherFromSide * otherToSide <= 0;
}

/** Whether the way through a corner goes straight back, over the edge that it came on. */
function foldsBack(from: GeoPoint, corner: GeoPoint, to: GeoPoint): boolean {
  if (side(from, corner, to) !== 0) return false;
  const forth = (corner.lon - from.lon) * (to.lon - corner.lon) + (corner.lat - from.lat) * (to.lat - corner.lat);
  return forth < 0;
}

function side(a: GeoPoint, b: GeoPoint, point: GeoPoint): number {
  return Math.sign(orient2d(a.lon, a.lat, b.lon, b.lat, point.lon, point.lat));
}

function samePoint(a: GeoPoint, b: GeoPoint): boolean {
  return a.lat === b.lat && a.lon === b.lon;
}

function formatPoint(point: GeoPoint): string {
  return `(${point.lat}, ${point.lon})`;
}
