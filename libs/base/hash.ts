import { crc32c as nativeCrc32c } from "@node-rs/crc32";
import xxhash from "xxhash-wasm";

const wasm = await xxhash();

/** XXH64 of the bytes. Part of the data format (digests): test vectors are in hash.test.ts. */
export function xxh64(bytes: Uint8Array, seed = 0n): bigint {
  return wasm.h64Raw(bytes, seed);
}

/** XXH32 of the bytes. Part of the data format (hash slots): test vectors are in hash.test.ts. */
export function xxh32(bytes: Uint8Array, seed = 0): number {
  return wasm.h32Raw(bytes, seed);
}

/** CRC-32C (Castagnoli), as in iSCSI and ext4. `initial` continues an earlier checksum. */
export function crc32c(bytes: Uint8Array, initial = 0): number {
  return nativeCrc32c(bytes, initial);
}
