import { defineConfig } from "vitest/config";

/** Unit tests lie beside the code; test/scenarios crosses modules and processes. */
export default defineConfig({
  test: {
    globalSetup: ["test/cluster/find-nats.ts", "test/tools/prepare.ts"],
    include: [
      "libs/**/*.test.ts",
      "services/**/*.test.ts",
      "test/scenarios/**/*.test.ts",
      "test/simulation/**/*.test.ts",
      "test/kubernetes/**/*.test.ts",
    ],
    exclude: ["**/node_modules/**", "**/dist/**", "**/*.long.test.ts"],
    // Against tests that hang. Others are far from it, also where both cores are busy and the disk is slow.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    expect: { poll: { timeout: 20_000 } },
    pool: "forks",
    // More than cores: tests of whole clusters wait for most of their time.
    maxWorkers: 3,
  },
});
