export { xxh32, xxh64 } from "./hash.js";
export { addHash, digestFormat, formatDigest, partHash, partSeed, pointHash, subtractHash } from "./digest.js";
