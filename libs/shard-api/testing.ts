export { describeShardApi, type ShardApiHarness } from "./shard-api.conformance.js";
