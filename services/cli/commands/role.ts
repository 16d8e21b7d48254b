import { Command, InvalidArgumentError } from "commander";
import type { AccessLimits, RoleInfo, RoleRuleInput, RoleVerb } from "../../../libs/client/index.js";
import { contextOf, withClient } from "../context.js";
import type { Io } from "../io.js";
import { accessLimit } from "../values.js";

export function roleCommand(io: Io): Command {
  const command = new Command("role").description("define what API keys allow");
  command.addCommand(putCommand(io));
  command.addCommand(listCommand(io));
  command.addCommand(deleteCommand(io));
  return command;
}

function putCommand(io: Io): Command {
  return new Command("put")
    .description("make a role, or put another in its place; keys that have it are bound at once")
    .argument("<name>", "its name")
    .requiredOption("--allow <rule>", "verbs, on, patterns, and where with a filter; may be repeated", rule)
    .option(
      "--limit <limit>",
      "of each key: requests=N, points=N, bytes=N a second, queries=N at once, stored-points=N, stored-bytes=N; repeated",
      accessLimit,
    )
    .addHelpText(
      "after",
      `
A rule says "<verbs> on <collections>", and where it is about some points alone "... where <filter>". Verbs: describe,
read, write, create, alter, drop, backup; of the whole cluster, on * alone: monitor, operate, keys.

Examples:
  kith role put support --allow 'read on tickets,docs-*'
  kith role put acme --allow 'read,write on orders where tenant = "acme"'
  kith role put ingest --allow 'write on films-*' --allow 'create,alter on films-*'`,
    )
    .action(async (name: string, flags: { allow: RoleRuleInput[]; limit?: AccessLimits }, self: Command) => {
      const context = contextOf(io, self);
      const { out } = context;
      const role = await withClient(context, (client) =>
        client.roles.put(
          { name, rules: flags.allow, ...(flags.limit && { limits: flags.limit }) },
          { signal: io.signal },
        ),
      );
      if (out.json) await out.document(role);
      else await out.line(`the role ${name} allows ${role.rules.map(describe).join("; ")}`);
    });
}

function listCommand(io: Io): Command {
  return new Command("list")
    .alias("ls")
    .description("list the roles with what they allow")
    .addHelpText("after", "\nExamples:\n  kith role list\n  kith role list --output json")
    .action(async (_flags: object, self: Command) => {
      const context = contextOf(io, self);
      const { out } = context;
      const roles = await withClient(context, (client) => client.roles.list({ signal: io.signal }));
      if (out.json) return out.document(roles);
      await out.table(
        ["ROLE", "ALLOWS"],
        roles.flatMap(({ name, isBuiltIn, rules }) =>
          rules.map((each, i) => [i === 0 ? `${name}${isBuiltIn ? " (built in)" : ""}` : "", describe(each)]),
        ),
      );
    });
}

function deleteCommand(io: Io): Command {
  return new Command("delete")
    .description("delete a role that no key has")
    .argument("<name>", "its name")
    .addHelpText("after", "\nExamples:\n  kith role delete support")
    .action(async (name: string, _flags: object, self: Command) => {
      const context = contextOf(io, self);
      await withClient(context, (client) => client.roles.delete(name, { signal: io.signal }));
      if (context.out.json) await context.out.document({ deleted: name });
      else await context.out.line(`deleted the role ${name}`);
    });
}

function describe({ verbs, collections, filter }: RoleInfo["rules"][number]): string {
  const where = filter === undefined ? "" : ` where ${JSON.stringify(filter)}`;
  return `${verbs.join(",")} on ${collections.join(",")}${where}`;
}

const shape = /^\s*([a-z,\s]+?)\s+on\s+(\S+(?:\s*,\s*\S+)*?)(?:\s+where\s+(.+))?\s*$/s;

function rule(text: string, before: RoleRuleInput[] | undefined): RoleRuleInput[] {
  const [, verbs, collections, filter] = shape.exec(text) ?? [];
  if (verbs === undefined || collections === undefined) {
    throw new InvalidArgumentError('It must say "<verbs> on <collections>", such as "read,write on docs-*".');
  }
  const list = (each: string): string[] => each.split(",").map((part) => part.trim());
  const parsed: RoleRuleInput = {
    // The server knows which there are.
    verbs: list(verbs) as RoleVerb[],
    collections: list(collections),
    ...(filter !== undefined && { filter }),
  };
  return [...(before ?? []), parsed];
}
