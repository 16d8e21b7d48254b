export type { Alarm, IndexFactory, ReplicaOptions, ReplicaTuning } from "./options.js";
export { Replica } from "./replica.js";
export type { Peers, PeerSnapshot } from "./resync.js";
