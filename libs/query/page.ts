import { limits } from "../base/index.js";
import { compareIds, type IdKey, type ShardPage, type StoredPoint } from "../model/index.js";

/**
 * Merges the shards' pages in order of id, to at most `limit` points and limits.scrollBytes of content, but at least one
 * point. A shard may have points behind the last one of a page that it ended early: the merged page ends there too.
 */
export function mergePages(pages: readonly ShardPage[], limit: number): { points: StoredPoint[]; end: boolean } {
  const merged = pages.flatMap((page) => page.points).sort((a, b) => compareIds(a.id, b.id));
  const [known] = pages.flatMap(lastOfMany).sort(compareIds);
  let sizeBytes = 0;
  for (const [i, point] of merged.entries()) {
    sizeBytes += contentBytes(point);
    const isFull = i === limit || (i > 0 && sizeBytes > limits.scrollBytes);
    if (isFull || (known !== undefined && compareIds(point.id, known) > 0)) {
      return { points: merged.slice(0, i), end: false };
    }
  }
  return { points: merged, end: pages.every((page) => page.end) };
}

/** The id up to which a page that others follow is whole. */
function lastOfMany({ points, end }: ShardPage): IdKey[] {
  const last = points[points.length - 1];
  return end || last === undefined ? [] : [last.id];
}

/** Bytes of the payload and the vectors of a point. */
export function contentBytes({ payload, vectors }: StoredPoint): number {
  let bytes = payload.length;
  for (const vector of vectors?.values() ?? []) bytes += vector.byteLength;
  return bytes;
}
