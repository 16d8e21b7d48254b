import { Command } from "commander";
import { systemRuntime } from "../../../libs/base/index.js";
import type { BackupInfo, KithClient, OperationInfo } from "../../../libs/client/index.js";
import { type CommandContext, contextOf, withClient } from "../context.js";
import { UsageError } from "../failure.js";
import type { Io } from "../io.js";
import { formatBytes, formatCount, formatDuration } from "../output.js";
import { whole } from "../values.js";

interface LocationFlags {
  location?: string;
}

const locationHelp = 'folder within what the servers are configured with: "file:weekly", "s3:prod/films"';
/** Reading a whole backup takes its time. */
const verifyDeadlineMs = 24 * 3_600_000;

export function backupCommand(io: Io): Command {
  const command = new Command("backup").description("back collections up, and restore them");
  command.addCommand(createCommand(io));
  command.addCommand(listCommand(io));
  command.addCommand(verifyCommand(io));
  command.addCommand(restoreCommand(io));
  command.addCommand(deleteCommand(io));
  return command;
}

function createCommand(io: Io): Command {
  return new Command("create")
    .description("back a collection up, while reads and writes go on; what the last backup has is not written again")
    .argument("[collection]", "name of the collection")
    .option("--all", "all collections, as a group of backups")
    .option("--group <name>", "name of that group; else one by the time")
    .option("--location <location>", locationHelp)
    .option("--full", "write everything, also what an earlier backup has")
    .option("--max-bytes-per-second <n>", "of each shard; 0: no limit", whole(0, Number.MAX_SAFE_INTEGER), 0)
    .option("--no-wait", "end when it has begun")
    .addHelpText(
      "after",
      `
Ctrl-C ends the waiting, and not the backup: kith cluster cancel does that.

Examples:
  kith backup create films
  kith backup create films --location s3:prod --max-bytes-per-second 50000000
  kith backup create --all --group nightly-2026-11-26
  kith backup create films --no-wait --output json | jq -r .id`,
    )
    .action(async (name: string | undefined, flags: CreateFlags, self: Command) => {
      const context = contextOf(io, self);
      const { out } = context;
      await withClient(context, async (client) => {
        const begun = await begin(context, client, name, flags);
        if (!flags.wait) {
          if (out.json) await out.document(flags.all ? begun : begun[0]);
          else
            for (const { id } of begun) await out.line(`the backup ${id} has begun: kith cluster operations shows it`);
          return;
        }
        for (const { operation } of begun) await waited(context, client, operation);
        const backups = await client.backups.list({ ...located(flags), signal: io.signal });
        const made = begun.flatMap(({ id }) => backups.find((each) => each.id === id) ?? []);
        if (out.json) await out.document(flags.all ? made : made[0]);
        else for (const backup of made) await out.line(madeLine(backup));
      });
    });
}

/** Backups of the collection that is named, or of all. */
async function begin(
  { io }: CommandContext,
  client: KithClient,
  name: string | undefined,
  flags: CreateFlags,
): Promise<{ id: string; operation: string }[]> {
  const { all = false, full = false, maxBytesPerSecond } = flags;
  if (all === (name !== undefined)) throw new UsageError("give either the name of a collection, or --all");
  if (flags.group !== undefined && !all) throw new UsageError("--group belongs to --all");
  const names =
    name === undefined ? (await client.collections.list({ signal: io.signal })).map((each) => each.name) : [name];
  if (names.length === 0) throw new UsageError("there is no collection to back up");
  const time = new Date(systemRuntime.clock.nowMs()).toISOString().replaceAll(/[-:.]/g, "").toLowerCase();
  const group = { name: flags.group ?? `all-${time}`, size: names.length };
  const options = { ...located(flags), full, maxBytesPerSecond, ...(all && { group }), signal: io.signal };
  const begun: { id: string; operation: string }[] = [];
  for (const each of names) begun.push(await client.backups.create(each, options));
  return begun;
}

