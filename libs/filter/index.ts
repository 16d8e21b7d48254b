export { filterFromJson } from "./json.js";
export { datetimeMicros, zonedDatetimeMicros } from "./datetime.js";
export { geoDistanceMeters } from "./geo.js";
export { compileFilter, type FilterSchema, matches, type PointTest } from "./matches.js";
export { type FilterPoint, parsePayload, StoredFilterPoint } from "./point.js";
export { countBits, SlotSet, type Words } from "./index/bits.js";
export {
  type ConditionReport,
  estimateFilter,
  evaluateFilter,
  type FilterSelection,
  type SlotSource,
} from "./index/evaluate.js";
export { PayloadField } from "./index/payload-field.js";
export { PayloadIndexes } from "./index/payload-indexes.js";
export { type RunOptions, runSteps } from "./index/run.js";
export { listTenant } from "./index/tenant.js";
export type { Steps } from "./index/sorted-entries.js";
export { filterSchemaOf, indexSpecOf } from "./index/spec.js";
export type {
  FacetCount,
  FacetValue,
  OrderCursor,
  OrderedPage,
  PageOptions,
  PayloadIndexSpec,
} from "./index/types.js";
export { type IndexedField, fieldConditions, type UnindexedCondition, unindexedConditions } from "./index/unindexed.js";
export { filterToJson } from "./print-json.js";
export { sizeOfFilter } from "./size.js";
export type { TokenizerOptions } from "./tokens.js";
export { parseFilter } from "./text/parse.js";
export { validateFilter } from "./validate.js";
