import { Command } from "commander";
import { sleep, systemClock } from "../../../libs/base/index.js";
import type { ClusterInfo, KithClient } from "../../../libs/client/index.js";
import { contextOf, withClient } from "../context.js";
import type { Io } from "../io.js";
import { formatBytes, formatCount, formatDuration } from "../output.js";

const lookEveryMs = 1_000;
/** How often it is told how many replicas are left. */
const tellEveryMs = 5_000;

export function nodeCommand(io: Io): Command {
  const command = new Command("node").description("list nodes, and drain those that are to be taken away");
  command.addCommand(listCommand(io));
  command.addCommand(drainCommand(io));
  command.addCommand(undrainCommand(io));
  return command;
}

function listCommand(io: Io): Command {
  return new Command("list")
    .alias("ls")
    .description("list the nodes with their states and how many replicas each has")
    .addHelpText(
      "after",
      `
Examples:
  kith node list
  kith node list --output json | jq -r '.[] | select(.state == "draining") | .replicaCount'`,
    )
    .action(async (_flags: object, self: Command) => {
      const context = contextOf(io, self);
      const { out } = context;
      const { nodes } = await withClient(context, (client) => client.cluster.describe({ signal: io.signal }));
      if (out.json) await out.document(nodes);
      else {
        await out.table(
          ["NODE", "STATE", "ROLES", "ZONE", "REPLICAS", "MEMORY", "DISK FREE", "UP FOR", "VERSION"],
          nodes.map((node) => [
            node.id,
            { text: node.state, style: node.state === "up" ? "green" : node.state === "down" ? "red" : "yellow" },
            node.roles.join(","),
            node.zone,
            node.replicaCount,
            formatBytes(node.memoryBytes),
            node.diskFreeBytes === 0 && !node.roles.includes("shard") ? "-" : formatBytes(node.diskFreeBytes),
            formatDuration(node.uptimeMs),
            node.version,
          ]),
        );
      }
    });
}

function drainCommand(io: Io): Command {
  return new Command("drain")
    .description("move all replicas of a node to others, and place no new ones there")
    .argument("<node>", "its id")
    .option("--no-wait", "end when that has been asked for")
    .addHelpText(
      "after",
      `
The node answers all the time; when it has no replicas left it can be stopped. \`kith cluster operations\` shows the moves.

Examples:
  kith node drain shard-3
  kith node drain shard-3 --no-wait`,
    )
    .action(async (node: string, flags: { wait: boolean }, self: Command) => {
      const context = contextOf(io, self);
      const left = await withClient(context, async (client) => {
        await client.cluster.drain(node, { signal: io.signal });
        return flags.wait ? untilEmpty(io, client, node) : replicasOf(await client.cluster.describe(), node);
      });
      if (context.out.json) await context.out.document({ node, replicaCount: left });
      else
        await context.out.line(
          left === 0 ? `${node} has no replicas` : `${node} is being drained: ${replicas(left)} left`,
        );
    });
}

function undrainCommand(io: Io): Command {
  return new Command("undrain")
    .description("let a node take replicas again; what was moved away stays where it is")
    .argument("<node>", "its id")
    .addHelpText("after", "\nExamples:\n  kith node undrain shard-3")
    .action(async (node: string, _flags: object, self: Command) => {
      const context = contextOf(io, self);
      await withClient(context, (client) => client.cluster.undrain(node, { signal: io.signal }));
      if (context.out.json) await context.out.document({ node });
      else await context.out.line(`${node} takes replicas`);
    });
}

async function untilEmpty(io: Io, client: KithClient, node: string): Promise<number> {
  for (let toldMs = Number.NEGATIVE_INFINITY; ; ) {
    const left = replicasOf(await client.cluster.describe({ signal: io.signal }), node);
    if (left === 0) return 0;
    const nowMs = systemClock.monotonicMs();
    if (nowMs - toldMs >= tellEveryMs) {
      toldMs = nowMs;
      io.stderr.write(`${replicas(left)} left\n`);
    }
    await sleep(systemClock, lookEveryMs, io.signal);
  }
}

function replicasOf({ nodes }: ClusterInfo, node: string): number {
  return nodes.find(({ id }) => id === node)?.replicaCount ?? 0;
}

function replicas(count: number): string {
  return `${formatCount(count)} replica${count === 1 ? "" : "s"}`;
}
