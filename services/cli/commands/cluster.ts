import { Argument, Command } from "commander";
import type { ClusterInfo, ClusterSettings, OperationInfo, ReplicaInfo } from "../../../libs/client/index.js";
import { type CommandContext, contextOf, withClient } from "../context.js";
import type { Io } from "../io.js";
import type { Cell, Style } from "../cells.js";
import { UsageError } from "../failure.js";
import { describeProgress } from "../operation-progress.js";
import { formatBytes, formatCount, formatDuration } from "../output.js";
import { whole } from "../values.js";

const parts = ["nodes", "shards", "replicas", "lag", "operations"] as const;
type Part = (typeof parts)[number];

export function clusterCommand(io: Io): Command {
  return new Command("cluster")
    .description("show the nodes, shards and replicas, how far each replica is behind its log, and the operations")
    .addArgument(new Argument("[part]", "only this part").choices(parts))
    .addHelpText(
      "after",
      `
Examples:
  kith cluster
  kith cluster lag
  kith cluster nodes --output json | jq -r '.[] | select(.state != "up") | .id'
  kith cluster operations
  kith cluster slow
  kith cluster settings moves-at-once=4
  kith cluster cancel create-4f1c0a9d2b7e66a0c1d3`,
    )
    .action(async (part: Part | undefined, _flags: object, self: Command) => {
      const context = contextOf(io, self);
      if (part === "operations") {
        const operations = await withClient(context, (client) => client.cluster.operations({ signal: io.signal }));
        await showOperations(context, operations);
        return;
      }
      const info = await withClient(context, (client) => client.cluster.describe({ signal: io.signal }));
      if (context.out.json) await context.out.document(selected(info, part));
      else await showCluster(context, info, part);
    })
    .addCommand(cancelCommand(io))
    .addCommand(slowCommand(io))
    .addCommand(settingsCommand(io));
}

