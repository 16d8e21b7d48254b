export type { StoreOptions } from "./database.js";
export type { WriteBatch } from "./batch.js";
export { directoryBytes, PointStore, removeDirectory } from "./point-store.js";
export type { PointParts, StoredField } from "./bounds.js";
export type { HeadChunk, PointRecord, VectorChunk } from "./point-store.js";
export { fieldNumberMax, type Head, type HeadContent, type Part, type PartKind, partKind } from "./head.js";
export type { Versioned } from "./values.js";
export type { FormerPoint } from "./format-1.js";
export { StoreCopy, type StoreSnapshot } from "./snapshot.js";
