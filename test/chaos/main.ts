/**
 * npm run test:chaos: real processes, real faults, and checkers that trust nobody. See docs/chaos.md.
 *
 *   --only NAME[,NAME]   scenarios to run; default: all
 *   --rounds N           rounds of each; default: what the scenario asks for
 *   --seed N             of the load and of chance in the faults; default: by the time
 *   --list               prints the scenarios
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { resolveNatsServer } from "../../libs/nats-server/index.js";
import { renderReport } from "./report.js";
import { runScenario, type ScenarioResult } from "./run.js";
import { scenarios } from "./scenarios/index.js";

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    rounds: { type: "string" },
    seed: { type: "string" },
    list: { type: "boolean", default: false },
  },
});
const names = values.only?.split(",");
const unknown = names?.filter((name) => !scenarios.some((scenario) => scenario.name === name)) ?? [];
if (values.list || unknown.length > 0) {
  for (const { name, title, rounds } of scenarios) console.log(`${name.padEnd(22)} ${title} (${rounds} rounds)`);
  if (unknown.length > 0) console.error(`unknown: ${unknown.join(", ")}`);
  process.exit(unknown.length > 0 ? 2 : 0);
}
/** This file is built into dist/chaos/test/chaos. */
const root = join(fileURLToPath(import.meta.url), "..", "..", "..", "..", "..");
const nats = await resolveNatsServer({
  searchPath: process.env["PATH"] ?? "",
  cacheDirectory: join(root, ".kith", "cache"),
  log: console.log,
});
if (nats.kind !== "binary") throw new Error("the scenarios start nats-servers of their own");
const programs = { program: join(root, "dist", "services", "cli", "main.js"), natsBinary: nats.path };
const seed = Number(values.seed ?? Math.floor(Date.now() / 1_000) % 1_000_000);
const results: ScenarioResult[] = [];
const skipped: Record<string, string> = {};
for (const scenario of scenarios) {
  if (names !== undefined && !names.includes(scenario.name)) continue;
  const why = scenario.missing?.();
  if (why !== undefined) {
    skipped[scenario.name] = why;
    console.log(`${scenario.name}: skipped: ${why}`);
    continue;
  }
  const rounds = Number(values.rounds ?? scenario.rounds);
  console.log(`${scenario.name}: ${scenario.title}; ${rounds} rounds, seed ${seed}`);
  const result = await runScenario(scenario, { rounds, seed, programs, log: console.log });
  results.push(result);
  for (const violation of result.violations) console.log(`  ${violation}`);
}
const report = renderReport(results, skipped);
console.log(`\n${report}`);
const folder = join(root, ".kith", "chaos");
mkdirSync(folder, { recursive: true });
const file = join(folder, new Date().toISOString().replaceAll(":", "-").slice(0, 19));
writeFileSync(`${file}.md`, report);
writeFileSync(`${file}.json`, `${JSON.stringify({ results, skipped }, undefined, 2)}\n`);
console.log(`kept in ${file}.md and .json`);
process.exit(results.some(({ violations }) => violations.length > 0) ? 1 : 0);
