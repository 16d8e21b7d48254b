import fc from "fast-check";

/**
 * Tests of properties take the same chances each time, so that one that was green stays so until the code changes. `npm run test:random` looks for what
 * other chances find; a failure prints its seed, and `KITH_SEED=<seed>` repeats it.
 */
fc.configureGlobal({ seed: Number(process.env["KITH_SEED"] ?? 1) });
