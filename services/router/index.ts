export { Router } from "./router.js";
export type { ShardNode } from "./routing/replica-handle.js";
