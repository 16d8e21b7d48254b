export { ShardHost } from "./host.js";
