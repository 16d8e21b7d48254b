import { Command } from "commander";
import type { MoveRequest } from "../../../libs/client/index.js";
import { type CommandContext, contextOf, withClient } from "../context.js";
import type { Io } from "../io.js";
import { expectDone, watchOperation } from "../operation-progress.js";
import { whole } from "../values.js";

const shardId = whole(0, 0xffff_ffff);

export function replicaCommand(io: Io): Command {
  const command = new Command("replica").description("move, add and remove replicas of shards");
  command.addCommand(moveCommand(io));
  command.addCommand(addCommand(io));
  command.addCommand(removeCommand(io));
  return command;
}

interface MoveFlags {
  from?: string;
  to?: string;
  wait: boolean;
}

function moveCommand(io: Io): Command {
  return onShard("move", "move a replica to another node; it is asked all the time, and nothing is lost")
    .requiredOption("--from <node>", "the node that has it")
    .requiredOption("--to <node>", "the node that takes it")
    .option("--no-wait", "end when it has begun")
    .addHelpText(
      "after",
      `
Until the operation has ended it can be cancelled, and everything is as before. \`kith cluster replicas\` shows where replicas are.

Examples:
  kith replica move films 0 --from shard-0 --to shard-3
  kith replica move films 0 --from shard-0 --to shard-3 --no-wait
  kith cluster cancel move-4f1c0a9d2b7e66a0c1d3-0-5b21c0ffee12`,
    )
    .action((collection: string, shard: number, flags: MoveFlags, self: Command) =>
      begin(io, self, collection, shard, flags),
    );
}

function addCommand(io: Io): Command {
  return onShard("add", "add a replica on a node, where the shard has fewer than its collection asks for")
    .requiredOption("--to <node>", "the node that takes it")
    .option("--no-wait", "end when it has begun")
    .addHelpText(
      "after",
      `
The cluster adds replicas by itself: \`kith collection update films --replicas 3\`. This says where one goes.

Examples:
  kith replica add films 0 --to shard-3`,
    )
    .action((collection: string, shard: number, flags: MoveFlags, self: Command) =>
      begin(io, self, collection, shard, flags),
    );
}

function removeCommand(io: Io): Command {
  return onShard("remove", "remove the replica on a node, where the shard has more than its collection asks for")
    .requiredOption("--from <node>", "the node that has it")
    .option("--no-wait", "end when it has begun")
    .addHelpText(
      "after",
      `
The cluster removes replicas by itself: \`kith collection update films --replicas 1\`. This says which one goes.

Examples:
  kith replica remove films 0 --from shard-1`,
    )
    .action((collection: string, shard: number, flags: MoveFlags, self: Command) =>
      begin(io, self, collection, shard, flags),
    );
}

function onShard(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .argument("<collection>", "name of the collection")
    .argument("<shard>", "id of the shard", shardId);
}

async function begin(io: Io, self: Command, collection: string, shard: number, flags: MoveFlags): Promise<void> {
  const context = contextOf(io, self);
  const { from, to } = flags;
  const request: MoveRequest = {
    collection,
    shard,
    ...(from !== undefined && { from }),
    ...(to !== undefined && { to }),
  };
  await withClient(context, async (client) => {
    const begun = await client.cluster.moveReplica(request, { signal: io.signal });
    if (!flags.wait) return show(context, begun.id, begun);
    const ended = await watchOperation(io, client, begun);
    expectDone(ended);
    await show(context, ended.id, ended);
  });
}

async function show({ out }: CommandContext, id: string, operation: { state: string }): Promise<void> {
  if (out.json) await out.document(operation);
  else await out.line(`the operation ${id} is ${operation.state}`);
}
