import { KithError, limits } from "../../base/index.js";
import { datetimeMicros } from "../../filter/index.js";
import { compareIds, JsonFloat, type JsonValue, type OrderBy } from "../../model/index.js";
import type { OrderPlace } from "../../shard-api/index.js";

/** What a value counts as in an order: a number, or a datetime in microseconds. */
export function orderValues(value: JsonValue): number[] {
  if (Array.isArray(value)) return value.flatMap(orderValues);
  if (typeof value === "number") return [value];
  if (typeof value === "bigint") return [Number(value)];
  if (value instanceof JsonFloat) return [value.value];
  if (typeof value !== "string") return [];
  const micros = datetimeMicros(value);
  return micros === undefined ? [] : [Number(micros)];
}

/** Whether a place comes behind another one: points with equal values in order of id, whatever the direction. */
export function isBehind({ id, value }: OrderPlace, after: OrderPlace, direction: OrderBy["direction"]): boolean {
  if (value === after.value) return compareIds(id, after.id) > 0;
  return direction === "ascending" ? value > after.value : value < after.value;
}

/** What a value counts as in a facet. */
export function facetValues(value: JsonValue): (string | number | bigint | boolean)[] {
  if (Array.isArray(value)) return value.flatMap(facetValues);
  if (typeof value === "string" || typeof value === "boolean" || typeof value === "bigint") return [value];
  return typeof value === "number" && Number.isInteger(value) ? [value] : [];
}

/** What a value takes in the counts of a facet, in bytes. */
export function facetValueBytes(value: string | number | bigint | boolean): number {
  return 64 + (typeof value === "string" ? 2 * value.length : 0);
}

export function tooManyValues(path: string): KithError {
  return new KithError(
    "RESOURCE_EXHAUSTED",
    `the different values of "${path}" take more than the ${limits.facetBytes} bytes that a facet of a shard may have; narrow it by a filter, or count a field with ` +
      "fewer or shorter values",
    { details: { path, limitBytes: limits.facetBytes } },
  );
}
