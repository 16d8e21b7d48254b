export { apiCode, apiErrorCode, NatsOutage } from "./failure.js";
export { connectNats, type NatsConnectOptions, NatsLink } from "./link.js";
export { type StreamMessage, StreamReader } from "./reader.js";
export { readSyncSetting, type SyncSetting } from "./monitor.js";
