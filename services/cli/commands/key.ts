import { Command, InvalidArgumentError } from "commander";
import type { AccessLimits, KeyInfo, MadeKey } from "../../../libs/client/index.js";
import { type CommandContext, contextOf, withClient } from "../context.js";
import type { Io } from "../io.js";
import { accessLimit, duration } from "../values.js";

export function keyCommand(io: Io): Command {
  const command = new Command("key").description("create, list, rotate and revoke API keys");
  command.addCommand(createCommand(io));
  command.addCommand(listCommand(io));
  command.addCommand(rotateCommand(io));
  command.addCommand(revokeCommand(io));
  return command;
}

interface CreateFlags {
  role: string;
  collections?: string[];
  expires?: number;
  limit?: AccessLimits;
}

function createCommand(io: Io): Command {
  return new Command("create")
    .description("make a key; it is shown this once")
    .argument("[name]", "for people: whose it is", "key")
    .requiredOption("--role <role>", "what it allows: admin, operator, writer, reader, or a role of your own")
    .option("--collections <patterns>", "on these alone: names, or beginnings with * behind, with commas", patterns)
    .option("--expires <time>", 'good for so long: "12h", "30d"; default: for ever', lifetime)
    .option(
      "--limit <limit>",
      "requests=N, points=N, bytes=N a second, queries=N at once, stored-points=N, stored-bytes=N; repeated",
      accessLimit,
    )
    .addHelpText(
      "after",
      `
The key is printed and stored nowhere else. Give it to programs as KITH_API_KEY or with --api-key.

Examples:
  kith key create --role admin
  kith key create search-page --role reader --collections 'docs,films-*' --expires 30d --limit requests=50
  export KITH_API_KEY=$(kith key create ingest --role writer --output json | jq -r .secret)`,
    )
    .action(async (name: string, flags: CreateFlags, self: Command) => {
      const context = contextOf(io, self);
      const { role, collections, expires, limit } = flags;
      const made = await withClient(context, (client) =>
        client.keys.create(name, {
          role,
          ...(collections && { collections }),
          ...(expires !== undefined && { expiresAt: new Date(Date.now() + expires) }),
          ...(limit && { limits: limit }),
          signal: io.signal,
        }),
      );
      await show(context, made);
    });
}

function listCommand(io: Io): Command {
  return new Command("list")
    .alias("ls")
    .description("list the keys, without their secrets")
    .addHelpText("after", "\nExamples:\n  kith key list\n  kith key list --output json")
    .action(async (_flags: object, self: Command) => {
      const context = contextOf(io, self);
      const { out } = context;
      const keys = await withClient(context, (client) => client.keys.list({ signal: io.signal }));
      if (out.json) await out.document(keys);
      else if (keys.length === 0) await out.note("There are no keys.");
      else {
        await out.table(
          ["KEY", "NAME", "ROLE", "COLLECTIONS", "CREATED", "EXPIRES", "SECRETS"],
          keys.map((key) => [
            ...[key.id, key.name, key.role, key.collections.join(","), day(key.createdAt)],
            ...[key.expiresAt === undefined ? "never" : day(key.expiresAt), key.secrets.length],
          ]),
        );
      }
    });
}

function rotateCommand(io: Io): Command {
  return new Command("rotate")
    .description("give a key another secret, which is shown this once")
    .argument("<key>", "its id")
    .option("--overlap <time>", 'the old secret stays good for so long: "1h", "1d"; default: 1d', overlap)
    .addHelpText(
      "after",
      "\nExamples:\n  kith key rotate 0a1b2c3d4e5f6071 --overlap 7d\n  kith key rotate 0a1b2c3d4e5f6071 --overlap 0",
    )
    .action(async (id: string, flags: { overlap?: number }, self: Command) => {
      const context = contextOf(io, self);
      const options = { signal: io.signal, ...(flags.overlap !== undefined && { overlapMs: flags.overlap }) };
      await show(context, await withClient(context, (client) => client.keys.rotate(id, options)));
    });
}

function revokeCommand(io: Io): Command {
  return new Command("revoke")
    .description("let nobody in by a key any more, within two seconds")
    .argument("<key>", "its id")
    .addHelpText("after", "\nExamples:\n  kith key revoke 0a1b2c3d4e5f6071")
    .action(async (id: string, _flags: object, self: Command) => {
      const context = contextOf(io, self);
      await withClient(context, (client) => client.keys.revoke(id, { signal: io.signal }));
      if (context.out.json) await context.out.document({ revoked: id });
      else await context.out.line(`revoked the key ${id}`);
    });
}

async function show({ out }: CommandContext, { key, secret }: MadeKey): Promise<void> {
  if (out.json) return out.document({ ...key, secret });
  await out.note(`${describe(key)}; keep it now, it is not shown again:`);
  await out.line(secret);
}

function describe({ id, name, role, collections, expiresAt }: KeyInfo): string {
  const until = expiresAt === undefined ? "" : `, until ${day(expiresAt)}`;
  return `the key ${id} (${name}) has the role ${role} on ${collections.join(", ")}${until}`;
}

function day(date: Date | undefined): string {
  return (
    date
      ?.toISOString()
      .replace(/:\d\d\.\d+Z$/, "Z")
      .replace("T", " ") ?? ""
  );
}

function patterns(text: string): string[] {
  return text.split(",").map((each) => each.trim());
}

const dayMs = 24 * 3_600_000;

/** As `duration`, and in days. */
function lifetime(text: string): number {
  const days = /^(\d+)d$/.exec(text.trim())?.[1];
  if (days === undefined) return duration(text);
  if (Number(days) > 0 && Number(days) <= 36_500) return Number(days) * dayMs;
  throw new InvalidArgumentError('It must be a time such as "12h" or "30d".');
}

function overlap(text: string): number {
  return text.trim() === "0" ? 0 : lifetime(text);
}
