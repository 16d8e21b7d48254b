import { createInterface } from "node:readline/promises";
import { Command } from "commander";
import type { CollectionInfo, CollectionStats } from "../../../libs/client/index.js";
import { type CommandContext, contextOf, withClient } from "../context.js";
import { alterCommand } from "./generation.js";
import { addCreateOptions, type CreateFlags, createOptionsOf, namedVector } from "./create-options.js";
import { ExitError, exitCode, UsageError } from "../failure.js";
import type { Io } from "../io.js";
import { formatBytes, formatCount } from "../output.js";
import { finite, keyValue, whole } from "../values.js";

export function collectionCommand(io: Io): Command {
  const command = new Command("collection").description(
    "create, list, describe, change, rename, empty and delete collections",
  );
  command.addCommand(createCommand(io));
  command.addCommand(listCommand(io));
  command.addCommand(describeCommand(io));
  command.addCommand(renameCommand(io));
  command.addCommand(truncateCommand(io));
  command.addCommand(updateCommand(io));
  command.addCommand(alterCommand(io));
  command.addCommand(deleteCommand(io));
  return command;
}

function createCommand(io: Io): Command {
  const command = new Command("create").description("create a collection").argument("<collection>", "its name");
  return addCreateOptions(command)
    .option("--vector <name:dimension[:metric[:datatype[:multi]]]>", "named vector field; repeat for more", namedVector)
    .option("--if-not-exists", "do nothing where it exists already, with the same schema")
    .addHelpText(
      "after",
      `
Examples:
  kith collection create articles --dimension 384
  kith collection create images -d 128 -m l2 --shards 4 --replicas 2 --datatype i8
  kith collection create media --vector title:384:cosine --vector image:512:dot`,
    )
    .action(async (name: string, flags: CreateFlags & { ifNotExists?: boolean }, self: Command) => {
      const context = contextOf(io, self);
      const options = createOptionsOf(flags);
      await withClient(context, async (client) => {
        const collection = client.collection(name);
        const call = { signal: io.signal };
        const isThere = flags.ifNotExists === true && (await collection.exists(call));
        const info = await collection.create({ ...options, ...call, ifNotExists: flags.ifNotExists === true });
        await showCreated(context, info, !isThere);
      });
    });
}

async function showCreated({ out }: CommandContext, info: CollectionInfo, created: boolean): Promise<void> {
  if (out.json) await out.document({ created, collection: info });
  else await out.line(`${created ? "created" : "exists already:"} ${info.name} (${summary(info)})`);
}

function summary(info: CollectionInfo): string {
  const vectors = info.vectors
    .map(
      (field) => `${field.name === "" ? "" : `${field.name}: `}${field.dimension} × ${field.datatype}, ${field.metric}`,
    )
    .join("; ");
  const sparse = info.sparse.map(
    ({ name, modifier }) => `${name}: sparse${modifier === undefined ? "" : `, ${modifier}`}`,
  );
  const fields = [...(vectors === "" ? [] : [vectors]), ...sparse].join("; ");
  return `${fields}; ${info.shards} shard${info.shards === 1 ? "" : "s"} × ${info.replicas} replica${info.replicas === 1 ? "" : "s"}`;
}

function listCommand(io: Io): Command {
  return new Command("list")
    .alias("ls")
    .description("list the collections")
    .addHelpText(
      "after",
      `
Examples:
  kith collection list
  kith collection list --output json | jq -r '.[].name'`,
    )
    .action(async (_flags: object, self: Command) => {
      const context = contextOf(io, self);
      const { out } = context;
      const collections = await withClient(context, (client) => client.collections.list({ signal: io.signal }));
      if (out.json) await out.document(collections);
      else if (collections.length === 0) {
        await out.note('There are no collections yet. Create one: "kith collection create demo --dimension 128".');
      } else {
        await out.table(
          ["NAME", "STATE", "VECTORS", "SHARDS", "REPLICAS"],
          collections.map((each) => [
            each.name,
            each.state,
            [
              ...each.vectors.map(
                (v) => `${v.name}${v.name === "" ? "" : ":"}${v.dimension}/${v.metric}/${v.datatype}`,
              ),
              ...each.sparse.map(
                ({ name, modifier }) => `${name}:sparse${modifier === undefined ? "" : `/${modifier}`}`,
              ),
            ].join(" "),
            each.shards,
            each.replicas,
          ]),
        );
      }
    });
}

