/** The long form of rolling-restart.test.ts: ten rounds (npm run test:long). */
process.env["KITH_RESTART_ROUNDS"] ??= "10";
await import("./rolling-restart.test.js");
