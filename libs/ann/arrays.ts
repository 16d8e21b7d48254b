import { KithError } from "../base/index.js";

const typedArrays: object = Object.getPrototypeOf(Uint8Array.prototype) as object;

/** What kind of typed array a value is, in whatever realm it was made; undefined for all else. */
function kindOf(value: unknown): string | undefined {
  return Reflect.get(typedArrays, Symbol.toStringTag, value) as string | undefined;
}

function nameOf(value: unknown): string {
  const kind = kindOf(value);
  if (kind !== undefined) return kind;
  return value === null ? "null" : typeof value === "object" ? (value.constructor?.name ?? "object") : typeof value;
}

/** Throws INVALID_ARGUMENT unless the value is a typed array of this kind: native code reads its bytes as they are. */
export function checkArray(
  what: string,
  value: unknown,
  kind: "Float32Array" | "Uint32Array" | "Uint8Array" | "BigUint64Array",
): void {
  if (kindOf(value) === kind) return;
  throw new KithError("INVALID_ARGUMENT", `${what} is a ${nameOf(value)}; give a ${kind}`, {
    details: { field: what, expected: kind, got: nameOf(value) },
  });
}
