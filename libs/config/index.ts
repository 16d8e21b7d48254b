export { loadNodeConfig } from "./node-config.js";
export { describeSettings } from "./page.js";
export { isAuthRequired, isLoopback } from "./safety.js";
export { type NodeConfig, type Role, roles } from "./schema.js";