/** Settings as they are written on the command line: moves-at-once. */
function optionName(setting: string): string {
  return setting.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function settingsCommand(io: Io): Command {
  return new Command("settings")
    .description("show or change what holds for the whole cluster")
    .argument("[name=value...]", "settings to change")
    .addHelpText(
      "after",
      `
  repair-after-ms         a node that is away for so long has its replicas rebuilt on others; 0: never
  moves-at-once           replicas that are moved, added or rebuilt at once
  copy-bytes-per-second   what each node takes of copies; 0: as much as it can
  auto-rebalance          1: the cluster balances its nodes by itself; 0: when it is told to
  rebalance-paused        1: no move that balances nodes begins
  rebalance-threshold-percent, rebalance-min-bytes
                          nothing is moved while nodes differ by less
  log-retention-ms        records of logs are kept for so long, for watches and for restorations to a time; 0: no
                          longer than replicas need them
  log-retention-bytes     about so many bytes of each log are kept for that at most
  log-retention-records   so many of the latest records of each log are always kept
  log-hold-ms             replicas that are away, and backups, keep records for so long at most
  replica-flush-ms        replicas flush what they have applied to the disk so often; logs are trimmed up to there
  split-shard-bytes       a shard whose replicas have more bytes is split in two; 0: none is split by itself
  merge-shard-bytes       neighbours that were one shard before, and have at most so many bytes together, are merged;
                          0: none is merged by itself

Examples:
  kith cluster settings
  kith cluster settings repair-after-ms=60000 copy-bytes-per-second=50000000`,
    )
    .action(async (pairs: string[], _flags: object, self: Command) => {
      const context = contextOf(io, self);
      const { out } = context;
      const settings = await withClient(context, async (client) => {
        const before = await client.cluster.settings({ signal: io.signal });
        if (pairs.length === 0) return before;
        return client.cluster.updateSettings(changesOf(pairs, before), { signal: io.signal });
      });
      if (out.json) await out.document(settings);
      else {
        await out.table(
          ["SETTING", "VALUE"],
          Object.entries(settings).map(([name, value]: [string, number]) => [optionName(name), value]),
        );
      }
    });
}

function changesOf(pairs: readonly string[], known: ClusterSettings): Partial<ClusterSettings> {
  const byOption = new Map(Object.keys(known).map((name) => [optionName(name), name as keyof ClusterSettings]));
  const changes: Partial<ClusterSettings> = {};
  for (const pair of pairs) {
    const [, option = "", text = ""] = /^([^=]+)=(\d+)$/.exec(pair) ?? [];
    const name = byOption.get(option);
    if (name === undefined) {
      throw new UsageError(
        `${pair} is no setting with a whole number; the settings are ${[...byOption.keys()].join(", ")}`,
      );
    }
    changes[name] = Number(text);
  }
  return changes;
}

function slowCommand(io: Io): Command {
  return new Command("slow")
    .description("show the queries that took long in the router that answers, without vectors and values")
    .option("-n, --limit <n>", "so many, the newest first", whole(1), 20)
    .addHelpText(
      "after",
      `
From KITH_SLOW_QUERY_MS on (default 500) a query is slow. A router keeps the latest 256, at most 10 of one second.

Examples:
  kith cluster slow
  kith cluster slow -n 100 --output json | jq -r '.queries[] | select(.tookUs > 1e6) | .shape'`,
    )
    .action(async (flags: { limit: number }, self: Command) => {
      const context = contextOf(io, self);
      const { out } = context;
      const { limit } = flags;
      const slow = await withClient(context, (client) => client.cluster.slowQueries({ limit, signal: io.signal }));
      if (out.json) {
        await out.document(slow);
        return;
      }
      const rows = slow.queries.map(({ endedAt, node, kind, collection, tookUs, shape, errorCode }): Cell[] => [
        endedAt?.toISOString(),
        node,
        collection,
        kind,
        formatDuration(tookUs / 1000),
        errorCode,
        shape,
      ]);
      if (rows.length > 0) await out.table(["ENDED", "ROUTER", "COLLECTION", "KIND", "TOOK", "ERROR", "SHAPE"], rows);
      const skipped = slow.skipped === 0 ? "" : `; ${formatCount(slow.skipped)} more were not kept`;
      await out.note(
        slow.thresholdMs === 0
          ? "slow queries are not kept: KITH_SLOW_QUERY_MS is 0"
          : `${rows.length} quer${rows.length === 1 ? "y" : "ies"} of ${slow.thresholdMs} ms or more${skipped}`,
      );
    });
}

function cancelCommand(io: Io): Command {
  return new Command("cancel")
    .description("undo an operation that has not ended: a creation, a backup, a restoration, the move of a replica")
    .argument("<operation>", "its id, as `kith cluster operations` shows it")
    .addHelpText("after", "\nExamples:\n  kith cluster cancel create-films1")
    .action(async (id: string, _flags: object, self: Command) => {
      const context = contextOf(io, self);
      const operation = await withClient(context, (client) =>
        client.cluster.cancelOperation(id, { signal: io.signal }),
      );
      if (context.out.json) await context.out.document(operation);
      else await context.out.note(`the operation ${operation.id} is ${operation.state}`);
    });
}

async function showOperations({ out }: CommandContext, operations: readonly OperationInfo[]): Promise<void> {
  if (out.json) {
    await out.document(operations);
    return;
  }
  await out.table(
    ["OPERATION", "KIND", "COLLECTION", "SHARD", "FROM", "TO", "STATE", "STEP", "BEGUN", "TOOK", "FAILED", "ERROR"],
    operations.map((operation) => [
      operation.id,
      operation.kind,
      operation.collection,
      operation.shard,
      operation.move?.from,
      operation.move?.to,
      { text: operation.state, style: styleOfOperation(operation.state) },
      hasEnded(operation) || operation.error !== "" ? operation.step : describeProgress(operation),
      operation.createdAt?.toISOString(),
      hasEnded(operation) ? formatDuration(tookMs(operation)) : "",
      operation.attempts,
      operation.error,
    ]),
  );
}

function hasEnded({ state }: OperationInfo): boolean {
  return state !== "running" && state !== "cancelling";
}

function tookMs({ createdAt, updatedAt }: OperationInfo): number {
  return Math.max(0, Number(updatedAt) - Number(createdAt));
}

function styleOfOperation(state: string): Style {
  if (state === "done") return "green";
  return state === "failed" ? "red" : "yellow";
}

function selected(info: ClusterInfo, part: Part | undefined): unknown {
  if (part === undefined) return info;
  if (part === "nodes") return info.nodes;
  if (part === "shards") return info.shards;
  const replicas = info.shards.flatMap(({ collection, shard, logSequence, replicas: each }) =>
    each.map((replica) => ({ collection, shard, logSequence, ...replica })),
  );
  return part === "replicas" ? replicas : replicas.filter((replica) => !isUpToDate(replica));
}

async function showCluster({ out }: CommandContext, info: ClusterInfo, part: Part | undefined): Promise<void> {
  const wants = (each: Part): boolean => part === undefined || part === each;
  if (part === undefined) {
    const log = `${info.logKind} log ${info.logAvailable ? "available" : out.paint("red", "NOT AVAILABLE: writes fail, reads go on")}`;
    const coordinator = info.coordinator === "" ? out.paint("yellow", "none at the moment") : info.coordinator;
    await out.line(
      `cluster ${out.paint("bold", info.cluster)}, version ${info.version}, ${log}, coordinator ${coordinator}`,
    );
    await out.line();
  }
  if (wants("nodes")) {
    await out.table(
      ["NODE", "STATE", "ROLES", "ADDRESS", "ZONE", "MEMORY", "DISK FREE", "UP FOR", "VERSION"],
      info.nodes.map((node) => [
        node.id,
        { text: node.state, style: styleOf(node.state, "up") },
        node.roles.join(","),
        node.address,
        node.zone,
        formatBytes(node.memoryBytes),
        // A node without data has no disk to speak of.
        node.diskFreeBytes === 0 && !node.roles.includes("shard") ? "-" : formatBytes(node.diskFreeBytes),
        formatDuration(node.uptimeMs),
        node.version,
      ]),
    );
    if (part === undefined) await out.line();
  }
  if (wants("shards")) {
    await out.table(
      ["COLLECTION", "SHARD", "STATE", "SLOTS", "LOG", "FROM", "LOG SIZE", "REPLICAS"],
      info.shards.map((shard) => [
        shard.collection,
        shard.shard,
        { text: shard.state, style: styleOf(shard.state, "active") },
        `${shard.slots.first}..${shard.slots.last}`,
        shard.logSequence ?? unknown,
        shard.logFirstSequence ?? unknown,
        shard.logBytes === undefined ? unknown : formatBytes(shard.logBytes),
        shard.replicas.map((replica) => `${replica.node}${stateOf(replica)}`).join(" "),
      ]),
    );
    if (part === undefined) await out.line();
  }
  if (wants("replicas") || part === "lag") await showReplicas(out, info, part === "lag");
}

async function showReplicas(out: CommandContext["out"], info: ClusterInfo, onlyBehind: boolean): Promise<void> {
  const rows: Cell[][] = [];
  let total = 0;
  for (const shard of info.shards) {
    for (const replica of shard.replicas) {
      total++;
      if (onlyBehind && isUpToDate(replica)) continue;
      rows.push([
        shard.collection,
        shard.shard,
        replica.node,
        { text: replica.placement, style: styleOf(replica.placement, "active") },
        { text: replica.state, style: styleOf(replica.state, "active") },
        replica.appliedSequence,
        replica.lag ?? unknown,
        formatCount(replica.pointCount),
        formatBytes(replica.memoryBytes),
        formatBytes(replica.diskBytes),
        replica.digest,
        encryptionOf(replica),
        replica.fault,
      ]);
    }
  }
  if (onlyBehind && rows.length === 0) await out.note(`all ${total} replicas are active and up to date`);
  else {
    await out.table(
      [
        "COLLECTION",
        "SHARD",
        "NODE",
        "PLACEMENT",
        "STATE",
        "APPLIED",
        "LAG",
        "POINTS",
        "MEMORY",
        "DISK",
        "DIGEST",
        "KEY",
        "FAULT",
      ],
      rows,
    );
  }
}

/** The master key of its points on the disk, and whether all of them have it. */
function encryptionOf({ masterKey = "", encrypting = false }: Partial<ReplicaInfo>): Cell {
  if (masterKey === "") return "-";
  return encrypting ? { text: `${masterKey} (rewriting)`, style: "yellow" } : masterKey;
}

/** What is not as it should be: the replica's placement, or what it says of itself. Servers of before placements had states tell none. */
function stateOf({ placement, state }: ReplicaInfo): string {
  const parts = [placement, state].filter((each) => each !== "active" && each !== "");
  return parts.length === 0 ? "" : ` (${parts.join(", ")})`;
}

/** What stands for a number that needs the log, which cannot be reached. */
const unknown: Cell = { text: "unknown", style: "yellow" };

/** Active and not behind. Where the log cannot be reached nobody knows. */
function isUpToDate({ state, lag }: ReplicaInfo): boolean {
  return state === "active" && lag === 0;
}

function styleOf(state: string, good: string): Style {
  if (state === good) return "green";
  return state === "stale" || state === "down" ? "red" : "yellow";
}
