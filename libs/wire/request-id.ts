import type { BinaryReader } from "@bufbuild/protobuf/wire";

/**
 * The id of a request on a stream: any u64 that the client chose. A number where a double holds it exactly, else a
 * bigint; the usual small ids cost none. @public for the generated code.
 */
export function readRequestId(reader: BinaryReader): number | bigint {
  const start = reader.pos;
  const low = reader.uint32();
  // Four bytes of a varint are 28 bits: nothing was cut off.
  if (reader.pos - start <= 4) return low;
  reader.pos = start;
  const id = BigInt(reader.uint64());
  return id <= Number.MAX_SAFE_INTEGER ? Number(id) : id;
}
