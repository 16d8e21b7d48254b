import { Command } from "commander";
import type { KithClient, OperationInfo } from "../../../libs/client/index.js";
import { type CommandContext, contextOf, withClient } from "../context.js";
import type { Io } from "../io.js";
import { expectDone, watchOperation } from "../operation-progress.js";
import { whole } from "../values.js";

const shardId = whole(0, 0xffff_ffff);
const shardIds = (text: string, before: number[] | undefined): number[] => [...(before ?? []), shardId(text)];

export function shardCommand(io: Io): Command {
  const command = new Command("shard").description(
    "split and merge the shards of collections, or give one to a large tenant",
  );
  command.addCommand(splitCommand(io));
  command.addCommand(mergeCommand(io));
  command.addCommand(isolateCommand(io));
  return command;
}

interface SplitFlags {
  into: number;
  wait: boolean;
}

function splitCommand(io: Io): Command {
  return new Command("split")
    .description("split a shard into new ones by its hash slots; reads go on, and writes wait for a moment at the end")
    .argument("<collection>", "name of the collection")
    .argument("<shard>", "id of the shard", shardId)
    .option("--into <count>", "so many new shards", whole(2, 16), 2)
    .option("--no-wait", "end when it has begun")
    .addHelpText(
      "after",
      `
The new shards are made on the nodes of the old one. Until its log is sealed the operation can be cancelled, and everything is as before.
\`kith cluster replicas\` shows the shards with their ids.

Examples:
  kith shard split films 0
  kith shard split films 0 --into 4 --no-wait
  kith cluster cancel split-4f1c0a9d2b7e66a0c1d3-0-5b21c0ffee12`,
    )
    .action(async (collection: string, shard: number, flags: SplitFlags, self: Command) => {
      const context = contextOf(io, self);
      await withClient(context, async (client) => {
        const request = { collection, shard, into: flags.into };
        const begun = await client.cluster.splitShard(request, { signal: io.signal });
        await tell(context, client, begun, flags.wait);
      });
    });
}

function mergeCommand(io: Io): Command {
  return new Command("merge")
    .description("merge neighbouring shards into a new one; reads go on, and writes wait for a moment at the end")
    .argument("<collection>", "name of the collection")
    .argument("<shards...>", "ids of the shards, whose hash slots are next to each other", shardIds)
    .option("--no-wait", "end when it has begun")
    .addHelpText(
      "after",
      `
The new shard is made on the nodes of the one with the lowest hash slots. Until the logs are sealed the operation can be cancelled, and
everything is as before. \`kith cluster shards\` shows the shards with their ids and hash slots.

Examples:
  kith shard merge films 1 2
  kith cluster cancel merge-4f1c0a9d2b7e66a0c1d3-1-2-5b21c0ffee12`,
    )
    .action(async (collection: string, shards: number[], flags: { wait: boolean }, self: Command) => {
      const context = contextOf(io, self);
      await withClient(context, async (client) => {
        const begun = await client.cluster.mergeShards({ collection, shards }, { signal: io.signal });
        await tell(context, client, begun, flags.wait);
      });
    });
}

interface IsolateFlags {
  key: string;
  wait: boolean;
}

function isolateCommand(io: Io): Command {
  return new Command("isolate")
    .description(
      "give one value of the partition key a shard of its own; reads go on, and writes wait for a moment at the end",
    )
    .argument("<collection>", "name of the collection")
    .requiredOption("--key <value>", "the value of the partition key")
    .option("--no-wait", "end when it has begun")
    .addHelpText(
      "after",
      `
The shard of the value is split around the value's hash slot. Other values that fall into the same one of the 16384 slots stay with it.

Examples:
  kith shard isolate documents --key acme`,
    )
    .action(async (collection: string, flags: IsolateFlags, self: Command) => {
      const context = contextOf(io, self);
      await withClient(context, async (client) => {
        const request = { collection, partition: flags.key };
        const begun = await client.cluster.isolatePartition(request, { signal: io.signal });
        await tell(context, client, begun, flags.wait);
      });
    });
}

/** What became of the operation, or that it has begun. */
async function tell(
  { io, out }: CommandContext,
  client: KithClient,
  begun: OperationInfo,
  waits: boolean,
): Promise<void> {
  const operation = waits ? await watchOperation(io, client, begun) : begun;
  if (waits) expectDone(operation);
  if (out.json) return out.document(operation);
  const made = operation.resharding?.to ?? [];
  const of = made.length > 1 ? "of the shards" : "of shard";
  const shards = waits && made.length > 0 ? `: the hash slots are now those ${of} ${made.join(", ")}` : "";
  await out.line(`the operation ${operation.id} is ${operation.state}${shards}`);
}
