export { newShards, nodeForReplica, type PlacementNode, placeReplicas, replicaToRemove } from "./placement.js";
export { evenRanges, hashSlotCount, hashSlotOf, slotTable } from "./slots.js";
