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
import { type Group, type GroupValue, project } from "../../../libs/query/index.js";
import { type pb, sparseVectorTo, structOfJson } from "../../../libs/wire/index.js";
import { idOf } from "../ids.js";
import type { PayloadOptions } from "./read-options.js";

/** The hits with the part of their payloads that was asked for, in the format that was asked for. */
export function shapedHits(hits: readonly Hit[], options: PayloadOptions): readonly Hit[] {
  if (options.projection === undefined && !options.asStruct) return hits;
  return hits.map((hit) => ({ ...hit, payload: shaped(hit.payload, options) }));
}

function shaped(payload: Uint8Array, { projection, asStruct }: PayloadOptions): Uint8Array {
  const part = projection === undefined ? payload : project(payload, projection);
  return asStruct && part.length > 0 ? structOfJson(part) : part;
}

export function pointToWire(point: StoredPoint, options: PayloadOptions): pb.Point {
  const payload = shaped(point.payload, options);
  const { id, version, expiresAtMs = 0 } = point;
  const fields = payloadFields(payload, options.asStruct);
  return { id: idOf(id), vectors: vectorsToWire(point, options), version, expiresAtMs, ...fields };
}

function payloadFields(payload: Uint8Array, asStruct: boolean): Pick<pb.Point, "payload" | "payloadStruct"> {
  if (!asStruct) return { payload };
  return { payload: noPayload, payloadStruct: payload.length === 0 ? undefined : payload };
}

const noPayload = new Uint8Array(0);

/** `hits`: with payloads as shapedHits gives them. */
export function groupToWire(
  { value, hits }: Group<Hit>,
  options: PayloadOptions,
  lookup: pb.Point | undefined,
): pb.PointGroup {
  const points = hits.map((hit): pb.ScoredPoint => {
    const { id, score, version, payload, order, highlights = {} } = hit;
    const marked = Object.entries(highlights).map(([path, fragments]): [string, pb.Fragments] => {
      return [path, { fragments: [...fragments] }];
    });
    const fields = payloadFields(payload, options.asStruct);
    return {
      id: idOf(id),
      score,
      version,
      vectors: vectorsToWire(hit, options),
      order,
      ...fields,
      highlights: Object.fromEntries(marked),
    };
  });
  if (typeof value === "number") return { value: { $case: "integer", value }, points, lookup };
  // A whole number beyond 2^53 keeps its digits as text.
  return { value: { $case: "text", value: String(value) }, points, lookup };
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

function vectorsToWire(
  { vectors, sparse }: Pick<StoredPoint, "vectors" | "sparse">,
  { matrices }: PayloadOptions,
): { [name: string]: pb.Vector } {
  const wire: [string, pb.Vector][] = [];
  for (const [name, values] of vectors ?? []) {
    const dimension = matrices?.get(name);
    const rows = dimension === undefined ? {} : { rows: values.length / dimension };
    wire.push([name, { values, indices: [], ...rows }]);
  }
  for (const [name, vector] of sparse ?? []) wire.push([name, sparseVectorTo(vector)]);
  return Object.fromEntries(wire);
}
