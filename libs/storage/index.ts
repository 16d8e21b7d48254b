export type { WriteBatch } from "./batch.js";
export { directoryBytes, PointStore, removeDirectory } from "./point-store.js";
export type { PointParts, StoredField } from "./bounds.js";
export type { HeadChunk, PointRecord, VectorChunk } from "./point-store.js";
export type { Head, Versioned } from "./values.js";
export { StoreCopy, type StoreSnapshot } from "./snapshot.js";
