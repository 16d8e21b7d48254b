export { xxh32, xxh64 } from "./hash.js";
export { murmur32 } from "./murmur.js";
export { addHash, digestFormat, formatDigest, partHash, partSeed, pointHash, subtractHash } from "./digest.js";
