import { Command } from "commander";
import { KithError, sleep, systemClock } from "../../../libs/base/index.js";
import type { FollowedLogInfo, KithClient, StandbyInfo } from "../../../libs/client/index.js";
import { type CommandContext, contextOf, withClient } from "../context.js";
import type { Io } from "../io.js";
import { formatCount, formatDuration } from "../output.js";

const lookEveryMs = 200;
/** What was told so long ago is shown with its age. */
const oldMs = 10_000;

export function standbyCommand(io: Io): Command {
  const command = new Command("standby").description(
    "a cluster that follows another one: how far it is, and its promotion",
  );
  command.addCommand(statusCommand(io));
  command.addCommand(promoteCommand(io));
  return command;
}

function statusCommand(io: Io): Command {
  return new Command("status")
    .description("show whether the cluster follows another one, and how far the log of each shard is")
    .addHelpText(
      "after",
      `
LAG is records of the primary's log that are not here, and how long ago all that the primary had then is here.

Examples:
  kith standby status
  kith standby status --output json | jq .lagMs`,
    )
    .action(async (_flags: object, self: Command) => {
      const context = contextOf(io, self);
      const standby = await withClient(context, (client) => client.cluster.standby({ signal: io.signal }));
      await show(context, standby);
    });
}

function promoteCommand(io: Io): Command {
  return new Command("promote")
    .description("have the cluster follow no more, and take writes")
    .option("--force", "also where shards have no whole replica here yet: they answer nothing then")
    .option("--no-wait", "end when that has been asked for")
    .addHelpText(
      "after",
      `
Where the primary still answers, what it has written by then is taken over first, for 10 seconds at most: stop its writers before. What it writes
afterwards never comes here. There is no way back: a cluster that is to follow this one begins empty.

Examples:
  kith standby promote
  kith standby promote --output json`,
    )
    .action(async ({ force = false, wait }: { force?: boolean; wait: boolean }, self: Command) => {
      const context = contextOf(io, self);
      const standby = await withClient(context, async (client) => {
        const begun = await client.cluster.promoteStandby({ force, signal: io.signal });
        return wait ? untilPromoted(io, client) : begun;
      });
      await show(context, standby);
    });
}

async function untilPromoted(io: Io, client: KithClient): Promise<StandbyInfo> {
  for (;;) {
    const standby = await client.cluster.standby({ signal: io.signal });
    if (standby === undefined) throw new KithError("FAILED_PRECONDITION", "the cluster follows no other one");
    if (standby.phase === "promoted") return standby;
    await sleep(systemClock, lookEveryMs, io.signal);
  }
}

async function show({ out }: CommandContext, standby: StandbyInfo | undefined): Promise<void> {
  if (out.json) {
    await out.document(standby ?? null);
    return;
  }
  if (standby === undefined) {
    await out.line("the cluster follows no other one");
    return;
  }
  const { primary, phase, reachable, reason, orphans, toldAt, lag, lagMs, logs } = standby;
  if (phase !== "following") {
    await out.line(`the cluster is ${phase}; it followed "${primary}"`);
    return;
  }
  const behind =
    lagMs === undefined
      ? "its lag is not known yet"
      : `${formatCount(lag)} records and ${formatDuration(lagMs)} behind`;
  await out.line(`the cluster follows "${primary}", which ${reachable ? "answers" : "does not answer"}: ${behind}`);
  const ageMs = toldAt === undefined ? 0 : systemClock.nowMs() - toldAt.getTime();
  if (ageMs > oldMs) await out.line(`this was told ${formatDuration(ageMs)} ago: does a coordinator run?`);
  if (reason !== "") await out.line(reason);
  if (orphans.length > 0) await out.line(`not in the primary, and left as they are: ${orphans.join(", ")}`);
  await out.table(["COLLECTION", "SHARD", "STATE", "RECORD", "PRIMARY", "LAG", "BEHIND", ""], logs.map(rowOf));
}

function rowOf({ collection, shard, state, sequence, primarySequence, lag, lagMs, reason }: FollowedLogInfo) {
  const style = state === "following" ? "green" : state === "failed" ? "red" : "yellow";
  return [
    collection,
    shard,
    { text: state, style } as const,
    sequence,
    primarySequence,
    lag,
    lagMs === undefined ? "?" : formatDuration(lagMs),
    reason,
  ];
}
