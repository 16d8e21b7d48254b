import type { CallUsage } from "../../../libs/call/index.js";
import { checkRoom, checkStrict, strictLimitName } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import type { RoutedCollection } from "../routing/routed-collection.js";
import type { PlannedPart } from "./planned-write.js";

/**
 * COLLECTION_LIMIT where a write is more than its collection allows; RESOURCE_EXHAUSTED where it would add to one that is full, by the collection's limits or the
 * caller's. Nothing of it is written then.
 */
export function checkStrictWrite(
  collection: RoutedCollection,
  parts: readonly PlannedPart[],
  usage: CallUsage | undefined,
  isRestricted: boolean,
): void {
  const { name, strictMode = {} } = collection.record;
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
  const { maxPoints, maxBytes } = strictMode;
  if (!isAdding || (usage === undefined && maxPoints === undefined && maxBytes === undefined)) return;
  // Once a second: what was written since is not known here.
  const content = { ...collection.knownContent(), isTold: !isRestricted };
  checkRoom(name, "points", content, maxPoints, strictLimitName("maxPoints"));
  checkRoom(name, "bytes", content, maxBytes, strictLimitName("maxBytes"));
  usage?.room(name, content);
}
