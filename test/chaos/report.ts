import type { ScenarioResult } from "./run.js";

function counts(all: Record<string, number>): string {
  const entries = Object.entries(all);
  return entries.length === 0 ? "none" : entries.map(([what, count]) => `${count} × ${what}`).join(", ");
}

function row({
  name,
  rounds,
  writes,
  reads,
  longestWriteGapMs,
  slowestSettledMs,
  recall,
  violations,
  seconds,
}: ScenarioResult): string {
  const failed = Object.values(reads.failed).reduce((sum, count) => sum + count, 0);
  const cells = [
    name,
    rounds,
    `${writes.ok} / ${writes.failed} / ${writes.unknown}`,
    `${reads.ok} / ${failed}`,
    longestWriteGapMs,
    slowestSettledMs,
    `${recall.before.toFixed(4)} → ${recall.after.toFixed(4)}`,
    seconds,
    violations.length === 0 ? "holds" : `${violations.length} VIOLATED`,
  ];
  return `| ${cells.join(" | ")} |`;
}

/** What was done and what came of it, in Markdown. */
export function renderReport(results: readonly ScenarioResult[], skipped: Record<string, string>): string {
  const lines = [
    "| scenario | rounds | writes ok / failed / unknown | reads ok / failed | longest pause of writes, ms | until well again, ms | recall | s | |",
    "|---|--:|--:|--:|--:|--:|---|--:|---|",
    ...results.map(row),
    "",
  ];
  for (const { name, title, seed, faults, worst, writes, reads, points, checks, violations } of results) {
    lines.push(
      `* **${name}** (seed ${seed}): ${title}. Faults: ${counts(faults)}. ${points} points, judged ${checks} times.`,
    );
    if (writes.unknown > 0)
      lines.push(`  Of ${writes.unknown} unknown writes ${writes.unknownTaken} had taken effect.`);
    if (Object.keys(reads.failed).length > 0) lines.push(`  Reads that failed: ${counts(reads.failed)}.`);
    for (const [what, value] of Object.entries(worst)) lines.push(`  ${what}: at most ${value}.`);
    for (const violation of violations) lines.push(`  VIOLATED: ${violation}`);
  }
  for (const [name, why] of Object.entries(skipped)) lines.push(`* **${name}**: not run here: ${why}`);
  return `${lines.join("\n")}\n`;
}
