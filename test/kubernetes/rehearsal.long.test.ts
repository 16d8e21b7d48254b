/** The long form of rehearsal.test.ts: the plain manifests as they are (npm run test:kubernetes). */
process.env["KITH_REHEARSAL"] = "long";
await import("./rehearsal.test.js");
