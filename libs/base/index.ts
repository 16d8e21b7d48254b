export * from "./address.js";
export * from "./async.js";
export * from "./clock.js";
export * from "./errors.js";
export * from "./hash.js";
export * from "./leveldb.js";
export * from "./limits.js";
export * from "./slab.js";
