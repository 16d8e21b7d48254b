import { Command, Option } from "commander";
import type { TargetOptions, WriteResult, WriteTarget } from "../../../libs/client/index.js";
import { contextOf, withClient } from "../context.js";
import { ExitError, exitCode, UsageError } from "../failure.js";
import type { Io } from "../io.js";
import { parseFilterFlag, parseId, readPayload } from "../values.js";
import { partitionOf, type PartitionFlag, partitionOption } from "./partition-option.js";

interface TargetFlags extends PartitionFlag {
  filter?: string;
  onlyIf?: string;
}

/** The points that a command is about: by ids or by a filter. */
export function targetOf(texts: readonly string[], flag: string | undefined): WriteTarget {
  const filter = parseFilterFlag(flag);
  if (filter === undefined && texts.length === 0)
    throw new UsageError("name the points by their ids, or give --filter");
  if (filter !== undefined && texts.length > 0) throw new UsageError("give ids or --filter, not both");
  return filter === undefined ? texts.map(parseId) : { filter };
}

export function filterOption(): Option {
  return new Option("--filter <filter>", "all points that pass, instead of ids");
}

export function onlyIfOption(): Option {
  return new Option("--only-if <filter>", "leave points alone that do not pass");
}

/** `kith payload`: writes of payloads alone. */
export function payloadCommand(io: Io): Command {
  const command = new Command("payload").description("change payloads of points that exist");
  command.addCommand(setCommand(io));
  command.addCommand(overwriteCommand(io));
  command.addCommand(deleteKeysCommand(io));
  command.addCommand(clearCommand(io));
  return command;
}

function about(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .argument("<collection>", "name of the collection")
    .argument("[id...]", "ids of the points")
    .addOption(filterOption())
    .addOption(onlyIfOption())
    .addOption(partitionOption());
}

function setCommand(io: Io): Command {
  return about("set", "set keys of payloads, and leave others alone")
    .requiredOption("--payload <json>", "a JSON object, or @file with one (@-: standard input); null removes its key")
    .option("--path <path>", "the object whose keys are set, such as address or offers[]")
    .addHelpText(
      "after",
      `
Examples:
  kith payload set films 42 --payload '{"seen": true}'
  kith payload set films --filter 'year < 1930' --payload '{"era": "silent"}'
  kith payload set films 42 --path rating --payload '{"imdb": 8.1}'`,
    )
    .action(
      async (name: string, texts: string[], flags: TargetFlags & { payload: string; path?: string }, self: Command) => {
        const payload = await readPayload(flags.payload, io);
        const options = { ...optionsOf(flags, io), ...(flags.path !== undefined && { path: flags.path }) };
        const target = targetOf(texts, flags.filter);
        await write(io, self, name, (collection) => collection.setPayload(target, payload, options));
      },
    );
}

function overwriteCommand(io: Io): Command {
  return about("overwrite", "put one payload in the place of what points have")
    .requiredOption("--payload <json>", "a JSON object, or @file with one (@-: standard input)")
    .addHelpText(
      "after",
      `
Examples:
  kith payload overwrite films 42 --payload '{"title": "Metropolis", "year": 1927}'`,
    )
    .action(async (name: string, texts: string[], flags: TargetFlags & { payload: string }, self: Command) => {
      const payload = await readPayload(flags.payload, io);
      const target = targetOf(texts, flags.filter);
      await write(io, self, name, (collection) => collection.overwritePayload(target, payload, optionsOf(flags, io)));
    });
}

function deleteKeysCommand(io: Io): Command {
  return about("delete", "remove keys of payloads")
    .requiredOption("--path <path...>", "what to remove, such as title, rating.imdb or offers[].price")
    .addHelpText(
      "after",
      `
Examples:
  kith payload delete films 42 43 --path rating.imdb
  kith payload delete films --filter 'exists(draft)' --path draft notes`,
    )
    .action(async (name: string, texts: string[], flags: TargetFlags & { path: string[] }, self: Command) => {
      const target = targetOf(texts, flags.filter);
      await write(io, self, name, (collection) => collection.deletePayload(target, flags.path, optionsOf(flags, io)));
    });
}

function clearCommand(io: Io): Command {
  return about("clear", "remove whole payloads")
    .addHelpText(
      "after",
      `
Examples:
  kith payload clear films 42 43
  kith payload clear films --filter 'hidden = true'`,
    )
    .action(async (name: string, texts: string[], flags: TargetFlags, self: Command) => {
      const target = targetOf(texts, flags.filter);
      await write(io, self, name, (collection) => collection.clearPayload(target, optionsOf(flags, io)));
    });
}

type Collection = ReturnType<Parameters<Parameters<typeof withClient>[1]>[0]["collection"]>;

function optionsOf(flags: TargetFlags, io: Io): TargetOptions {
  const condition = parseFilterFlag(flags.onlyIf);
  return { signal: io.signal, ...partitionOf(flags), ...(condition !== undefined && { onlyIf: condition }) };
}

async function write(
  io: Io,
  self: Command,
  name: string,
  call: (collection: Collection) => Promise<WriteResult>,
): Promise<void> {
  const context = contextOf(io, self);
  const { out } = context;
  const { affected, errors } = await withClient(context, (client) => call(client.collection(name)));
  if (out.json) await out.document({ collection: name, affected, errors });
  else {
    await out.line(`changed ${affected} point${affected === 1 ? "" : "s"}`);
    for (const { code, message } of errors) await out.note(`${message} [${code}]`);
  }
  if (errors.length > 0) {
    throw new ExitError(errors.every(({ code }) => code === "POINT_NOT_FOUND") ? exitCode.notFound : exitCode.failure);
  }
}
