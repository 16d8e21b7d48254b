export { filterFromJson } from "./json.js";
export { geoDistanceMeters } from "./geo.js";
export { compileFilter, type FilterSchema, matches, type PointTest } from "./matches.js";
export { type FilterPoint, parsePayload, StoredFilterPoint } from "./point.js";
export { filterToJson } from "./print-json.js";
export { defaultTokenizer, Tokenizer, type TokenizerOptions } from "./tokens.js";
export { parseFilter } from "./text/parse.js";
export { printFilter } from "./text/print.js";
export { validateFilter } from "./validate.js";
