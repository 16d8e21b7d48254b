import { defineConfig, type TestProjectConfiguration } from "vitest/config";

const ownProcess = ["test/scenarios/ports.test.ts", "libs/telemetry/setup.test.ts"];

const excluded = ["**/node_modules/**", "**/dist/**", "**/*.long.test.ts"];

const common = {
  setupFiles: "test/tools/seed.ts",
  // Against tests that hang. Others are far from it, also where both cores are busy and the disk is slow.
  testTimeout: 120_000,
  hookTimeout: 120_000,
  expect: { poll: { timeout: 20_000 } },
  pool: "forks",
} as const;

const projects: TestProjectConfiguration[] = [
  {
    // Also what other configurations of the tests add to this one.
    extends: true,
    test: {
      ...common,
      exclude: excluded,
      name: "own process",
      // Simulations replace the file system and LevelDB of their process, another one a module of Node; and OpenTelemetry has globals of which it warns
      // where several have set them.
      include: ["test/simulation/**/*.test.ts", ...ownProcess],
      isolate: true,
    },
  },
  {
    extends: true,
    test: {
      ...common,
      name: "kith",
      globalSetup: ["test/cluster/find-nats.ts", "test/tools/prepare.ts"],
      include: [
        "libs/**/*.test.ts",
        "services/**/*.test.ts",
        "test/scenarios/**/*.test.ts",
        "test/kubernetes/**/*.test.ts",
      ],
      exclude: [...excluded, ...ownProcess],
      // A process runs one file after the other and loads what they share once: 73 files of units take 21 s of CPU time so, and 49 s in a
      // process each. Whatever a file changes in its process, it puts back.
      isolate: false,
    },
  },
];

/** Unit tests lie beside the code; test/scenarios crosses modules and processes. */
export default defineConfig({
  test: {
    projects,
    // More than cores: tests of whole clusters wait for most of their time.
    maxWorkers: 4,
  },
});
