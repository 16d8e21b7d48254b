import { Command, Option } from "commander";
import type { ExplainStep, Point, ReadConsistency } from "../../../libs/client/index.js";
import { contextOf, withClient } from "../context.js";
import { renderExplain } from "../explain-tree.js";
import type { Io } from "../io.js";
import { formatCount, toJson } from "../output.js";
import { parseFilterFlag, whole } from "../values.js";
import { partitionOf, type PartitionFlag, partitionOption } from "./partition-option.js";
import { consistencyOption, showId } from "./points.js";

interface FacetFlags extends PartitionFlag {
  filter?: string;
  limit: number;
  approximate?: boolean;
  explain?: boolean;
  consistency: ReadConsistency;
}

const filterHelp = `
Filters: text (year > 1990 and genre in (drama, crime)) or JSON ('{"must": [...]}'); see docs/filters.md.`;

export function facetCommand(io: Io): Command {
  return new Command("facet")
    .description("count how many points have each value of a field")
    .argument("<collection>", "name of the collection")
    .argument("<field>", 'path in the payload, such as genre or "crew[].name"')
    .option("--filter <filter>", "only points that pass")
    .option("-n, --limit <n>", "values, the most frequent first", whole(1), 10)
    .option("--approximate", "counts may be estimates, where these are cheaper")
    .option("--explain", "tell how the answer came about")
    .addOption(partitionOption())
    .addOption(consistencyOption())
    .addHelpText(
      "after",
      `${filterHelp}

Examples:
  kith facet films genre
  kith facet films director --filter 'year >= 2000' -n 20 --output json`,
    )
    .action(async (name: string, field: string, flags: FacetFlags, self: Command) => {
      const context = contextOf(io, self);
      const { out } = context;
      const { limit, consistency, approximate = false, explain = false } = flags;
      const filter = parseFilterFlag(flags.filter);
      const result = await withClient(context, (client) =>
        client.collection(name).facet(field, {
          limit,
          consistency,
          approximate,
          explain,
          ...partitionOf(flags),
          ...(filter !== undefined && { filter }),
          signal: io.signal,
        }),
      );
      if (out.json) {
        await out.document(result);
        return;
      }
      if (result.hits.length > 0) {
        await out.table(
          ["VALUE", "POINTS"],
          result.hits.map(({ value, count }) => [typeof value === "number" ? value : String(value), count]),
        );
      }
      await out.note(`${result.hits.length} value${result.hits.length === 1 ? "" : "s"}`);
      if (result.explain) await out.line(`\n${renderExplain(result.explain, (style, text) => out.paint(style, text))}`);
    });
}

interface ScrollFlags extends PartitionFlag {
  filter?: string;
  limit: number;
  orderBy?: string;
  descending?: boolean;
  startFrom?: string;
  include?: string[];
  exclude?: string[];
  withVectors?: boolean;
  explain?: boolean;
  consistency: ReadConsistency;
}

/** Points fetched at a time. */
const batchMax = 1_000;

export function scrollCommand(io: Io): Command {
  return new Command("scroll")
    .description("list the points of a collection in order of id, or of a field")
    .argument("<collection>", "name of the collection")
    .option("--filter <filter>", "only points that pass")
    .option("-n, --limit <n>", "points; 0: all", whole(0), 20)
    .option("--order-by <field>", "in the order of this number or datetime in the payload")
    .option("--descending", "from the highest to the lowest")
    .option("--start-from <value>", "begin at this number or datetime of --order-by")
    .option("--include <path...>", "show only these parts of the payload")
    .addOption(new Option("--exclude <path...>", "show everything but these parts of the payload").conflicts("include"))
    .option("--with-vectors", "return the vectors (with --output json)")
    .option("--explain", "tell how each page came about")
    .addOption(partitionOption())
    .addOption(consistencyOption())
    .addHelpText(
      "after",
      `${filterHelp}
With --output json each point is a line, and with --explain each page another one behind them.

Examples:
  kith scroll films -n 5
  kith scroll films --filter 'genre = drama' --order-by year --descending --include title year
  kith scroll films -n 0 --output json > films.jsonl`,
    )
    .action(async (name: string, flags: ScrollFlags, self: Command) => {
      const context = contextOf(io, self);
      const { out } = context;
      const filter = parseFilterFlag(flags.filter);
      const { include, exclude, limit, orderBy: key } = flags;
      const told: ExplainStep[] = [];
      const options = {
        batch: limit === 0 ? batchMax : Math.min(batchMax, limit),
        consistency: flags.consistency,
        withVectors: flags.withVectors ?? false,
        signal: io.signal,
        ...partitionOf(flags),
        ...(filter !== undefined && { filter }),
        ...(include && { withPayload: { include } }),
        ...(exclude && { withPayload: { exclude } }),
        ...(key !== undefined && { orderBy: orderOf(key, flags) }),
        ...(flags.explain && { onExplain: (step: ExplainStep) => void told.push(step) }),
      };
      await withClient(context, async (client) => {
        const shown: Point[] = [];
        let count = 0;
        for await (const point of client.collection(name).scroll(options)) {
          if (out.json) await out.record(point);
          else shown.push(point);
          if (++count === limit) break;
        }
        if (out.json) {
          for (const explain of told) await out.record({ explain });
          return;
        }
        if (shown.length > 0)
          await out.table(
            ["ID", "PAYLOAD"],
            shown.map(({ id, payload }) => [showId(id), payload === undefined ? "" : out.cut(toJson(payload), 30)]),
          );
        await out.note(`${formatCount(count)} point${count === 1 ? "" : "s"}`);
        for (const step of told) await out.line(`\n${renderExplain(step, (style, text) => out.paint(style, text))}`);
      });
    });
}

function orderOf(
  key: string,
  { descending, startFrom }: ScrollFlags,
): { key: string; direction: "asc" | "desc"; startFrom?: number | Date } {
  const direction = descending ? "desc" : "asc";
  if (startFrom === undefined) return { key, direction };
  const number = Number(startFrom);
  return { key, direction, startFrom: Number.isFinite(number) ? number : new Date(startFrom) };
}
