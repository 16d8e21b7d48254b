/** npm run test:chaos: real processes, real faults, and checkers that trust nobody. See docs/chaos.md. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { resolveNatsServer } from "../../libs/nats-server/index.js";
import { renderReport } from "./report.js";
import { runScenario, type ScenarioResult } from "./run.js";
import { scenarios } from "./scenarios/index.js";

const values = new Command("test:chaos")
  .description("real processes, real faults, and checkers that trust nobody")
  .option("--only <names>", "scenarios to run, by commas; default: all")
  .option("--rounds <n>", "rounds of each; default: what the scenario asks for")
  .option("--seed <n>", "of the load and of chance in the faults; default: by the time")
  .option("--list", "print the scenarios", false)
  .parse()
  .opts<{ only?: string; rounds?: string; seed?: string; list: boolean }>();
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
const failed: Record<string, string> = {};
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
  try {
    const result = await runScenario(scenario, { rounds, seed, programs, log: console.log });
    results.push(result);
    for (const violation of result.violations) console.log(`  ${violation}`);
  } catch (error) {
    // The cluster did not come up: the others are run, and the report tells of all.
    failed[scenario.name] = `it failed: ${error instanceof Error ? error.message : String(error)}`;
    console.log(`  ${failed[scenario.name]}`);
  }
}
const report = renderReport(results, { ...skipped, ...failed });
console.log(`\n${report}`);
const folder = join(root, ".kith", "chaos");
mkdirSync(folder, { recursive: true });
const file = join(folder, new Date().toISOString().replaceAll(":", "-").slice(0, 19));
writeFileSync(`${file}.md`, report);
writeFileSync(`${file}.json`, `${JSON.stringify({ results, skipped, failed }, undefined, 2)}\n`);
console.log(`kept in ${file}.md and .json`);
const isRight = Object.keys(failed).length === 0 && results.every(({ violations }) => violations.length === 0);
process.exit(isRight ? 0 : 1);
