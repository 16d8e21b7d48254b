import { defineConfig } from "vitest/config";

/** Unit tests lie beside the code; test/scenarios crosses modules and processes. */
export default defineConfig({
  test: {
    globalSetup: ["test/cluster/find-nats.ts"],
    include: ["libs/**/*.test.ts", "services/**/*.test.ts", "test/scenarios/**/*.test.ts"],
    exclude: ["**/node_modules/**", "**/dist/**", "**/*.long.test.ts"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    pool: "forks",
    maxWorkers: 2,
  },
});
