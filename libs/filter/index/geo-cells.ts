import type { GeoPoint } from "../../model/index.js";
import { earthRadiusMeters, type GeoCondition } from "../geo.js";

/** Bits of each coordinate in a cell's number: cells are 0.0027 degrees of latitude high and 0.0055 of longitude wide. */
const cellBits = 16;
const cellsPerAxis = 2 ** cellBits;
/** Ranges of cells that an area is covered with, at most. */
const rangesMax = 64;

/** Latitudes and longitudes from south to north and west to east. */
interface Box {
  readonly south: number;
  readonly north: number;
  readonly west: number;
  readonly east: number;
}

/** Numbers of cells, both inclusive. */
export interface CellRange {
  readonly first: number;
  readonly last: number;
}

/** The cell of a point: bits of latitude and longitude in turn (Z-order), so that near cells mostly have near numbers. */
export function cellOf(lat: number, lon: number): number {
  return cellAt(rowOf(lat), columnOf(lon));
}

function rowOf(lat: number): number {
  return Math.min(cellsPerAxis - 1, Math.floor(((lat + 90) / 180) * cellsPerAxis));
}

function columnOf(lon: number): number {
  return Math.min(cellsPerAxis - 1, Math.floor(((lon + 180) / 360) * cellsPerAxis));
}

function cellAt(row: number, column: number): number {
  return ((spread(row) << 1) | spread(column)) >>> 0;
}

/** Puts a zero between the bits of a number of 16 bits. */
function spread(value: number): number {
  let bits = value;
  bits = (bits | (bits << 8)) & 0x00ff_00ff;
  bits = (bits | (bits << 4)) & 0x0f0f_0f0f;
  bits = (bits | (bits << 2)) & 0x3333_3333;
  return (bits | (bits << 1)) & 0x5555_5555;
}

/** Ranges of cells that hold all points of an area (and others), in ascending order. */
export function cellsOf(condition: GeoCondition): CellRange[] {
  const ranges = boxesOf(condition).flatMap(cover);
  ranges.sort((a, b) => a.first - b.first);
  const merged: { first: number; last: number }[] = [];
  for (const range of ranges) {
    const previous = merged.at(-1);
    if (previous !== undefined && range.first <= previous.last + 1) previous.last = Math.max(previous.last, range.last);
    else merged.push({ ...range });
  }
  return merged;
}

/** Boxes around an area; two where it crosses the date line. */
function boxesOf(condition: GeoCondition): Box[] {
  switch (condition.kind) {
    case "geoBox": {
      const { topLeft, bottomRight } = condition;
      const sides = { south: bottomRight.lat, north: topLeft.lat };
      if (topLeft.lon <= bottomRight.lon) return [{ ...sides, west: topLeft.lon, east: bottomRight.lon }];
      return [
        { ...sides, west: topLeft.lon, east: 180 },
        { ...sides, west: -180, east: bottomRight.lon },
      ];
    }
    case "geoPolygon": {
      const { exterior } = condition;
      const lats = exterior.map((point) => point.lat);
      const lons = exterior.map((point) => point.lon);
      const [south, north] = [Math.min(...lats), Math.max(...lats)];
      return [{ south, north, west: Math.min(...lons), east: Math.max(...lons) }];
    }
    case "geoRadius":
      return boxesAround(condition.center, condition.radiusMeters);
  }
}

/** Degrees that the boxes are larger, against rounding. */
const margin = 1e-6;

function boxesAround(center: GeoPoint, radiusMeters: number): Box[] {
  const angle = radiusMeters / earthRadiusMeters;
  const high = (angle * 180) / Math.PI + margin;
  const south = Math.max(-90, center.lat - high);
  const north = Math.min(90, center.lat + high);
  // A circle around a pole has all longitudes.
  if (south === -90 || north === 90) return [{ south, north, west: -180, east: 180 }];
  const sine = Math.sin(angle) / Math.cos((center.lat * Math.PI) / 180);
  const wide = (Math.asin(Math.min(1, sine)) * 180) / Math.PI + margin;
  const west = center.lon - wide;
  const east = center.lon + wide;
  if (wide >= 180) return [{ south, north, west: -180, east: 180 }];
  if (west < -180)
    return [
      { south, north, west: west + 360, east: 180 },
      { south, north, west: -180, east },
    ];
  if (east > 180)
    return [
      { south, north, west, east: 180 },
      { south, north, west: -180, east: east - 360 },
    ];
  return [{ south, north, west, east }];
}

/** A square of cells: its lower corner, and how many bits of each coordinate it leaves open. */
interface Square {
  readonly row: number;
  readonly column: number;
  readonly openBits: number;
}

/**
 * Divides squares of cells, largest first, until they lie in the box, cannot be divided, or are as many as there may be: the
 * numbers of a square's cells are one range.
 */
function cover(box: Box): CellRange[] {
  const rows = [rowOf(box.south), rowOf(box.north)] as const;
  const columns = [columnOf(box.west), columnOf(box.east)] as const;
  const done: Square[] = [];
  let open: Square[] = [{ row: 0, column: 0, openBits: cellBits }];
  while (open.length > 0 && done.length + open.length * 4 <= rangesMax) {
    const parts: Square[] = [];
    for (const square of open) {
      if (square.openBits === 0 || isInside(square, rows, columns)) {
        done.push(square);
        continue;
      }
      const half = 2 ** (square.openBits - 1);
      for (const [row, column] of [
        [0, 0],
        [0, half],
        [half, 0],
        [half, half],
      ] as const) {
        const part = { row: square.row + row, column: square.column + column, openBits: square.openBits - 1 };
        if (meets(part, rows, columns)) parts.push(part);
      }
    }
    open = parts;
  }
  return [...done, ...open].map(({ row, column, openBits }) => {
    const first = cellAt(row, column);
    return { first, last: first + 4 ** openBits - 1 };
  });
}

type Span = readonly [first: number, last: number];

function isInside({ row, column, openBits }: Square, rows: Span, columns: Span): boolean {
  const size = 2 ** openBits - 1;
  return row >= rows[0] && row + size <= rows[1] && column >= columns[0] && column + size <= columns[1];
}

function meets({ row, column, openBits }: Square, rows: Span, columns: Span): boolean {
  const size = 2 ** openBits - 1;
  return row <= rows[1] && row + size >= rows[0] && column <= columns[1] && column + size >= columns[0];
}
