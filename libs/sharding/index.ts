export { newShards, nodeForReplica, type PlacementNode, placeReplicas, replicaToRemove } from "./placement.js";
export {
  type BalanceMove,
  type BalanceNode,
  type BalanceOptions,
  type BalanceShard,
  balanceShards,
  planRebalance,
} from "./rebalance.js";
export {
  evenRanges,
  hashSlotCount,
  hashSlotOf,
  hashSlotOfPartition,
  rangesAround,
  slotTable,
  splitRange,
} from "./slots.js";
