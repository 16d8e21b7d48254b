import { KithError } from "../base/index.js";
import { isUuid, isWellFormed } from "../model/index.js";
import type { pb } from "../wire/index.js";
import type { Id } from "./types/values.js";

const idBytesMax = 256;
const u64Max = 0xffff_ffff_ffff_ffffn;

/** Refuses what is no id, naming the value. Long strings are measured only where they could be too long. */
export function checkId(id: Id): void {
  switch (typeof id) {
    case "number":
      if (Number.isSafeInteger(id) && id >= 0) return;
      throw invalidId(id, "a number id must be a whole number in 0..2^53-1; use a bigint beyond that");
    case "bigint":
      if (id >= 0n && id <= u64Max) return;
      throw invalidId(id, "a bigint id must be in 0..18446744073709551615");
    case "string":
      if (id.length === 0) throw invalidId('""', "a string id must not be empty");
      if (id.length * 3 > idBytesMax && Buffer.byteLength(id) > idBytesMax) {
        throw invalidId(`"${id.slice(0, 60)}..."`, `a string id has at most ${idBytesMax} bytes of UTF-8`);
      }
      if (!isWellFormed(id)) throw invalidId(JSON.stringify(id), "it has a lone surrogate, which UTF-8 cannot hold");
      return;
    default:
      throw invalidId(String(id), `an id is a number, a bigint or a string, not ${id === null ? "null" : typeof id}`);
  }
}

function invalidId(shown: Id, why: string): KithError {
  return new KithError("INVALID_ID", `the id ${shown} is not valid: ${why}`, { details: { id: String(shown) } });
}

export function idToWire(id: Id): pb.PointId {
  checkId(id);
  if (typeof id === "string") return { id: { $case: isUuid(id) ? "uuid" : "name", value: id } };
  return { id: { $case: "num", value: BigInt(id) } };
}

export function idFromWire(wire: pb.PointId | undefined): Id {
  const id = wire?.id;
  if (id === undefined) throw new KithError("INTERNAL", "the server sent a point without an id");
  if (id.$case !== "num") return id.value;
  return id.value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(id.value) : id.value;
}

/** Ids of a batch in the most compact form of the wire: 8 bytes each where all are numbers. */
export function idColumn(ids: readonly Id[] | BigUint64Array): NonNullable<pb.UpsertColumnsRequest["idColumn"]> {
  if (ids instanceof BigUint64Array) {
    return { $case: "nums", value: Buffer.from(ids.buffer, ids.byteOffset, ids.byteLength) };
  }
  const nums = numberColumn(ids);
  if (nums !== undefined) return { $case: "nums", value: nums };
  return { $case: "ids", value: { ids: ids.map(idToWire) } };
}

function numberColumn(ids: readonly Id[]): Buffer | undefined {
  const bytes = Buffer.allocUnsafe(ids.length * 8);
  for (let i = 0, at = 0; i < ids.length; i++, at += 8) {
    const id = ids[i] as Id;
    if (typeof id === "string") return undefined;
    checkId(id);
    if (typeof id === "bigint") bytes.writeBigUInt64LE(id, at);
    else {
      // Two 32-bit halves: no bigint per point.
      bytes.writeUInt32LE(id % 0x1_0000_0000, at);
      bytes.writeUInt32LE(Math.floor(id / 0x1_0000_0000), at + 4);
    }
  }
  return bytes;
}

/** The same for ids that are the same point: 7 and 7n, and a UUID in upper and in lower case. */
export function idKey(id: Id): string | number | bigint {
  if (typeof id === "bigint" && id <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(id);
  return typeof id === "string" && isUuid(id) ? id.toLowerCase() : id;
}