function describeCommand(io: Io): Command {
  return new Command("describe")
    .description("show the schema, sizes and shards of a collection")
    .argument("<collection>", "its name")
    .addHelpText(
      "after",
      `
Examples:
  kith collection describe articles
  kith collection describe articles --output json | jq .stats.pointCount`,
    )
    .action(async (name: string, _flags: object, self: Command) => {
      const context = contextOf(io, self);
      const { info, stats } = await withClient(context, async (client) => {
        const collection = client.collection(name);
        const call = { signal: io.signal };
        return { info: await collection.info(call), stats: await collection.stats(call) };
      });
      if (context.out.json) await context.out.document({ ...info, stats });
      else await showDescription(context, info, stats);
    });
}

async function showDescription({ out }: CommandContext, info: CollectionInfo, stats: CollectionStats): Promise<void> {
  await out.line(`${out.paint("bold", info.name)} (id ${info.id}, ${info.state}, epoch ${info.epoch})`);
  if (info.createdAt !== undefined) await out.line(`created ${info.createdAt.toISOString()}`);
  await out.line(
    `${formatCount(stats.pointCount)} points; ${formatCount(stats.indexedVectorCount)} vectors in the graph, ` +
      `${formatCount(stats.unindexedVectorCount)} scanned exactly; ${formatBytes(stats.memoryBytes)} memory, ${formatBytes(stats.diskBytes)} disk`,
  );
  if (info.aliases.length > 0) await out.line(`aliases: ${info.aliases.join(", ")}`);
  for (const { path, kinds, count } of stats.unindexedFields) {
    const times = `${formatCount(count)} condition${count === 1 ? "" : "s"}`;
    await out.line(
      `hint: filters asked for ${path} without an index (${times}): kith index create ${info.name} ${path} ${kinds.join("|")}`,
    );
  }
  for (const { path, since } of stats.unusedIndexes) {
    await out.line(
      `hint: nothing has used the index of ${path} since ${since.toISOString()}: kith index drop ${info.name} ${path}`,
    );
  }
  if (info.partitionKey !== undefined) await out.line(`partition key: ${info.partitionKey}`);
  const labels = Object.entries(info.labels);
  if (labels.length > 0) await out.line(`labels: ${labels.map(([key, value]) => `${key}=${value}`).join(" ")}`);
  await out.line();
  if (info.sparse.length > 0) {
    await out.table(
      ["SPARSE", "MODIFIER"],
      info.sparse.map(({ name, modifier }) => [name, modifier ?? "none"]),
    );
    await out.line();
  }
  await out.table(
    ["VECTOR", "DIMENSION", "METRIC", "DATATYPE", "M", "EF BUILD", "EF SEARCH"],
    info.vectors.map((v) => [
      v.name || "(unnamed)",
      v.dimension,
      v.metric,
      v.datatype,
      v.m,
      v.efConstruction,
      v.efSearch,
    ]),
  );
  const titleOf = (field: string): string => (field === "" ? "the unnamed vector" : field);
  for (const { name, autoRecall } of info.vectors) {
    if (autoRecall === undefined) continue;
    await out.line(
      `the datatype of ${titleOf(name)} is to be picked for a recall of ${autoRecall}, once there are 10,000 vectors`,
    );
  }
  for (const { field, datatype, recall, reason, rowCount, chosenAt } of info.choices) {
    const title = titleOf(field);
    const when = chosenAt === undefined ? "" : ` at ${chosenAt.toISOString()}`;
    await out.line(
      `picked ${datatype} for ${title} for a recall of ${recall}, by ${formatCount(rowCount)} vectors${when}: ${reason}`,
    );
  }
  await out.line();
  await out.table(
    ["SHARD", "POINTS", "INDEXED", "UNINDEXED", "SEQUENCE", "MEMORY", "DISK"],
    stats.shards.map((shard) => [
      shard.shard,
      shard.pointCount,
      shard.indexedVectorCount,
      shard.unindexedVectorCount,
      shard.appliedSequence,
      formatBytes(shard.memoryBytes),
      formatBytes(shard.diskBytes),
    ]),
  );
}

interface UpdateFlags {
  replicas?: number;
  efSearch?: number;
  recallTarget?: number;
  label?: Record<string, string>;
}

