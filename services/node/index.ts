export { type NodeOptions, type RunningNode, startNode } from "./node.js";
export { Heartbeat } from "./heartbeat.js";
