import { KithError } from "../../../libs/base/index.js";
import { idFromNum, type JsonValue } from "../../../libs/model/index.js";
import type { pb } from "../../../libs/wire/index.js";
import { eachOf, listOf } from "./values.js";

const simple = /^[0-9a-f]{32}$/i;
const hyphenated = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** A UUID in the form that ids have: its other spellings are of 32 digits alone, with "urn:uuid:" before, or in braces. */
export function uuidOf(text: string): string | undefined {
  const bare = text.replace(/^urn:uuid:/i, "").replace(/^\{(.*)\}$/, "$1");
  if (hyphenated.test(bare)) return bare.toLowerCase();
  if (!simple.test(bare)) return undefined;
  const parts = [bare.slice(0, 8), bare.slice(8, 12), bare.slice(12, 16), bare.slice(16, 20), bare.slice(20)];
  return parts.join("-").toLowerCase();
}

/** A number of 0..2^64-1 or a UUID. INVALID_ID for all else. */
export function idOf(value: JsonValue | undefined, at: string): pb.PointId {
  if (typeof value === "number" || typeof value === "bigint") {
    try {
      idFromNum(value);
    } catch (cause) {
      throw new KithError("INVALID_ID", `${at}: ${(cause as Error).message}`, { cause });
    }
    return { id: { $case: "num", value: BigInt(value) } };
  }
  const uuid = typeof value === "string" ? uuidOf(value) : undefined;
  if (uuid !== undefined) return { id: { $case: "uuid", value: uuid } };
  const found = typeof value === "string" ? JSON.stringify(value.slice(0, 80)) : "this value";
  throw new KithError("INVALID_ID", `${at}: ${found} is no id of a point: give a whole number from 0 on, or a UUID`);
}

export function idsOf(value: JsonValue | undefined, at: string): pb.PointId[] {
  return eachOf(listOf(value, at), at, idOf);
}

/** An id in a path: digits are a number. */
export function idOfText(text: string): pb.PointId {
  return idOf(/^\d{1,20}$/.test(text) ? BigInt(text) : text, "the id in the path");
}

/** An id as answers have it. Names, which only Kith's own API gives, are texts. */
export function printId(id: pb.PointId | undefined): bigint | string {
  return id?.id?.value ?? "";
}

/** Numbers before UUIDs before names, as points are stored. */
export function compareIds(a: pb.PointId | undefined, b: pb.PointId | undefined): number {
  const kinds = ["num", "uuid", "name"];
  const kind = kinds.indexOf(a?.id?.$case ?? "num") - kinds.indexOf(b?.id?.$case ?? "num");
  const [left, right] = [a?.id?.value ?? 0n, b?.id?.value ?? 0n];
  return kind !== 0 ? kind : left < right ? -1 : left > right ? 1 : 0;
}
