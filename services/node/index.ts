export { type RunningNode, startNode } from "./node.js";