function madeLine({ id, collection, base, group, pointCount, sizeBytes, writtenBytes }: BackupInfo): string {
  const of = group === undefined ? "" : ` of ${collection} in the group ${group.name}`;
  const upon = base === "" ? "" : `, upon ${base}`;
  return `backup ${id}${of}: ${formatCount(pointCount)} points, ${formatBytes(sizeBytes)}, of which ${formatBytes(writtenBytes)} were written${upon}`;
}

interface CreateFlags extends LocationFlags {
  all?: boolean;
  group?: string;
  full?: boolean;
  maxBytesPerSecond: number;
  wait: boolean;
}

function listCommand(io: Io): Command {
  return new Command("list")
    .alias("ls")
    .description("list the backups of a location, newest first")
    .argument("[collection]", "only of this collection")
    .option("--location <location>", locationHelp)
    .option("--group <name>", "only of this group")
    .addHelpText("after", "\nExamples:\n  kith backup list\n  kith backup list films --output json | jq -r '.[0].id'")
    .action(async (name: string | undefined, flags: LocationFlags & { group?: string }, self: Command) => {
      const context = contextOf(io, self);
      const { out } = context;
      const of = { ...(name !== undefined && { collection: name }), ...(flags.group && { group: flags.group }) };
      const options = { ...located(flags), ...of, signal: io.signal };
      const backups = await withClient(context, (client) => client.backups.list(options));
      if (out.json) await out.document(backups);
      else if (backups.length === 0) await out.note("there are no backups here");
      else
        await out.table(
          ["BACKUP", "COLLECTION", "ENDED", "TOOK", "POINTS", "SIZE", "WRITTEN", "UPON", "GROUP"],
          backups.map(row),
        );
    });
}

function row(backup: BackupInfo): string[] {
  const tookMs = Math.max(0, Number(backup.endedAt) - Number(backup.startedAt));
  return [
    backup.id,
    backup.collection,
    backup.endedAt?.toISOString() ?? "",
    formatDuration(tookMs),
    formatCount(backup.pointCount),
    formatBytes(backup.sizeBytes),
    formatBytes(backup.writtenBytes),
    backup.base,
    backup.group?.name ?? "",
  ];
}

function verifyCommand(io: Io): Command {
  return new Command("verify")
    .description("read everything that a backup is made of, and compare checksums, counts and digests")
    .argument("<backup>", "its id")
    .option("--location <location>", locationHelp)
    .addHelpText("after", "\nExamples:\n  kith backup verify 20261126t213543120z-1a2b3c4d")
    .action(async (id: string, flags: LocationFlags, self: Command) => {
      const context = contextOf(io, self);
      const { out } = context;
      const deadlineMs = context.askedDeadlineMs ?? verifyDeadlineMs;
      const startedMs = performance.now();
      const found = await withClient(context, (client) =>
        client.backups.verify(id, { ...located(flags), deadlineMs, signal: io.signal }),
      );
      if (out.json) await out.document(found);
      else {
        await out.line(
          `backup ${id} is whole: ${formatCount(found.pointCount)} points in ${found.fileCount} files, ${formatBytes(found.sizeBytes)}, read in ${formatDuration(performance.now() - startedMs)}`,
        );
      }
    });
}

interface RestoreFlags extends LocationFlags {
  as?: string;
  shards?: number;
  replicas?: number;
  time?: string;
  sequence?: string[];
  wait: boolean;
}

