/** The long form of copy-kills.test.ts (npm run test:long). */
process.env["KITH_COPY_ROUNDS"] ??= "40";
process.env["KITH_COPY_POINTS"] ??= "60000";
await import("./copy-kills.test.js");
