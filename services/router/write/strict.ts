import { KithError } from "../../../libs/base/index.js";
import { checkStrict, strictLimitName } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import type { RoutedCollection } from "../routing/routed-collection.js";
import type { PlannedPart } from "./planned-write.js";

/** COLLECTION_LIMIT where a write is more than its collection allows, or would add to one that is full. */
export function checkStrictWrite(collection: RoutedCollection, parts: readonly PlannedPart[]): void {
  const { name, strictMode } = collection.record;
  if (strictMode === undefined) return;
  const count = parts.reduce((sum, { positions }) => sum + positions.length, 0);
  checkStrict(strictMode, "maxBatchPoints", count, "the number of points");
  let isAdding = false;
  for (const { mutation, positions } of parts) {
    if (mutation.$case === "upsert" || mutation.$case === "put") {
      isAdding ||= mutation.value.mode !== pb.UpsertMode.UPDATE_ONLY;
      for (const [row, payload] of mutation.value.payloads.entries()) {
        const what = `the size of the payload of points[${positions[row]}], in bytes,`;
        checkStrict(strictMode, "maxPayloadBytes", payload.length, what);
      }
    } else if (mutation.$case === "setPayload" || mutation.$case === "overwritePayload") {
      checkStrict(strictMode, "maxPayloadBytes", mutation.value.payload.length, "the size of the payload, in bytes,");
    }
  }
  const { maxPoints } = strictMode;
  // Once a second: what was written since is not known here.
  const pointCount = collection.knownPointCount();
  if (!isAdding || maxPoints === undefined || pointCount < maxPoints) return;
  throw new KithError(
    "COLLECTION_LIMIT",
    `the collection "${name}" is full: it has ${pointCount} points, and is allowed ${maxPoints} (max_points)`,
    { details: { limit: strictLimitName("maxPoints"), value: pointCount, max: maxPoints } },
  );
}
