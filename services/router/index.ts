export { Router } from "./router.js";
export type { ShardNode } from "./routing/shards.js";
