export { Coordinator } from "./coordinator.js";
export type { PrimaryCluster, StandbyOptions } from "./standby/index.js";
