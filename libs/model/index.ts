export * from "./collection.js";
export * from "./id.js";
export * from "./payload.js";
export * from "./query.js";
export * from "./snapshot.js";
export * from "./vector.js";
export * from "./shard-id.js";
