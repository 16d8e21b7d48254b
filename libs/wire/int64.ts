import type { BinaryReader } from "@bufbuild/protobuf/wire";

/** A signed 64-bit integer: a number where a double holds it exactly, else a bigint. @public for the generated code. */
export function readInt64(reader: BinaryReader): number | bigint {
  const value = BigInt(reader.int64());
  return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
}
