import { KithError, limits } from "../base/index.js";
import { isUuid, isWellFormed } from "./id.js";
import { JsonFloat, type JsonObject, type JsonValue } from "./json.js";
import { parsePath, type Path, valuesAtPath } from "./path.js";

/*
 * The partition key of a collection: a field of the payload by whose value points are put into shards.
 */

/** The path of a new partition key. INVALID_SCHEMA where it could lead to several values, INVALID_ARGUMENT where it is no path. */
export function checkPartitionKey(text: string): Path {
  const path = parsePath(text);
  if (path.steps.every(({ kind }) => kind === "key")) return path;
  throw new KithError(
    "INVALID_SCHEMA",
    `the partition key "${text}" leads into an array; a point has one value of it: name a field, such as tenant or owner.id`,
    { details: { field: "partition_key", path: text } },
  );
}

/** The text of a value of the partition key; undefined for what can be none: only strings and whole numbers can. */
export function partitionText(value: JsonValue | undefined): string | undefined {
  if (typeof value === "string") return value;
  if (typeof value === "bigint" || (typeof value === "number" && Number.isInteger(value))) return String(value);
  return undefined;
}

/** As it is compared: UUIDs are equal in upper and lower case. */
export function canonicalPartition(text: string): string {
  return isUuid(text) ? text.toLowerCase() : text;
}

/** INVALID_ARGUMENT for a text that no point has as its value of the partition key. */
export function checkPartition(text: string, where: string): void {
  const sizeBytes = Buffer.byteLength(text);
  if (sizeBytes > 0 && sizeBytes <= limits.partitionBytes && isWellFormed(text)) return;
  const shown = JSON.stringify(text.length <= 80 ? text : `${text.slice(0, 77)}...`);
  throw new KithError(
    "INVALID_ARGUMENT",
    `${where}: ${shown} cannot be a value of the partition key; it has 1 to ${limits.partitionBytes} bytes of UTF-8`,
    { details: { field: where, sizeBytes, limitBytes: limits.partitionBytes } },
  );
}

/** The value that a payload has. PARTITION_KEY_MISSING where it has none, INVALID_PAYLOAD for one that it cannot be. */
export function partitionOfPayload(payload: JsonObject, path: Path, where: string): string {
  const [value] = valuesAtPath(payload, path);
  if (value === undefined || value === null) {
    throw new KithError(
      "PARTITION_KEY_MISSING",
      `${where}: the payload has no "${path.text}", the partition key of the collection`,
      { details: { field: where, partitionKey: path.text } },
    );
  }
  const text = partitionText(value);
  if (text === undefined) {
    const found = value instanceof JsonFloat ? "a float" : Array.isArray(value) ? "an array" : `a ${typeof value}`;
    throw new KithError(
      "INVALID_PAYLOAD",
      `${where}: "${path.text}" is the partition key of the collection, and its value here is ${found}; give a string or a whole number`,
      { details: { field: where, partitionKey: path.text } },
    );
  }
  checkPartition(text, `${where}: ${path.text}`);
  if (canonicalPartition(text) === text) return text;
  throw new KithError(
    "INVALID_PAYLOAD",
    `${where}: "${path.text}" is the partition key of the collection, and "${text}" a UUID; write it in lower case`,
    { details: { field: where, partitionKey: path.text } },
  );
}
