import { Command } from "commander";
import { contextOf, withClient } from "../context.js";
import type { Io } from "../io.js";

export function aliasCommand(io: Io): Command {
  const command = new Command("alias").description("second names of collections");
  command.addCommand(createCommand(io));
  command.addCommand(switchCommand(io));
  command.addCommand(listCommand(io));
  command.addCommand(deleteCommand(io));
  return command;
}

function createCommand(io: Io): Command {
  return new Command("create")
    .description("give a collection a second name")
    .argument("<alias>", "the second name")
    .argument("<collection>", "name of the collection")
    .addHelpText("after", "\nExamples:\n  kith alias create films films-2024")
    .action(async (alias: string, collection: string, _flags: object, self: Command) => {
      const context = contextOf(io, self);
      await withClient(context, (client) => client.aliases.create(alias, collection, { signal: io.signal }));
      if (context.out.json) await context.out.document({ alias, collection });
      else await context.out.line(`${alias} is an alias of ${collection}`);
    });
}

function switchCommand(io: Io): Command {
  return new Command("switch")
    .description("let an alias mean another collection, at once for everybody")
    .argument("<alias>", "an alias that there is")
    .argument("<collection>", "name of the collection that it means from then on")
    .addHelpText("after", "\nExamples:\n  kith alias switch films films-2025")
    .action(async (alias: string, collection: string, _flags: object, self: Command) => {
      const context = contextOf(io, self);
      await withClient(context, (client) => client.aliases.switch(alias, collection, { signal: io.signal }));
      if (context.out.json) await context.out.document({ alias, collection });
      else await context.out.line(`${alias} means ${collection} now`);
    });
}

function listCommand(io: Io): Command {
  return new Command("list")
    .alias("ls")
    .description("list the aliases")
    .argument("[collection]", "of this collection alone")
    .addHelpText("after", "\nExamples:\n  kith alias list\n  kith alias list films-2024 --output json")
    .action(async (collection: string | undefined, _flags: object, self: Command) => {
      const context = contextOf(io, self);
      const { out } = context;
      const options = { signal: io.signal, ...(collection !== undefined && { collection }) };
      const aliases = await withClient(context, (client) => client.aliases.list(options));
      if (out.json) await out.document(aliases);
      else if (aliases.length === 0) await out.note("There are no aliases.");
      else
        await out.table(
          ["ALIAS", "COLLECTION"],
          aliases.map((each) => [each.alias, each.collection]),
        );
    });
}

function deleteCommand(io: Io): Command {
  return new Command("delete")
    .description("delete an alias; the collection stays")
    .argument("<alias>", "the alias")
    .addHelpText("after", "\nExamples:\n  kith alias delete films")
    .action(async (alias: string, _flags: object, self: Command) => {
      const context = contextOf(io, self);
      await withClient(context, (client) => client.aliases.delete(alias, { signal: io.signal }));
      if (context.out.json) await context.out.document({ deleted: alias });
      else await context.out.line(`deleted the alias ${alias}`);
    });
}
