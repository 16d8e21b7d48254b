export { filterFromJson } from "./json.js";
export { zonedDatetimeMicros } from "./datetime.js";
export { geoDistanceMeters } from "./geo.js";
export { compileFilter, type FilterSchema, matches, type PointTest } from "./matches.js";
export { type FilterPoint, parsePayload, StoredFilterPoint } from "./point.js";
export { filterToJson } from "./print-json.js";
export type { TokenizerOptions } from "./tokens.js";
export { parseFilter } from "./text/parse.js";
export { validateFilter } from "./validate.js";
