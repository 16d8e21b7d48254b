import { xxh64 } from "./hash.js";

/**
 * How replicas are compared. Part of the data format (docs/format.md); numbers are little-endian, hashes are XXH64.
 *
 *     part      hash of its bytes, with the hash of  kind(1) name length(1) name version(6)  as the seed
 *     point     hash of  id length(2) id version(6) expiry(8) { hash of a part(8) }*
 *     replica   sum of the points modulo 2^64
 *
 * Kinds are families of the keys of the store; the bytes are those that are stored, without version and checksum; the name of a payload is
 * "". The expiry is in milliseconds, 0 for none. Parts come in order of kind, then of name. So a write of one part changes
 * the hash of its point without a look at the others, which the head remembers.
 */
export const digestFormat = 2;

let scratch = Buffer.allocUnsafeSlow(1024);
/** Of the same bytes: a hash takes 11 ns through it, and 85 through the buffer (measured). */
let view = new DataView(scratch.buffer);
/** The bytes of the last point that was hashed; the next one has as many as a rule. */
let hashed = scratch;

/** What the parts of one column and one record have in common. `name`: of the field, ASCII; "" for payloads. */
export function partSeed(kind: number, name: string, version: number): bigint {
  scratch[0] = kind;
  scratch[1] = name.length;
  scratch.write(name, 2, "latin1");
  scratch.writeUIntLE(version, 2 + name.length, 6);
  return xxh64(scratch.subarray(0, 8 + name.length));
}

export function partHash(seed: bigint, bytes: Uint8Array): bigint {
  return xxh64(bytes, seed);
}

/** `parts`: in order of kind and name. */
export function pointHash(
  id: Uint8Array,
  version: number,
  expiresAtMs: number | undefined,
  parts: readonly { hash: bigint }[],
): bigint {
  const needed = id.length + 16 + parts.length * 8;
  if (needed > scratch.length) {
    scratch = Buffer.allocUnsafeSlow(needed * 2);
    view = new DataView(scratch.buffer);
    hashed = scratch;
  }
  scratch.writeUInt16LE(id.length, 0);
  scratch.set(id, 2);
  let at = 2 + id.length;
  at = scratch.writeUIntLE(version, at, 6);
  at = scratch.writeUIntLE(expiresAtMs ?? 0, at, 6);
  at = scratch.writeUInt16LE(0, at);
  for (const { hash } of parts) {
    view.setBigUint64(at, hash, true);
    at += 8;
  }
  if (hashed.length !== at) hashed = scratch.subarray(0, at);
  return xxh64(hashed);
}

/** The digest of a set of points is the sum of their content hashes, so that neither order nor history matters. */
export function addHash(digest: bigint, hash: bigint): bigint {
  return BigInt.asUintN(64, digest + hash);
}

export function subtractHash(digest: bigint, hash: bigint): bigint {
  return BigInt.asUintN(64, digest - hash);
}

export function formatDigest(digest: bigint): string {
  return digest.toString(16).padStart(16, "0");
}
