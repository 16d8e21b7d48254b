import { Command } from "commander";
import type { ChangeEvent, Token } from "../../../libs/client/index.js";
import { contextOf, withClient } from "../context.js";
import { UsageError } from "../failure.js";
import type { Io } from "../io.js";
import { formatCount, toJson } from "../output.js";
import { whole } from "../values.js";

interface WatchFlags {
  filter?: string;
  from?: string;
  before?: boolean;
  vectors?: boolean;
  payload: boolean;
  near?: string;
  using?: string;
  threshold?: string;
  limit?: number;
}

export function watchCommand(io: Io): Command {
  return new Command("watch")
    .description("print the changes of a collection's points as they happen, one a line")
    .argument("<collection>", "name of the collection")
    .option("--filter <filter>", "only points that pass before or afterwards: 'year > 1990'")
    .option("--from <token>", "what came behind a token, as --output json prints it")
    .option("--before", "also what points were before")
    .option("--vectors", "with vectors")
    .option("--no-payload", "without payloads")
    .option("--near <vector>", "only points written with a vector near to this one: '[0.1,0.8,0.3]'")
    .option("--using <field>", "the vector field of --near")
    .option("--threshold <n>", "of --near: for cosine and dot the lowest score, for l2 the largest distance")
    .option("-n, --limit <n>", "end after so many changes", whole(1, Number.MAX_SAFE_INTEGER))
    .addHelpText(
      "after",
      `
It runs until Ctrl-C, and goes on by itself after a break. A point that was changed again before it could be read comes without content, and once more.

Examples:
  kith watch films
  kith watch films --filter 'year > 1990' --before --output json
  kith watch films --near '[0.1,0.8,0.3]' --threshold 0.9
  kith watch films --output json --from '{"collectionId":"4f1c","shards":{"0":1200}}'`,
    )
    .action(async (name: string, flags: WatchFlags, self: Command) => {
      const context = contextOf(io, self);
      const { out } = context;
      const near = nearOf(flags);
      const from = flags.from === undefined ? undefined : tokenOf(flags.from);
      let count = 0;
      await withClient(context, async (client) => {
        const changes = client.collection(name).watch({
          ...(flags.filter !== undefined && { filter: flags.filter }),
          ...(from !== undefined && { from }),
          ...(near !== undefined && { near }),
          before: flags.before ?? false,
          withVectors: flags.vectors ?? false,
          withPayload: flags.payload,
          signal: io.signal,
        });
        try {
          for await (const change of changes) {
            if (out.json) await out.record(change);
            else await out.line(lineOf(change));
            count++;
            if (count === flags.limit) break;
          }
        } catch (error) {
          // Ctrl-C is how it ends.
          if (!io.signal.aborted) throw error;
        }
      });
      if (!out.json) await out.note(`${formatCount(count)} changes`);
    });
}

function lineOf({ kind, id, shard, sequence, before, after, score }: ChangeEvent): string {
  const words = [kind.padEnd(8), id === undefined ? `shard ${shard}` : String(id), `at ${shard}:${sequence}`];
  if (score !== undefined) words.push(`score ${score.toFixed(4)}`);
  if (before?.payload !== undefined) words.push(`was ${toJson(before.payload)}`);
  if (after?.payload !== undefined) words.push(toJson(after.payload));
  return words.join("  ");
}

function nearOf({
  near,
  using,
  threshold,
}: WatchFlags): { vector: number[]; using?: string; threshold: number } | undefined {
  if (near === undefined) {
    if (threshold !== undefined || using !== undefined) throw new UsageError("--threshold and --using go with --near");
    return undefined;
  }
  const vector = parsed(near, "--near");
  if (!Array.isArray(vector) || !vector.every((each) => typeof each === "number")) {
    throw new UsageError(`--near ${near} is no vector; write it as [0.1,0.8,0.3]`);
  }
  const number = Number(threshold);
  if (threshold === undefined || !Number.isFinite(number))
    throw new UsageError("--near needs a number as its --threshold");
  return { vector, threshold: number, ...(using !== undefined && { using }) };
}

function tokenOf(text: string): Token {
  const token = parsed(text, "--from");
  if (typeof token === "object" && token !== null && "shards" in token && "collectionId" in token)
    return token as Token;
  throw new UsageError(`--from ${text} is no token; it is the "token" of a change`);
}

function parsed(text: string, option: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new UsageError(`${option} ${text} is not JSON`);
  }
}
