const first = 0xcc9e2d51;
const second = 0x1b873593;

/** MurmurHash3 for 32-bit values, of the x86 kind, with the seed 0. Test vectors are in hash.test.ts. */
export function murmur32(bytes: Uint8Array): number {
  const { length } = bytes;
  const tail = length & ~3;
  let hash = 0;
  for (let i = 0; i < tail; i += 4) {
    const word =
      (bytes[i] ?? 0) | ((bytes[i + 1] ?? 0) << 8) | ((bytes[i + 2] ?? 0) << 16) | ((bytes[i + 3] ?? 0) << 24);
    hash ^= mixed(word);
    hash = (hash << 13) | (hash >>> 19);
    hash = (Math.imul(hash, 5) + 0xe6546b64) | 0;
  }
  if (tail < length) {
    hash ^= mixed((bytes[tail] ?? 0) | ((bytes[tail + 1] ?? 0) << 8) | ((bytes[tail + 2] ?? 0) << 16));
  }
  hash ^= length;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

function mixed(word: number): number {
  const product = Math.imul(word, first);
  return Math.imul((product << 15) | (product >>> 17), second);
}
