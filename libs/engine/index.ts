export type { Alarm, IndexFactory, Peers, PeerSnapshot, ReplicaOptions, ReplicaTuning } from "./replica/options.js";
export { Replica } from "./replica/replica.js";
