export { type PrimaryCluster, Standby, type StandbyOptions } from "./standby.js";
