import { assert, KithError, limits } from "../base/index.js";

/**
 * The id of a point in key form: one byte for the kind, then the value. Comparing key forms byte by byte is the order
 * of ids everywhere (scroll, ties of equal scores). Part of the data format.
 *
 *     0x01 + 8 bytes big-endian                               unsigned 64-bit number
 *     0x02 + 16 bytes                                         UUID
 *     0x03 + 1..256 bytes of UTF-8                            string
 *     0x04 + length(1) + 1..255 bytes of UTF-8 + key form     one of these within a partition: see `partitionedId`
 */
export type IdKey = Uint8Array;

export const idKind = { num: 1, uuid: 2, name: 3, partitioned: 4 } as const;

const u64Max = 0xffff_ffff_ffff_ffffn;
const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export function idFromNum(value: bigint | number): IdKey {
  const big = typeof value === "bigint" ? value : safeBigInt(value);
  if (big < 0n || big > u64Max) {
    throw new KithError("INVALID_ID", `the id ${value} is outside of 0..18446744073709551615`, {
      details: { id: String(value) },
    });
  }
  const key = new Uint8Array(9);
  key[0] = idKind.num;
  new DataView(key.buffer).setBigUint64(1, big);
  return key;
}

function safeBigInt(value: number): bigint {
  if (!Number.isSafeInteger(value)) {
    throw new KithError(
      "INVALID_ID",
      `the id ${value} is not a whole number that a double holds exactly; use a bigint`,
      {
        details: { id: String(value) },
      },
    );
  }
  return BigInt(value);
}

/** Whether the text has the 8-4-4-4-12 form of a UUID. */
export function isUuid(text: string): boolean {
  return uuidPattern.test(text);
}

export function idFromUuid(text: string): IdKey {
  if (!isUuid(text)) {
    throw new KithError("INVALID_ID", `"${shorten(text)}" is not a UUID (8-4-4-4-12 hexadecimal digits)`, {
      details: { id: shorten(text) },
    });
  }
  const key = new Uint8Array(17);
  key[0] = idKind.uuid;
  key.set(Buffer.from(text.replaceAll("-", ""), "hex"), 1);
  return key;
}

export function idFromName(text: string): IdKey {
  if (!isWellFormed(text)) {
    throw new KithError(
      "INVALID_ID",
      `the string id ${JSON.stringify(shorten(text))} has a lone surrogate, which UTF-8 cannot hold`,
      {
        details: { id: JSON.stringify(shorten(text)) },
      },
    );
  }
  const bytes = encoder.encode(text);
  if (bytes.length === 0) throw new KithError("INVALID_ID", "a string id must not be empty", { details: { id: "" } });
  if (bytes.length > limits.idBytes) {
    throw new KithError(
      "INVALID_ID",
      `the string id "${shorten(text)}" has ${bytes.length} bytes of UTF-8; at most ${limits.idBytes} are allowed`,
      { details: { id: shorten(text), sizeBytes: bytes.length, limitBytes: limits.idBytes } },
    );
  }
  const key = new Uint8Array(1 + bytes.length);
  key[0] = idKind.name;
  key.set(bytes, 1);
  return key;
}

/** Whether text has no lone surrogate: UTF-8 has U+FFFD for all of them, so that different texts would become one. */
export function isWellFormed(text: string): boolean {
  return !/\p{Surrogate}/u.test(text);
}

export type Id = { kind: "num"; value: bigint } | { kind: "uuid"; value: string } | { kind: "name"; value: string };

/**
 * The key form of an id in a collection with a partition key: with the value of that key, of 1 to 255 bytes, before the id's own. So the points of
 * one value lie side by side, the same id may stand in several of them, and where a point belongs can be told from its key alone.
 */
export function partitionedId(partition: string, id: IdKey): IdKey {
  const value = encoder.encode(partition);
  assert(
    value.length > 0 && value.length <= limits.partitionBytes && id[0] !== idKind.partitioned,
    `an id cannot be put into the partition "${shorten(partition)}"`,
  );
  const key = new Uint8Array(2 + value.length + id.length);
  key[0] = idKind.partitioned;
  key[1] = value.length;
  key.set(value, 2);
  key.set(id, 2 + value.length);
  return key;
}

/** With what the key forms of all points of a partition begin. */
export function partitionPrefix(partition: string): Uint8Array {
  const value = encoder.encode(partition);
  return Uint8Array.of(idKind.partitioned, value.length, ...value);
}

/** The value of the partition key that a key form has, in UTF-8; undefined where it has none. */
export function partitionOf(key: IdKey): Uint8Array | undefined {
  return key[0] === idKind.partitioned ? key.subarray(2, 2 + (key[1] ?? 0)) : undefined;
}

/** The key form without the value of a partition key: what clients know as the id. */
export function idInPartition(key: IdKey): IdKey {
  return key[0] === idKind.partitioned ? key.subarray(2 + (key[1] ?? 0)) : key;
}

/** The id behind a key form, without its partition; CORRUPT_DATA where the bytes are not one. */
export function idFromKey(key: IdKey): Id {
  if (key[0] === idKind.partitioned && isIdKey(key)) return idFromKey(idInPartition(key));
  if (key[0] === idKind.num && key.length === 9) {
    return { kind: "num", value: new DataView(key.buffer, key.byteOffset, key.byteLength).getBigUint64(1) };
  }
  if (key[0] === idKind.uuid && key.length === 17) {
    const hex = Buffer.from(key.buffer, key.byteOffset + 1, 16).toString("hex");
    return {
      kind: "uuid",
      value: `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`,
    };
  }
  if (key[0] === idKind.name && key.length > 1) return { kind: "name", value: decoder.decode(key.subarray(1)) };
  throw new KithError("CORRUPT_DATA", `${Buffer.from(key).toString("hex")} is not the key form of an id`);
}

/** Whether bytes from another process are the key form of an id. */
export function isIdKey(key: Uint8Array): boolean {
  if (key[0] === idKind.num) return key.length === 9;
  if (key[0] === idKind.uuid) return key.length === 17;
  if (key[0] === idKind.partitioned) {
    const own = idInPartition(key);
    return key.length > 2 && key[1] !== 0 && own[0] !== idKind.partitioned && isIdKey(own);
  }
  return key[0] === idKind.name && key.length > 1 && key.length <= 1 + limits.idBytes;
}

/** The greatest id below a number or a UUID; undefined for the number 0. INVALID_ID for a name, which has none. */
export function idBefore(key: IdKey): IdKey | undefined {
  if (key[0] === idKind.name) {
    throw new KithError("INVALID_ID", `${formatId(key)} is a name; a number or a UUID is needed here`);
  }
  const before = Uint8Array.from(key);
  for (let at = key.length - 1; at > 0; at--) {
    const digit = before[at] as number;
    before[at] = digit === 0 ? 0xff : digit - 1;
    if (digit > 0) return before;
  }
  // Numbers come before UUIDs.
  return key[0] === idKind.num ? undefined : idFromNum(u64Max);
}

/** Key form as text, usable as the key of a Map; one character per byte. */
export function idMapKey(key: IdKey): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}

/** An id as people write it. */
export function formatId(key: IdKey): string {
  const id = idFromKey(key);
  return id.kind === "name" ? JSON.stringify(id.value) : String(id.value);
}

export function compareIds(a: IdKey, b: IdKey): number {
  return Buffer.compare(a, b);
}

function shorten(text: string): string {
  return text.length <= 80 ? text : `${text.slice(0, 77)}...`;
}
