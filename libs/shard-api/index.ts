export type { ShardApi } from "./port.js";
export type {
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
