import { KithError } from "../../../libs/base/index.js";
import { checkStrict, strictLimitName } from "../../../libs/model/index.js";
import type { RoutedCollection } from "../routing/routed-collection.js";
import type { PointBatch } from "./point-batch.js";

/** COLLECTION_LIMIT where an upsert is more than its collection allows, or the collection is full. */
export function checkStrictUpsert(collection: RoutedCollection, batches: readonly PointBatch[]): void {
  const { name, strictMode } = collection.record;
  if (strictMode === undefined) return;
  const count = batches.reduce((sum, { ids }) => sum + ids.length, 0);
  checkStrict(strictMode, "maxBatchPoints", count, "the number of points");
  for (const { payloads, positions } of batches) {
    payloads.forEach((payload, row) => {
      checkStrict(
        strictMode,
        "maxPayloadBytes",
        payload.length,
        `the size of the payload of points[${positions[row]}], in bytes,`,
      );
    });
  }
  const { maxPoints } = strictMode;
  // Once a second: what was written since is not known here.
  if (maxPoints === undefined || collection.knownPointCount() < maxPoints) return;
  throw new KithError(
    "COLLECTION_LIMIT",
    `the collection "${name}" is full: it has ${collection.knownPointCount()} points, and is allowed ${maxPoints} (max_points)`,
    {
      details: { limit: strictLimitName("maxPoints"), value: collection.knownPointCount(), max: maxPoints },
    },
  );
}
