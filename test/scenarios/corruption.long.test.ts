/** The long form of corruption.test.ts: two hundred flipped bytes, at places of this run's own (npm run test:long). */
process.env["KITH_CORRUPTION_FLIPS"] ??= "200";
process.env["KITH_SEED"] ??= String(Date.now() % 1_000_000);
await import("./corruption.test.js");
