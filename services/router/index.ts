export { Router, type RouterOptions } from "./router.js";
export type { ShardNode } from "./shards.js";
