export { Router } from "./router.js";
export type { ShardNode } from "./shards.js";
