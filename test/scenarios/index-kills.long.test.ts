/** The long form of index-kills.test.ts: twenty rounds (npm run test:long). */
process.env["KITH_INDEX_KILL_ROUNDS"] ??= "20";
await import("./index-kills.test.js");
