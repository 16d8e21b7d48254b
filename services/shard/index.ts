export { ShardHost } from "./host.js";
export type { FetchSnapshot } from "./peers.js";
export { restoredFiles } from "./backup/part-files.js";
export { ShardBackups } from "./backup/worker.js";
