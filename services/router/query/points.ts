import { KithError } from "../../../libs/base/index.js";
import {
  type Hit,
  type IdKey,
  idFromName,
  idFromNum,
  idFromUuid,
  isUuid,
  type StoredPoint,
} from "../../../libs/model/index.js";
import { type Group, type GroupValue, project, type Projection } from "../../../libs/query/index.js";
import type { pb } from "../../../libs/wire/index.js";
import { idOf } from "../ids.js";

/** The hits with the part of their payloads that was asked for. */
export function projectedHits(hits: readonly Hit[], projection: Projection | undefined): readonly Hit[] {
  if (projection === undefined) return hits;
  return hits.map((hit) => ({ ...hit, payload: project(hit.payload, projection) }));
}

export function pointToWire(point: StoredPoint, projection?: Projection): pb.Point {
  return {
    id: idOf(point.id),
    vectors: vectorsToWire(point.vectors),
    payload: projection === undefined ? point.payload : project(point.payload, projection),
    version: point.version,
  };
}

function scoredToWire({ id, score, version, payload, vectors, order }: Hit): pb.ScoredPoint {
  return { id: idOf(id), score, version, payload, vectors: vectorsToWire(vectors), order };
}

export function groupToWire({ value, hits }: Group<Hit>, lookup: StoredPoint | undefined): pb.PointGroup {
  const points = hits.map(scoredToWire);
  const found = lookup && pointToWire(lookup);
  if (typeof value === "number") return { value: { $case: "integer", value }, points, lookup: found };
  // A whole number beyond 2^53 keeps its digits as text.
  return { value: { $case: "text", value: String(value) }, points, lookup: found };
}

/** The id that the value of a group is: a number, a UUID or a name; undefined where no id can be like it. */
export function idOfValue(value: GroupValue): IdKey | undefined {
  try {
    if (typeof value !== "string") return idFromNum(value);
    return isUuid(value) ? idFromUuid(value) : idFromName(value);
  } catch (error) {
    if (error instanceof KithError && error.code === "INVALID_ID") return undefined;
    throw error;
  }
}

function vectorsToWire(vectors: ReadonlyMap<string, Float32Array> | undefined): { [name: string]: pb.Vector } {
  return Object.fromEntries([...(vectors ?? [])].map(([name, values]) => [name, { values }]));
}
