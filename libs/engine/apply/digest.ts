import { xxh64 } from "../../base/index.js";

let scratch = Buffer.allocUnsafeSlow(64 * 1024);

/** A vector as it goes into the content hash: by name, since numbers of fields may differ between replicas. */
export interface HashedVector {
  name: string;
  /** Little-endian f32. */
  bytes: Uint8Array;
}

/**
 * XXH64 over everything that makes up a point. Part of the data format: replicas are compared by the sum of these.
 *
 *     id length(2) id version(6) payload length(4) payload { name length(1) name vector length(4) vector }*
 *
 * with the vectors in order of name, numbers little-endian.
 */
export function contentHash(
  id: Uint8Array,
  version: number,
  payload: Uint8Array,
  vectors: readonly HashedVector[],
): bigint {
  let needed = id.length + payload.length + 12;
  for (const { name, bytes } of vectors) needed += name.length + bytes.length + 5;
  if (needed > scratch.length) scratch = Buffer.allocUnsafeSlow(needed * 2);
  scratch.writeUInt16LE(id.length, 0);
  scratch.set(id, 2);
  let at = 2 + id.length;
  scratch.writeUIntLE(version, at, 6);
  scratch.writeUInt32LE(payload.length, at + 6);
  scratch.set(payload, at + 10);
  at += 10 + payload.length;
  for (const { name, bytes } of vectors) {
    scratch[at] = name.length;
    scratch.write(name, at + 1, "latin1");
    scratch.writeUInt32LE(bytes.length, at + 1 + name.length);
    at += 5 + name.length;
    scratch.set(bytes, at);
    at += bytes.length;
  }
  return xxh64(scratch.subarray(0, at));
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
