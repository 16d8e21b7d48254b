/**
 * Runs seeds of the simulation:
 *
 *     npm run test:simulation -- --seeds 1000 --from 1     a range; exits with 1 where a seed is red, and names it
 *     npm run test:simulation -- --seed 17 --verbose       one seed, with all that happens
 *     npm run test:simulation -- --planted 3 --seeds 100   with the third of the planted faults
 */
import { parseArgs } from "node:util";
import { plantedFaults } from "./planted.js";
import { type RunResult, runSeed } from "./run.js";

/** Lines of the trace that are shown of a red seed. */
const shownLines = 40;

async function main(): Promise<number> {
  const { values } = parseArgs({
    args: process.argv.slice(2),
    options: {
      seed: { type: "string" },
      seeds: { type: "string", default: "200" },
      from: { type: "string", default: "1" },
      planted: { type: "string" },
      verbose: { type: "boolean", default: false },
    },
  });
  const print = (line: string): void => void process.stdout.write(`${line}\n`);
  const from = Number(values.seed ?? values.from);
  const count = values.seed === undefined ? Number(values.seeds) : 1;
  const fault = values.planted === undefined ? undefined : plantedFaults[Number(values.planted) - 1];
  const startMs = performance.now();
  const red: number[] = [];
  const sums = { events: 0, virtualMs: 0, ok: 0, unknown: 0, reads: 0 };
  for (let seed = from; seed < from + count; seed++) {
    const result = await runSeed(seed, {
      ...(values.verbose && { print }),
      ...(fault && { planted: fault.plant() }),
    });
    sums.events += result.eventCount;
    sums.virtualMs += result.virtualMs;
    sums.ok += result.writes.ok;
    sums.unknown += result.writes.unknown;
    sums.reads += result.readCount;
    if (result.violations.length > 0) {
      red.push(seed);
      report(result, print, values.verbose);
    } else if (count === 1)
      print(`seed ${seed} is green: hash ${result.hash}, ${JSON.stringify(result.writes)}, ${result.readCount} reads`);
  }
  const tookMs = performance.now() - startMs;
  print(
    `${count} seeds from ${from}: ${red.length} red${red.length === 0 ? "" : ` (${red.join(", ")})`}; ` +
      `${sums.ok} writes acknowledged, ${sums.unknown} unknown, ${sums.reads} reads, ${sums.events} events, ` +
      `${Math.round(sums.virtualMs / 1_000)} s of virtual time in ${(tookMs / 1_000).toFixed(1)} s`,
  );
  return red.length === 0 ? 0 : 1;
}

function report({ seed, violations, hash, lines }: RunResult, print: (line: string) => void, isVerbose: boolean): void {
  if (!isVerbose) for (const line of lines.slice(-shownLines)) print(line);
  print(`seed ${seed} is red (hash ${hash}):`);
  for (const violation of violations.slice(0, 10)) print(`  ${violation}`);
  print(`again: npm run test:simulation -- --seed ${seed} --verbose`);
}

process.exitCode = await main();
