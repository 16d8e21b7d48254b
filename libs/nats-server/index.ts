export { minimumVersion, pinnedVersion } from "./releases.js";
export { type NatsServer, type ResolveOptions, resolveNatsServer } from "./resolve.js";
export { type RunningNatsServer, startNatsServer, type StartNatsServerOptions } from "./start.js";
