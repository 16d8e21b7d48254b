import type { JsonValue } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import { countOf, flagOf, objectOf, optional } from "./values.js";

/** Limits by their names in Qdrant. Those that Kith has no like of are kept and reported alone. */
export function strictModeOf(value: JsonValue | undefined, at: string): pb.StrictMode | undefined {
  if (value === undefined) return undefined;
  const given = objectOf(value, at);
  if (optional(given, "enabled", at, flagOf) !== true) return undefined;
  const count = (key: string): number => optional(given, key, at, countOf) ?? 0;
  /** Of a minute there, of a second here. */
  const rate = (key: string): number => Math.ceil(count(key) / 60);
  return pb.StrictMode.create({
    maxLimit: count("max_query_limit"),
    maxEf: count("search_max_hnsw_ef"),
    maxFilterConditions: count("filter_max_conditions"),
    maxBatchPoints: count("upsert_max_batchsize"),
    maxBatchQueries: count("search_max_batchsize"),
    maxPoints: count("max_points_count"),
    maxReadsPerSecond: rate("read_rate_limit"),
    maxWritesPerSecond: rate("write_rate_limit"),
    refuseExact: optional(given, "search_allow_exact", at, flagOf) === false,
    refuseUnindexed: optional(given, "unindexed_filtering_retrieve", at, flagOf) === false,
  });
}
