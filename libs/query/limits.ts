import { KithError } from "../base/index.js";

/** The value of a limit, `fallback` for 0; LIMIT_OUT_OF_RANGE beyond `max`. */
export function limitOf(value: number, fallback: number, max: number, name: string): number {
  if (value === 0) return fallback;
  if (!Number.isInteger(value) || value < 1 || value > max) {
    throw new KithError("LIMIT_OUT_OF_RANGE", `${name} is ${value}; it must be in 1..${max}`, {
      details: { field: name, path: name, value, min: 1, max },
    });
  }
  return value;
}
