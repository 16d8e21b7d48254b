export { xxh32, xxh64 } from "./hash.js";
