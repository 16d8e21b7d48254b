import { KithError, limits } from "../base/index.js";

/** What the wire's uint32 can carry; the server knows the narrower limits. */
export function wholeNumber(value: number, what: string): number {
  if (Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff) return value;
  throw new KithError("LIMIT_OUT_OF_RANGE", `${what} is ${String(value)}; it must be a whole number, not negative`, {
    details: { field: what, value: String(value) },
  });
}

/** 0 is "the default" on the wire, and nobody asks for nothing on purpose. */
export function atLeastOne(value: number, what: string): number {
  if (value !== 0) return wholeNumber(value, what);
  throw new KithError("LIMIT_OUT_OF_RANGE", `${what} is 0; it must be in 1..${limits.queryLimit}`, {
    details: { field: what, value, min: 1, max: limits.queryLimit },
  });
}
