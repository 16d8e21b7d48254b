import { createHash } from "node:crypto";
import { pack, type Packing, unpack } from "./packed.js";

/** Of a replica's file in one chunk: large enough for an object store, small enough for a change to leave most others as they are. */
export const chunkBytes = 4 * 1024 * 1024;

/**
 * A part of a file of a replica. Vectors and graphs hardly lose by deflate, and reading them is what a restore waits for; payloads in JSON lose more
 * than half.
 */
const packing: Packing = { magic: "KBC1", maxBytes: chunkBytes, worthShare: 0.75, triedBytes: 64 * 1024 };

/** By which a chunk with the same content is found again: SHA-256, hexadecimal. */
export function chunkHash(content: Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

export function encodeChunk(content: Uint8Array): Promise<Buffer> {
  return pack(content, packing);
}

/** CORRUPT_DATA where the file is damaged. */
export function decodeChunk(name: string, file: Buffer): Promise<Uint8Array> {
  return unpack(name, file, packing);
}
