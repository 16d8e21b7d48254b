export type { ShardApi } from "./port.js";