function restoreCommand(io: Io): Command {
  return new Command("restore")
    .description("make a collection of a backup, also in another cluster, of another name and number of shards")
    .argument("<backup>", "its id")
    .option("--location <location>", locationHelp)
    .option("--as <name>", "name of the new collection; else that of the old one")
    .option("--shards <n>", "shards of the new collection; else as many as the backup has", whole(1, 256))
    .option("--replicas <n>", "replicas of each shard; else as many as the old collection had", whole(1, 7))
    .option("--time <time>", "bring it to a later time by the logs of the old collection: 2026-11-26T21:35:00Z")
    .option("--sequence <shard=n...>", "bring a shard to a later sequence by its log")
    .option("--no-wait", "end when it has begun")
    .addHelpText(
      "after",
      `
The collection answers when all its points are there and have been compared. kith cluster cancel undoes a restoration.

Examples:
  kith backup restore 20261126t213543120z-1a2b3c4d --as films-again
  kith backup restore 20261126t213543120z-1a2b3c4d --as films8 --shards 8
  kith backup restore 20261126t213543120z-1a2b3c4d --as films-before --time 2026-11-26T21:50:00Z`,
    )
    .action(async (id: string, flags: RestoreFlags, self: Command) => {
      const context = contextOf(io, self);
      const { out } = context;
      const until = untilOf(flags);
      const startedMs = performance.now();
      await withClient(context, async (client) => {
        const begun = await client.backups.restore(id, {
          ...located(flags),
          ...(flags.as !== undefined && { collection: flags.as }),
          ...(flags.shards !== undefined && { shards: flags.shards }),
          ...(flags.replicas !== undefined && { replicas: flags.replicas }),
          ...(until !== undefined && { until }),
          signal: io.signal,
        });
        if (flags.wait) await waited(context, client, begun.operation);
        if (out.json) await out.document(begun);
        else if (!flags.wait)
          await out.line(`the restoration of ${begun.collection} has begun: kith cluster operations shows it`);
        else await out.line(`restored ${begun.collection} in ${formatDuration(performance.now() - startedMs)}`);
      });
    });
}

function untilOf({ time, sequence }: RestoreFlags): Date | Record<number, number> | undefined {
  if (time !== undefined && sequence !== undefined) throw new UsageError("--time and --sequence exclude each other");
  if (time !== undefined) {
    const date = new Date(time);
    if (!Number.isNaN(date.getTime())) return date;
    throw new UsageError(`--time ${time} is no time; write it as 2026-11-26T21:35:00Z`);
  }
  if (sequence === undefined) return undefined;
  const shards: Record<number, number> = {};
  for (const each of sequence) {
    const match = /^(\d+)=(\d+)$/.exec(each);
    if (match === null) throw new UsageError(`--sequence ${each} is not shard=sequence, such as 0=1200`);
    shards[Number(match[1])] = Number(match[2]);
  }
  return shards;
}

function deleteCommand(io: Io): Command {
  return new Command("delete")
    .alias("rm")
    .description("delete a backup; what later ones have in common with it stays")
    .argument("<backup>", "its id")
    .option("--location <location>", locationHelp)
    .addHelpText("after", "\nExamples:\n  kith backup delete 20261126t213543120z-1a2b3c4d")
    .action(async (id: string, flags: LocationFlags, self: Command) => {
      const context = contextOf(io, self);
      const { deletedBytes } = await withClient(context, (client) =>
        client.backups.delete(id, { ...located(flags), signal: io.signal }),
      );
      if (context.out.json) await context.out.document({ id, deletedBytes });
      else await context.out.line(`deleted the backup ${id}: ${formatBytes(deletedBytes)} are free`);
    });
}

function located({ location }: LocationFlags): { location?: string } {
  return location === undefined ? {} : { location };
}

/** Waits for an operation and tells now and then how far it is. */
async function waited({ io, out }: CommandContext, client: KithClient, operation: string): Promise<void> {
  let toldMs = performance.now();
  const notes: Promise<void>[] = [];
  const onProgress = (info: OperationInfo): void => {
    if (out.json || info.progress === undefined || performance.now() - toldMs < 2_000) return;
    toldMs = performance.now();
    const { points, totalPoints, bytes } = info.progress;
    const of = totalPoints === 0 ? "" : ` of ${formatCount(totalPoints)}`;
    const failed = info.error === "" ? "" : `; it is tried again: ${info.error}`;
    notes.push(out.note(`${info.step}: ${formatCount(points)}${of} points, ${formatBytes(bytes)}${failed}`));
  };
  await client.backups.wait(operation, { signal: io.signal, onProgress });
  await Promise.all(notes);
}
