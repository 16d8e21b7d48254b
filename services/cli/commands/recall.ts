import { Command } from "commander";
import { limits } from "../../../libs/base/index.js";
import type {
  CollectionHandle,
  FilterInput,
  JsonObject,
  MatrixInput,
  QueryInput,
  RecallStats,
  ScoredPoint,
  VectorInput,
} from "../../../libs/client/index.js";
import { contextOf, withClient } from "../context.js";
import { UsageError } from "../failure.js";
import type { Io } from "../io.js";
import { formatCount, formatDuration, type Output } from "../output.js";
import { parseFilterFlag, whole } from "../values.js";
import { partitionOf, type PartitionFlag, partitionOption } from "./partition-option.js";

interface RecallFlags extends PartitionFlag {
  using: string;
  limit: number;
  samples: number;
  filter?: string;
}

/** Recall of the sampled queries with one beam width. */
interface CurvePoint {
  ef: number;
  recall: number;
  /** Half of the width of its interval of 95 % confidence. */
  margin: number;
  /** Of one query, as the client sees it. */
  meanMs: number;
}

/** Beam widths that are measured, those below the number of results left out. */
const widths = [16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1_024, 1_536, 2_048, 3_072, 4_096, 6_144, 8_192];
/** Nothing is missed any more, or so little that a wider beam tells nothing. */
const enough = 0.9995;
const targets = [0.9, 0.95, 0.99];
const plotWidth = 50;

/** `kith recall` */
export function recallCommand(io: Io): Command {
  return new Command("recall")
    .description("measure how much of the nearest points searches find with each beam width")
    .argument("<collection>", "its name")
    .option("--using <name>", "vector field (default: the unnamed one)", "")
    .option("-n, --limit <n>", "results of each search", whole(1, 1_000), 10)
    .option("--samples <n>", "points whose vectors are the queries", whole(1, 1_000), 100)
    .option("--filter <filter>", "only points that pass: text such as 'year > 1990', or JSON")
    .addOption(partitionOption())
    .addHelpText(
      "after",
      `
Each query is run exactly once, and once with each beam width, one after the other, until nothing is missed.

Examples:
  kith recall articles
  kith recall articles --limit 100 --filter 'year > 1990'
  kith recall articles --output json | jq '.curve[] | select(.recall >= 0.99) | .ef' | head -1
  kith collection update articles --recall-target 0.95    let shards choose the width`,
    )
    .action(async (name: string, flags: RecallFlags, self: Command) => {
      const context = contextOf(io, self);
      const filter = parseFilterFlag(flags.filter);
      const { using, limit } = flags;
      const { curve, samples, live } = await withClient(context, async (client) => {
        const collection = client.collection(name);
        const scope = { using, limit, ...partitionOf(flags), ...(filter !== undefined && { filter }) };
        const measured = await measure(collection, scope, flags.samples, io.signal);
        const { recalls } = await collection.stats({ signal: io.signal });
        return { ...measured, live: recalls.filter(({ vector }) => vector === using) };
      });
      const { out } = context;
      if (out.json) await out.document({ collection: name, field: using, k: limit, samples, curve, live });
      else await show(out, name, flags, samples, curve, live);
    });
}

interface Scope {
  using: string;
  limit: number;
  filter?: FilterInput;
  partition?: string | number | bigint;
}

type Collection = CollectionHandle<JsonObject>;

