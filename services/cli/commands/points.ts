import { Command, Option } from "commander";
import type { ExplainStep, Id, JsonObject, Point, ReadConsistency, SparseVector } from "../../../libs/client/index.js";
import { isUuid } from "../../../libs/model/index.js";
import { contextOf, withClient } from "../context.js";
import { renderExplain } from "../explain-tree.js";
import { ExitError, exitCode } from "../failure.js";
import type { Io } from "../io.js";
import { formatCount, type Output, toJson } from "../output.js";
import { parseFilterFlag, parseId } from "../values.js";
import { partitionOf, type PartitionFlag, partitionOption } from "./partition-option.js";
import { filterOption, onlyIfOption, targetOf } from "./payload.js";

interface GetFlags extends PartitionFlag {
  withVectors?: boolean;
  consistency: ReadConsistency;
}

const idHelp = `
Ids: digits are a number, 8-4-4-4-12 hexadecimal digits a UUID, everything else a string. Quote digits to mean a
string: '"42"'.`;

/** How fresh a read is. */
export function consistencyOption(): Option {
  return new Option("--consistency <level>", "what it must know of: every write before it, or what a replica has")
    .choices(["linearizable", "none"])
    .default("linearizable");
}

export function getCommand(io: Io): Command {
  return new Command("get")
    .description("get points by their ids")
    .argument("<collection>", "name of the collection")
    .argument("<id...>", "ids of the points")
    .option("--with-vectors", "show the vectors too")
    .addOption(partitionOption())
    .addOption(consistencyOption())
    .addHelpText(
      "after",
      `${idHelp}

Examples:
  kith get articles 42 43
  kith get articles 'user-7' --with-vectors --output json
  kith get articles 42 --consistency none         also while the log is away

Ends with code 3 when a point is missing; those that exist are printed.`,
    )
    .action(async (name: string, texts: string[], flags: GetFlags, self: Command) => {
      const context = contextOf(io, self);
      const { out } = context;
      const ids = texts.map(parseId);
      const points = await withClient(context, (client) =>
        client.collection(name).get(ids, {
          withVectors: flags.withVectors ?? false,
          consistency: flags.consistency,
          ...partitionOf(flags),
          signal: io.signal,
        }),
      );
      if (out.json) await out.document(points);
      else if (points.length > 0) {
        await out.table(
          ["ID", "VERSION", "PAYLOAD", ...(flags.withVectors ? ["VECTORS"] : [])],
          points.map((point) => [
            showId(point.id),
            point.version,
            point.payload === undefined ? "" : toJson(point.payload),
            ...(flags.withVectors ? [showVectors(point, out)] : []),
          ]),
        );
      }
      const found = new Set(points.map((point) => showId(canonical(point.id))));
      const missing = ids.filter((id) => !found.has(showId(canonical(id))));
      if (missing.length > 0) {
        await out.note(`not found: ${missing.map(showId).join(", ")}`);
        throw new ExitError(exitCode.notFound);
      }
    });
}

/** UUIDs come back in lower case. */
function canonical(id: Id): Id {
  return typeof id === "string" && isUuid(id) ? id.toLowerCase() : id;
}

/** An id as the command line takes it: digits for numbers, JSON strings where text could be taken for something else. */
export function showId(id: Id): string {
  if (typeof id !== "string") return String(id);
  return /^\d+$|^"|\s/.test(id) ? JSON.stringify(id) : id;
}

function showVectors(point: Point<JsonObject>, out: Output): string {
  const named = { ...(point.vector && { "": point.vector }), ...point.vectors };
  return Object.entries(named)
    .map(([name, vector]) => `${name === "" ? "" : `${name}: `}${showVector(vector, out)}`)
    .concat(Object.entries(point.sparse ?? {}).map(([name, vector]) => `${name}: ${showSparse(vector, out)}`))
    .join(" ");
}

