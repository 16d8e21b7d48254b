export type { WriteBatch } from "./batch.js";
export { directoryBytes, PointStore, removeDirectory } from "./point-store.js";
export type { HeadChunk, PointParts, PointRecord, StoredField, VectorChunk } from "./point-store.js";
export type { Head, Versioned } from "./values.js";
