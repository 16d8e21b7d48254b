export type {
  ConditionExplain,
  MaskExplain,
  ReadExplain,
  SearchExplain,
  UnindexedExplain,
} from "./explain.js";
export type { ShardApi } from "./port.js";
export type {
  OrderPlace,
  ReadAnswer,
  ReadHandlers,
  ReadKind,
  ReadRequest,
  ShardCountOf,
  ShardFacet,
  ShardFacets,
  ShardGet,
  ShardHits,
  ShardOrder,
  ShardRead,
  ShardReads,
  ShardSample,
  ShardScope,
  ShardScroll,
  ShardSearch,
} from "./reads.js";