function updateCommand(io: Io): Command {
  return new Command("update")
    .description("change the number of replicas, search defaults and labels of a collection in use")
    .argument("<collection>", "its name")
    .option("--replicas <count>", "replicas of each shard; the cluster adds or removes them by itself", whole(1, 7))
    .option("--ef-search <n>", "default beam width of its unnamed vector", whole(1))
    .option("--recall-target <share>", "recall of queries that name none and no beam width; 0: none", finite)
    .option("--label <key=value>", "label to set, or with an empty value to remove; repeat for more", keyValue)
    .addHelpText(
      "after",
      `
Examples:
  kith collection update articles --replicas 3
  kith collection update articles --ef-search 128 --label team=search
  kith cluster operations                          how far new replicas are`,
    )
    .action(async (name: string, flags: UpdateFlags, self: Command) => {
      const context = contextOf(io, self);
      const { replicas, efSearch, recallTarget, label: labels } = flags;
      if ([replicas, efSearch, recallTarget, labels].every((each) => each === undefined)) {
        throw new UsageError("nothing to change: give --replicas, --ef-search, --recall-target or --label");
      }
      const info = await withClient(context, (client) =>
        client.collection(name).update({
          ...(replicas !== undefined && { replicas }),
          ...(efSearch !== undefined && { efSearch }),
          ...(recallTarget !== undefined && { recallTarget }),
          ...(labels !== undefined && { labels }),
          signal: io.signal,
        }),
      );
      if (context.out.json) await context.out.document(info);
      else await context.out.line(`changed ${info.name} (${summary(info)})`);
    });
}

function deleteCommand(io: Io): Command {
  return new Command("delete")
    .description("delete a collection with all its points")
    .argument("<collection>", "its name")
    .option("-y, --yes", "do not ask")
    .addHelpText(
      "after",
      `
Examples:
  kith collection delete articles
  kith collection delete articles --yes`,
    )
    .action(async (name: string, flags: { yes?: boolean }, self: Command) => {
      const context = contextOf(io, self);
      if (!flags.yes && !(await confirmed(io, name, "the collection", " with all its points")))
        throw new ExitError(exitCode.failure);
      await withClient(context, (client) => client.collection(name).drop({ signal: io.signal }));
      if (context.out.json) await context.out.document({ deleted: name });
      else await context.out.line(`deleted ${name}`);
    });
}

function renameCommand(io: Io): Command {
  return new Command("rename")
    .description("give a collection another name, at once; points, indexes and aliases stay")
    .argument("<collection>", "its name")
    .argument("<new-name>", "its name from then on")
    .addHelpText("after", "\nExamples:\n  kith collection rename articles articles-2024")
    .action(async (name: string, newName: string, _flags: object, self: Command) => {
      const context = contextOf(io, self);
      await withClient(context, (client) => client.collection(name).rename(newName, { signal: io.signal }));
      if (context.out.json) await context.out.document({ renamed: name, name: newName });
      else await context.out.line(`${name} is ${newName} now`);
    });
}

function truncateCommand(io: Io): Command {
  return new Command("truncate")
    .description("delete all points of a collection; its schema, indexes and settings stay")
    .argument("<collection>", "its name, or an alias")
    .option("-y, --yes", "do not ask")
    .addHelpText("after", "\nExamples:\n  kith collection truncate articles --yes")
    .action(async (name: string, flags: { yes?: boolean }, self: Command) => {
      const context = contextOf(io, self);
      if (!flags.yes && !(await confirmed(io, name, "all points of the collection", ""))) {
        throw new ExitError(exitCode.failure);
      }
      const { affected } = await withClient(context, (client) =>
        client.collection(name).truncate({ signal: io.signal }),
      );
      if (context.out.json) await context.out.document({ truncated: name, deleted: affected });
      else await context.out.line(`deleted ${formatCount(affected)} points of ${name}`);
    });
}

async function confirmed(io: Io, name: string, what: string, also: string): Promise<boolean> {
  if (!io.stdin.isTTY || !io.stderrIsTerminal) {
    throw new UsageError(`this deletes ${what} "${name}"${also}; say --yes to do it without a question`);
  }
  const questions = createInterface({ input: io.stdin, output: io.stderr });
  try {
    const answer = await questions.question(`Delete ${what} "${name}"${also}? Type its name: `, {
      signal: io.signal,
    });
    if (answer.trim() === name) return true;
    io.stderr.write("not deleted\n");
    return false;
  } finally {
    questions.close();
  }
}
