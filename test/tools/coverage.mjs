/**
 * `npm run test:coverage [vitest arguments]`: runs the tests, and prints which part of the statements and branches of libs/ and services/ they
 * run, in the processes of the tests and in those that tests start (nodes, the program `kith`, workers). Generated code is not counted.
 *
 * Vitest counts what runs in its own workers. Other processes run dist/ under NODE_V8_COVERAGE, which Node hands down to children, and leave a
 * dump each. Both become Istanbul's counts by the same library; dist/ through its source maps. A process that is killed leaves none.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import libCoverage from "istanbul-lib-coverage";
import libReport from "istanbul-lib-report";
import reports from "istanbul-reports";
import { coverageOfDumps } from "./coverage-children.mjs";
import { addCounts } from "./coverage-counts.mjs";

/** In percent. */
const least = { statements: 92, branches: 80 };

const root = join(fileURLToPath(import.meta.url), "..", "..", "..");
const folder = join(root, "coverage");
const dumps = join(folder, "children");

rmSync(folder, { recursive: true, force: true });
mkdirSync(dumps, { recursive: true });
const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
const config = join(root, "vitest.coverage.config.ts");
const tests = spawnSync(process.execPath, [vitest, "run", "--config", config, ...process.argv.slice(2)], {
  cwd: root,
  stdio: "inherit",
});

const files = JSON.parse(readFileSync(join(folder, "workers", "workers.json"), "utf8"));
const { dumpCount, coverage } = await coverageOfDumps(dumps, root);
for (const [path, counts] of Object.entries(coverage)) if (files[path] !== undefined) addCounts(files[path], counts);
rmSync(dumps, { recursive: true, force: true });
writeFileSync(join(folder, "coverage-final.json"), JSON.stringify(files));

const coverageMap = libCoverage.createCoverageMap(files);
const context = libReport.createContext({ dir: folder, coverageMap, defaultSummarizer: "nested" });
reports.create("text", { skipFull: true }).execute(context);
reports.create("text-summary").execute(context);
console.log(`with ${dumpCount} processes that tests have started`);

const summary = coverageMap.getCoverageSummary();
const missed = Object.entries(least).filter(([kind, percent]) => summary[kind].pct < percent);
for (const [kind, percent] of missed) console.error(`${kind}: ${summary[kind].pct} % are less than ${percent} %`);
// Where only some of the tests were asked for, the figures tell of these.
process.exit(tests.status !== 0 ? (tests.status ?? 1) : missed.length > 0 && process.argv.length === 2 ? 1 : 0);