function showSparse(vector: SparseVector, out: Output): string {
  if (!out.forPeople) return toJson(vector);
  const { indices, values } = vector;
  const shown = Array.from(indices.subarray(0, 4), (index, i) => `${index}: ${Number(values[i]?.toPrecision(4))}`);
  return `{${shown.join(", ")}${indices.length > 4 ? `, … ${indices.length} in all` : ""}}`;
}

/** On a terminal the first elements, elsewhere all of them. */
function showVector(vector: Float32Array, out: Output): string {
  if (!out.forPeople) return toJson(vector);
  const shown = Array.from(vector.subarray(0, 6), (value) => String(Number(value.toPrecision(4))));
  return `[${shown.join(", ")}${vector.length > 6 ? `, … ${vector.length} in all` : ""}]`;
}

interface CountFlags extends PartitionFlag {
  filter?: string;
  approximate?: boolean;
  explain?: boolean;
  consistency: ReadConsistency;
}

export function countCommand(io: Io): Command {
  return new Command("count")
    .description("count the points of a collection")
    .argument("<collection>", "name of the collection")
    .option("--filter <filter>", "only points that pass")
    .option("--approximate", "an estimate will do, where it is cheaper")
    .option("--explain", "tell how the answer came about")
    .addOption(partitionOption())
    .addOption(consistencyOption())
    .addHelpText(
      "after",
      `
Examples:
  kith count articles
  kith count films --filter 'year > 1990 and not exists(deleted)' --explain
  kith count articles --consistency none --output json`,
    )
    .action(async (name: string, flags: CountFlags, self: Command) => {
      const context = contextOf(io, self);
      const filter = parseFilterFlag(flags.filter);
      const { consistency, approximate = false } = flags;
      let explain: ExplainStep | undefined;
      const options = {
        ...{ consistency, approximate, signal: io.signal },
        ...partitionOf(flags),
        ...(filter !== undefined && { filter }),
        ...(flags.explain && { onExplain: (told: ExplainStep) => void (explain = told) }),
      };
      const count = await withClient(context, (client) => client.collection(name).count(options));
      const { out } = context;
      if (out.json) {
        await out.document({ collection: name, count, ...(explain && { explain }) });
        return;
      }
      await out.line(context.io.stdoutIsTerminal ? formatCount(count) : String(count));
      if (explain) await out.line(`\n${renderExplain(explain, (style, text) => out.paint(style, text))}`);
    });
}

interface DeleteFlags extends PartitionFlag {
  filter?: string;
  onlyIf?: string;
}

export function deleteCommand(io: Io): Command {
  return new Command("delete")
    .description("delete points by their ids, or all that pass a filter")
    .argument("<collection>", "name of the collection")
    .argument("[id...]", "ids of the points")
    .addOption(filterOption())
    .addOption(onlyIfOption())
    .addOption(partitionOption())
    .addHelpText(
      "after",
      `${idHelp}

Examples:
  kith delete articles 42 43
  kith delete articles 7d444840-9dc0-11d1-b245-5ffdce74fad2
  kith delete articles --filter 'year < 1990'`,
    )
    .action(async (name: string, texts: string[], flags: DeleteFlags, self: Command) => {
      const context = contextOf(io, self);
      const target = targetOf(texts, flags.filter);
      const onlyIf = parseFilterFlag(flags.onlyIf);
      const options = { signal: io.signal, ...partitionOf(flags), ...(onlyIf !== undefined && { onlyIf }) };
      const { deleted } = await withClient(context, (client) => client.collection(name).delete(target, options));
      const asked = texts.length;
      if (context.out.json) await context.out.document({ collection: name, ...(asked > 0 && { asked }), deleted });
      else if (asked === 0) await context.out.line(`deleted ${deleted} point${deleted === 1 ? "" : "s"}`);
      else await context.out.line(`deleted ${deleted} of ${asked} point${asked === 1 ? "" : "s"}`);
      if (deleted === 0) throw new ExitError(exitCode.notFound);
    });
}
