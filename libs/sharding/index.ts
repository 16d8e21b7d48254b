export { newShards, type PlacementNode, placeReplicas } from "./placement.js";
export { evenRanges, hashSlotCount, hashSlotOf, slotTable } from "./slots.js";
