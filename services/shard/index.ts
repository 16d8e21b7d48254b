export { ShardHost } from "./host.js";
export type { FetchSnapshot } from "./peers.js";
export { ShardBackups } from "./backup/worker.js";
