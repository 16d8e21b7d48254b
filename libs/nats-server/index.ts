export { minimumVersion, pinnedVersion } from "./releases.js";
export { type NatsServer, resolveNatsServer } from "./resolve.js";
export { type RunningNatsServer, startNatsServer } from "./start.js";
