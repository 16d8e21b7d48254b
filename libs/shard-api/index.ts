export type { ShardApi } from "./port.js";
export type {
  ReadAnswer,
  ReadHandlers,
  ReadKind,
  ReadRequest,
  ShardGet,
  ShardRead,
  ShardReads,
  ShardScroll,
} from "./reads.js";
