import { resolve } from "node:path";
import { Command } from "commander";
import { toKithError } from "../../../libs/base/index.js";
import { type CommandContext, contextOf, withClient } from "../context.js";
import {
  checkCompiler,
  checkDisk,
  checkFolder,
  checkFsync,
  checkHugePages,
  checkMemory,
  checkNode,
  checkOpenFiles,
  type Finding,
  type Verdict,
} from "./machine.js";
import { checkNatsBinary, checkNatsSync, checkNatsUrl } from "./nats.js";
import { exitCode, ExitError } from "../failure.js";
import type { Io } from "../io.js";
import type { Style } from "../cells.js";

interface DoctorFlags {
  data: string;
  nats?: string;
  natsMonitor?: string;
}

const marks: Record<Verdict, [string, Style]> = {
  ok: ["ok  ", "green"],
  warn: ["warn", "yellow"],
  fail: ["FAIL", "red"],
};

export function doctorCommand(io: Io): Command {
  return new Command("doctor")
    .description("check this machine, its disk, NATS, and whether Kith answers")
    .option("--data <folder>", "where data is, or will be", "./.kith")
    .option("--nats <urls>", "NATS servers to check (KITH_NATS_URL)")
    .option("--nats-monitor <urls>", "their monitoring ports, such as http://127.0.0.1:8222 (KITH_NATS_MONITOR_URL)")
    .addHelpText(
      "after",
      `
Ends with code 1 when a check fails.

Examples:
  kith doctor
  kith doctor --data /var/lib/kith --nats nats://nats:4222 --nats-monitor http://nats:8222
  kith doctor --output json | jq '.[] | select(.verdict != "ok")'`,
    )
    .action(async (flags: DoctorFlags, self: Command) => {
      const context = contextOf(io, self);
      const findings = await examine(context, flags);
      if (context.out.json) await context.out.document(findings);
      else await show(context, findings);
      if (findings.some((finding) => finding.verdict === "fail")) throw new ExitError(exitCode.failure);
    });
}

async function examine(context: CommandContext, flags: DoctorFlags): Promise<Finding[]> {
  const { io } = context;
  const findings: Finding[] = [
    checkNode(),
    checkMemory(),
    await checkHugePages(),
    await checkOpenFiles(),
    await checkCompiler(),
  ];
  const folder = resolve(io.cwd, flags.data);
  const writable = await checkFolder(folder);
  findings.push(writable);
  if (writable.verdict === "ok") findings.push(await checkDisk(folder), await checkFsync(folder));
  const url = flags.nats ?? io.env["KITH_NATS_URL"];
  const monitors = (flags.natsMonitor ?? (io.env["KITH_NATS_MONITOR_URL"] || undefined))?.split(",");
  findings.push(...(url ? await checkNatsUrl(url) : [await checkNatsBinary(io)]));
  if (url && monitors === undefined) findings.push(await checkNatsSync(undefined));
  for (const monitor of monitors ?? []) findings.push(await checkNatsSync(monitor.trim()));
  findings.push(await checkServer(context));
  return findings;
}

async function checkServer(context: CommandContext): Promise<Finding> {
  const check = "server";
  const patience = { ...context, deadlineMs: Math.min(context.deadlineMs, 2_000) };
  try {
    const info = await withClient(patience, (client) => client.cluster.describe());
    const found = `Kith ${info.version} answers at ${context.target}; ${info.logKind} log, ${info.nodes.length} nodes`;
    if (!info.logAvailable)
      return { check, verdict: "fail", found, remedy: "The log is away: writes fail. Look after NATS." };
    const stale = info.shards.flatMap((shard) => shard.replicas).filter((replica) => replica.state === "stale").length;
    if (stale > 0)
      return {
        check,
        verdict: "fail",
        found: `${found}, ${stale} stale replicas`,
        remedy: 'See "kith cluster replicas".',
      };
    return { check, verdict: "ok", found };
  } catch (thrown) {
    const { code, message } = toKithError(thrown);
    if (code === "CANCELLED") throw thrown;
    if (code !== "SERVER_UNREACHABLE")
      return { check, verdict: "fail", found: message, remedy: "Name the right address with --target." };
    return {
      check,
      verdict: "warn",
      found: `nothing answers at ${context.target}`,
      remedy: 'Start one with "kith dev", or name another with --target.',
    };
  }
}

async function show({ out }: CommandContext, findings: readonly Finding[]): Promise<void> {
  const width = Math.max(...findings.map((finding) => finding.check.length));
  for (const { check, verdict, found, remedy } of findings) {
    const [mark, style] = marks[verdict];
    await out.line(`${out.paint(style, mark)}  ${check.padEnd(width)}  ${found}`);
    if (remedy !== undefined) await out.line(`${" ".repeat(6 + width)}  → ${remedy}`);
  }
}
