import { defineConfig } from "vitest/config";

/** Long forms: hundreds of rounds of faults. Not part of `npm test`. */
export default defineConfig({
  test: {
    globalSetup: ["test/cluster/find-nats.ts"],
    include: ["libs/**/*.long.test.ts", "test/{scenarios,kubernetes}/**/*.long.test.ts"],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    pool: "forks",
    maxWorkers: 1,
  },
});
