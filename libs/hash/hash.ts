import xxhash from "xxhash-wasm";

/*
 * A lib of its own, because the code of the hashes is WebAssembly that is compiled while the module is loaded: whoever needs no hash, as
 * clients do, has no module that awaits, and can be loaded by require().
 */
const wasm = await xxhash();

/** XXH64 of the bytes. Part of the data format (digests): test vectors are in hash.test.ts. */
export function xxh64(bytes: Uint8Array, seed = 0n): bigint {
  return wasm.h64Raw(bytes, seed);
}

/** XXH32 of the bytes. Part of the data format (hash slots): test vectors are in hash.test.ts. */
export function xxh32(bytes: Uint8Array, seed = 0): number {
  return wasm.h32Raw(bytes, seed);
}
