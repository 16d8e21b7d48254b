import { KithError } from "../base/index.js";

/** What the wire's uint32 can carry; the server knows the narrower limits. */
export function wholeNumber(value: number, what: string): number {
  if (Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff) return value;
  throw new KithError("LIMIT_OUT_OF_RANGE", `${what} is ${String(value)}; it must be a whole number, not negative`, {
    details: { field: what, value: String(value) },
  });
}
