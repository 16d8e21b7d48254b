/** The long form of kill-shard.test.ts: a hundred rounds (npm run test:long). */
process.env["KITH_KILL_ROUNDS"] ??= "100";
await import("./kill-shard.test.js");
