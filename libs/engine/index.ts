export type { Alarm, IndexFactory, Peers, PeerSnapshot, ReplicaOptions, ReplicaTuning } from "./options.js";
export { Replica } from "./replica.js";
