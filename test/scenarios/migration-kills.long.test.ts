/** The long form of migration-kills.test.ts (npm run test:long). */
process.env["KITH_MIGRATION_ROUNDS"] ??= "25";
process.env["KITH_MIGRATION_POINTS"] ??= "300000";
await import("./migration-kills.test.js");
