import { Command, Option } from "commander";
import { sleep, systemClock } from "../../../libs/base/index.js";
import type { KithClient, OperationInfo, RebalancePlan } from "../../../libs/client/index.js";
import type { Cell } from "../cells.js";
import { type CommandContext, contextOf, withClient } from "../context.js";
import { UsageError } from "../failure.js";
import type { Io } from "../io.js";
import { describeProgress, isLive } from "../operation-progress.js";
import { formatBytes, formatCount, formatDuration } from "../output.js";

const lookEveryMs = 1_000;
/** Without a terminal it is told now and then. */
const lineEveryMs = 5_000;

interface Flags {
  plan?: boolean;
  apply?: boolean;
  watch?: boolean;
  pause?: boolean;
  resume?: boolean;
  abort?: boolean;
}

export function rebalanceCommand(io: Io): Command {
  return new Command("rebalance")
    .description("make the nodes equally loaded, by bytes and by reads")
    .addOption(new Option("--plan", "show the moves, their bytes and about how long they take").conflicts("apply"))
    .option("--apply", "begin them")
    .option("--watch", "show how far they are until all have ended")
    .option("--pause", "begin no more of them; those under way go on")
    .option("--resume", "go on")
    .option("--abort", "undo those that have not ended")
    .addHelpText(
      "after",
      `
The cluster does it by itself too, unless \`kith cluster settings auto-rebalance=0\`. Bounds: rebalance-threshold-percent, rebalance-min-bytes,
moves-at-once, copy-bytes-per-second.

Examples:
  kith rebalance --plan
  kith rebalance --apply --watch
  kith rebalance --pause`,
    )
    .action(async (flags: Flags, self: Command) => {
      const context = contextOf(io, self);
      await withClient(context, (client) => rebalance(context, client, flags));
    });
}

async function rebalance(context: CommandContext, client: KithClient, flags: Flags): Promise<void> {
  const { io, out } = context;
  const call = { signal: io.signal };
  const chosen = [flags.plan, flags.apply, flags.pause, flags.resume, flags.abort].filter(Boolean).length;
  if (chosen > 1) throw new UsageError("give one of --plan, --apply, --pause, --resume and --abort");
  if (chosen === 0 && flags.watch !== true) {
    throw new UsageError("say what to do: --plan, --apply, --watch, --pause, --resume or --abort");
  }
  if (flags.pause === true || flags.resume === true) {
    const settings = await client.cluster.updateSettings({ rebalancePaused: flags.pause === true ? 1 : 0 }, call);
    const paused = settings.rebalancePaused === 1;
    if (out.json) await out.document({ paused });
    else await out.line(paused ? "paused: no more moves begin" : "going on");
  }
  if (flags.abort === true) {
    const operations = await client.cluster.abortRebalance(call);
    if (out.json) await out.document({ operations });
    else await out.line(`${formatCount(operations.length)} moves are being undone`);
  }
  if (flags.plan === true || flags.apply === true) {
    const plan = await client.cluster.rebalance({ apply: flags.apply === true, ...call });
    if (!out.json) await showPlan(context, plan, flags.apply === true);
    else if (flags.watch !== true) await out.document(plan);
  }
  if (flags.watch === true) await watch(context, client);
}

async function showPlan({ out }: CommandContext, plan: RebalancePlan, applied: boolean): Promise<void> {
  await out.table(
    ["NODE", "BYTES", "AFTERWARDS", "READS/S"],
    plan.nodes.map((each) => [
      each.node,
      formatBytes(each.sizeBytes),
      formatBytes(each.plannedBytes),
      Math.round(each.readsPerSecond),
    ]),
  );
  if (plan.moves.length === 0) {
    await out.note("the nodes are equally loaded: there is nothing to move");
    return;
  }
  await out.line();
  await out.table(
    ["COLLECTION", "SHARD", "FROM", "TO", "BYTES"],
    plan.moves.map((move): Cell[] => [move.collection, move.shard, move.from, move.to, formatBytes(move.sizeBytes)]),
  );
  const count = `${formatCount(plan.moves.length)} move${plan.moves.length === 1 ? "" : "s"}`;
  const what = `${count}, ${formatBytes(plan.sizeBytes)}, about ${formatDuration(plan.expectedMs)}`;
  await out.note(applied ? `begun: ${what}` : `planned: ${what}`);
}

/** Until no move of a rebalancing is left: on a terminal a line for each that is under way, drawn again and again. */
async function watch({ io, out }: CommandContext, client: KithClient): Promise<void> {
  let drawn = 0;
  let toldMs = Number.NEGATIVE_INFINITY;
  let seen = new Set<string>();
  for (;;) {
    const all = await client.cluster.operations({ signal: io.signal });
    const moves = all.filter(({ move }) => move?.reason === "rebalance");
    const live = moves.filter(isLive);
    seen = new Set([...seen, ...live.map(({ id }) => id)]);
    const ended = moves.filter((each) => seen.has(each.id) && !isLive(each));
    const lines = [
      `${formatCount(ended.length)} of ${formatCount(seen.size)} moves have ended`,
      ...live.filter(isUnderWay).map(lineOf),
    ];
    if (io.stderrIsTerminal) {
      // Up over what was drawn, and clear from there.
      io.stderr.write(`${drawn === 0 ? "" : `\u001b[${drawn}F\u001b[J`}${lines.join("\n")}\n`);
      drawn = lines.length;
    } else if (systemClock.monotonicMs() - toldMs >= lineEveryMs || live.length === 0) {
      toldMs = systemClock.monotonicMs();
      io.stderr.write(`${lines.join("; ")}\n`);
    }
    if (live.length === 0) {
      const counts = Object.fromEntries(
        ["done", "cancelled", "failed"].map((state) => [state, ended.filter((each) => each.state === state).length]),
      );
      if (out.json) await out.document(counts);
      else
        await out.line(
          Object.entries(counts)
            .map(([state, count]) => `${count} ${state}`)
            .join(", "),
        );
      return;
    }
    await sleep(systemClock, lookEveryMs, io.signal);
  }
}

function isUnderWay({ step, state }: OperationInfo): boolean {
  return step !== "join" || state === "cancelling";
}

const barSize = 20;

function lineOf(operation: OperationInfo): string {
  const { collection, shard, move } = operation;
  const { from = "", to = "", copiedBytes = 0, totalBytes = 0 } = move ?? {};
  const share = operation.step === "copy" ? copiedBytes / Math.max(1, totalBytes) : 1;
  const full = Math.round(barSize * Math.min(1, share));
  const bar = `${"█".repeat(full)}${"░".repeat(barSize - full)}`;
  return `${bar} ${collection} ${shard}: ${from} → ${to}, ${describeProgress(operation)}`;
}
