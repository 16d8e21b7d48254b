import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig, mergeConfig } from "vitest/config";
import base from "./vitest.config.js";

const folder = join(fileURLToPath(import.meta.url), "..", "coverage");

/** All tests, with what they cover in this process and, as dumps of V8, in those that they start. See test/tools/coverage.mjs. */
export default mergeConfig(
  base,
  defineConfig({
    test: {
      // Set when a worker runs already: its own coverage comes from Vitest, and Node hands the variable down to every child.
      env: { NODE_V8_COVERAGE: join(folder, "children") },
      coverage: {
        enabled: true,
        provider: "v8",
        reporter: [["json", { file: "workers.json" }]],
        reportsDirectory: join(folder, "workers"),
        reportOnFailure: true,
        include: ["libs/**/*.ts", "services/**/*.ts"],
        exclude: [
          "libs/wire/gen/**",
          "**/*.test.ts",
          "**/*.conformance.ts",
          "**/testing/**",
          "**/testing.ts",
          "**/*.d.ts",
        ],
      },
    },
  }),
);
