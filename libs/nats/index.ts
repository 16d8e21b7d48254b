export { checkCluster } from "./cluster.js";
export { apiCode, apiErrorCode, NatsOutage } from "./failure.js";
export { connectNats, NatsLink, type NatsTls } from "./connection.js";
export { checkSync, jetStreamPage, readSyncSetting } from "./monitor.js";
export { type StreamMessage, StreamReader } from "./reader.js";
