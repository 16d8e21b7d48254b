/** The long form of move-kills.test.ts (npm run test:long). */
process.env["KITH_MOVE_ROUNDS"] ??= "20";
await import("./move-kills.test.js");
