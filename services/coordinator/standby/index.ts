export type { PrimaryCluster } from "./primary.js";
export { Standby, type StandbyOptions } from "./standby.js";
