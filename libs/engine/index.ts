export type { Alarm, IndexFactory, Peers, PeerSnapshot, ReplicaOptions, ReplicaTuning } from "./replica/options.js";
export { RecallKeeper } from "./recall/keeper.js";
export { Replica } from "./replica/replica.js";
export { Handover, type HandoverPart, type HandoverPlace } from "./recover/handover.js";
export { type HeadRange, ReplicaContent } from "./recover/content.js";
export { putFiles } from "./recover/put-files.js";
export type { ReplicaFiles } from "./recover/snapshot.js";
export { type RefilledPoint, refillStore } from "./recover/refill.js";
export { replay, type Replayed } from "./recover/replay.js";
