import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { arch, cpus, release, totalmem } from "node:os";
import { join } from "node:path";
import { repositoryRoot } from "./paths.js";

/** The machine and the code that a figure comes from. */
export interface MachineFacts {
  cpuModel: string;
  cpuCount: number;
  memoryBytes: number;
  architecture: string;
  kernel: string;
  nodeVersion: string;
  /** Commit of the checkout, with "+changes" where files differ from it. */
  commit: string;
}

export function machineFacts(): MachineFacts {
  const all = cpus();
  return {
    cpuModel: all[0]?.model.trim() ?? "unknown",
    cpuCount: all.length,
    memoryBytes: totalmem(),
    architecture: arch(),
    kernel: release(),
    nodeVersion: process.version,
    commit: commitOf(repositoryRoot),
  };
}

function commitOf(directory: string): string {
  const git = (...args: string[]): string =>
    execFileSync("git", args, { cwd: directory, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  try {
    return `${git("rev-parse", "--short=12", "HEAD")}${git("status", "--porcelain") === "" ? "" : "+changes"}`;
  } catch (error) {
    return `unknown (${(error as Error).message.split("\n")[0]})`;
  }
}

/** Writes bench/results/<benchmark>-<time>.json and returns its path. */
export function writeResult(benchmark: string, result: object, file?: string): string {
  const directory = join(repositoryRoot, "bench", "results");
  const time = new Date().toISOString();
  const path = file ?? join(directory, `${benchmark}-${time.replaceAll(/[-:]/g, "").slice(0, 15)}.json`);
  if (file === undefined) mkdirSync(directory, { recursive: true });
  writeFileSync(path, `${JSON.stringify({ benchmark, time, machine: machineFacts(), ...result }, null, 2)}\n`);
  return path;
}

export function describeMachine(): string {
  const facts = machineFacts();
  const gib = (facts.memoryBytes / 1024 ** 3).toFixed(0);
  return `${facts.cpuModel}, ${facts.cpuCount} cores, ${gib} GiB, Node ${facts.nodeVersion}, commit ${facts.commit}`;
}
