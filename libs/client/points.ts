import { KithError, toKithError } from "../base/index.js";
import { ColumnBatch, type ColumnsOnWire, describeId } from "./columns.js";
import type { CreateOptions, VectorSpec } from "./types/collections.js";
import type { PointInput } from "./types/points.js";

/** By name of the field; none where there are sparse fields alone. */
export function specsOf({ vectors, sparse }: Pick<CreateOptions, "vectors" | "sparse">): [string, VectorSpec][] {
  if (vectors === undefined && sparse !== undefined) return [];
  if (typeof vectors !== "object" || vectors === null || Array.isArray(vectors)) {
    throw new KithError(
      "INVALID_SCHEMA",
      'a collection needs "vectors": {dimension, metric} of one unnamed vector, or several of them by name',
    );
  }
  if (typeof vectors.dimension === "number") return [["", vectors as VectorSpec]];
  return Object.entries(vectors as Record<string, VectorSpec>);
}

/** The points as columns; undefined where they have unlike shapes. */
export function gather(points: readonly PointInput<unknown>[]): ColumnsOnWire | undefined {
  const first = points[0] as PointInput<unknown>;
  const batch = namedPoint(0, first, () => ColumnBatch.like(first, points.length));
  for (const [index, point] of points.entries()) {
    if (!namedPoint(index, point, () => batch.add(point))) return undefined;
  }
  return batch.columns();
}

/** Runs a check of one point; its error then says which point it was. */
export function namedPoint<T>(index: number, point: PointInput<unknown>, body: () => T): T {
  try {
    return body();
  } catch (thrown) {
    const error = toKithError(thrown);
    throw new KithError(error.code, `points[${index}] (id ${describeId(point?.id)}): ${error.message}`, {
      cause: error,
      details: { ...error.details, index },
    });
  }
}