async function measure(
  collection: Collection,
  { limit, ...scope }: Scope,
  samples: number,
  signal: AbortSignal | undefined,
): Promise<{ curve: CurvePoint[]; samples: number }> {
  const input: QueryInput = { ...scope, withPayload: false };
  const drawn = await collection.query({
    ...{ ...input, query: { sample: "random" }, limit: samples, withVectors: true },
    ...(signal && { signal }),
  });
  const queries = drawn.points.flatMap((point): { own: ScoredPoint; vector: VectorInput | MatrixInput }[] => {
    const vector = vectorOf(point, scope.using);
    return vector === undefined ? [] : [{ own: point, vector }];
  });
  if (queries.length === 0) throw new UsageError("there is no point with a vector of this field to query by");
  // The point itself is the nearest of its own query, whatever the width: it is left out.
  const wanted = limit + 1;
  const find = async ({ own, vector }: (typeof queries)[number], how: Pick<QueryInput, "ef" | "exact">) => {
    const found = await collection.query({ ...input, vector, limit: wanted, ...how, ...(signal && { signal }) });
    return found.points.filter(({ id }) => id !== own.id).slice(0, limit);
  };
  const nearest: ScoredPoint[][] = [];
  for (const query of queries) nearest.push(await find(query, { exact: true }));
  const curve: CurvePoint[] = [];
  for (const ef of widths) {
    if (ef < wanted && ef !== widths.at(-1)) continue;
    const recalls: number[] = [];
    const startMs = performance.now();
    for (const [i, query] of queries.entries()) recalls.push(recallOf(await find(query, { ef }), nearest[i] ?? []));
    const meanMs = (performance.now() - startMs) / queries.length;
    const recall = recalls.reduce((sum, each) => sum + each, 0) / recalls.length;
    const variance = recalls.reduce((sum, each) => sum + (each - recall) ** 2, 0) / recalls.length;
    curve.push({ ef, recall, margin: 1.96 * Math.sqrt(variance / recalls.length), meanMs });
    if (recall >= enough) break;
  }
  return { curve, samples: queries.length };
}

function vectorOf({ vector, vectors, matrices }: ScoredPoint, using: string): VectorInput | MatrixInput | undefined {
  return matrices?.[using] ?? (using === "" ? vector : vectors?.[using]);
}

/** One that is as near as the last of the nearest counts, whichever of them it is. */
function recallOf(found: readonly ScoredPoint[], nearest: readonly ScoredPoint[]): number {
  const last = nearest.at(-1);
  if (last === undefined) return 1;
  const ids = new Set(nearest.map(({ id }) => id));
  const isTie = ({ score }: ScoredPoint): boolean => Math.abs(score - last.score) <= 1e-6 * Math.abs(last.score);
  const hits = found.filter((point) => ids.has(point.id) || isTie(point)).length;
  return Math.min(hits, nearest.length) / nearest.length;
}

async function show(
  out: Output,
  name: string,
  { using, limit }: RecallFlags,
  samples: number,
  curve: readonly CurvePoint[],
  live: readonly RecallStats[],
): Promise<void> {
  const field = using === "" ? "" : `, field ${using}`;
  await out.line(`recall@${limit} of ${name}${field}, by ${formatCount(samples)} points as queries`);
  await out.line();
  const lowest = Math.min(...curve.map(({ recall }) => recall));
  // From a tenth below what there is, so that differences show.
  const from = Math.max(0, Math.floor(lowest * 10) / 10);
  await out.table(
    ["EF", "RECALL", "±", "TIME", `${from.toFixed(1)} TO 1`],
    curve.map(({ ef, recall, margin, meanMs }) => [
      ef,
      recall.toFixed(4),
      margin.toFixed(4),
      formatDuration(meanMs),
      "#".repeat(Math.round(from === 1 ? plotWidth : ((recall - from) / (1 - from)) * plotWidth)),
    ]),
  );
  await out.line();
  for (const target of targets) {
    const first = curve.find(({ recall }) => recall >= target);
    const said = first === undefined ? `is not reached, up to ef ${limits.efMax}` : `from ef ${first.ef} on`;
    await out.line(`${target}: ${said}`);
  }
  if (live.length === 0) return;
  await out.line();
  await out.line("queries with a recall target, as shards have measured them:");
  await out.table(
    ["RESULTS", "FILTERS", "TARGET", "EF", "RECALL", "±", "SAMPLES", "HELD"],
    live.map(({ k, share, target, ef, recall, margin, samples: count, held }) => [
      `to ${formatCount(k)}`,
      share === 1 ? "any" : `to ${Number((share * 100).toPrecision(2))} %`,
      target.toString(),
      ef,
      recall.toFixed(4),
      margin.toFixed(4),
      count,
      held ? "yes" : "no",
    ]),
  );
}
