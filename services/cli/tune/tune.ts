import { Command, InvalidArgumentError } from "commander";
import { KithError, limits, SeededRandom } from "../../../libs/base/index.js";
import type {
  CollectionHandle,
  FilterInput,
  FusionInput,
  JsonObject,
  PrefetchInput,
  QueryInput,
  ScoredPoint,
} from "../../../libs/client/index.js";
import type { Hit, Metric } from "../../../libs/model/index.js";
import type { Cell } from "../cells.js";
import { feedbackPoints } from "../commands/feedback.js";
import { partitionOf, type PartitionFlag, partitionOption } from "../commands/partition-option.js";
import { contextOf, withClient } from "../context.js";
import type { Io } from "../io.js";
import { type Output, toJson } from "../output.js";
import { finite, parseFilterFlag, readText, whole } from "../values.js";
import { idKeyOf, type JudgedQuery, readJudged } from "./judged.js";
import {
  errorOf,
  findWeight,
  fusedNdcg,
  type JudgedLists,
  meanOf,
  ndcg,
  splitOf,
  type TunedMethod,
  tunedMethods,
} from "./weights.js";

interface TuneFlags extends PartitionFlag {
  textIndex?: string;
  using?: string;
  plain?: boolean;
  filter?: string;
  candidates: number;
  ef?: number;
  exact?: boolean;
  split: number;
  seed: number;
}

/** Queries that go to the server in one call. */
const batchQueries = 32;
/** nDCG@10 needs the first ten points of each list. */
const candidatesMin = 10;

export function tuneCommand(io: Io): Command {
  return new Command("tune")
    .description("find the weights of a hybrid search on judged queries")
    .argument("<collection>", "name of the collection")
    .argument("<file>", 'JSON lines of {"text", "vector", "relevant": {"<id>": grade}} (-: standard input)')
    .option("--text-index <path>", "the BM25 index (default: the only one)")
    .option("--using <name>", "vector field of the collection (default: the unnamed one)")
    .option("--plain", "signs in the texts are nothing but text")
    .option("--filter <filter>", "only points that pass: text such as 'year > 1990', or JSON")
    .addOption(partitionOption())
    .option(
      "--candidates <n>",
      "results by text and by vector that are fused",
      whole(candidatesMin, limits.queryLimit),
      100,
    )
    .option("--ef <n>", "beam width of the searches by vector", whole(1))
    .option("--exact", "search by vector without the graph")
    .option("--split <share>", "part of the queries that weights are found on; the rest is held out", share, 0.5)
    .option("--seed <n>", "which queries these are", whole(0, 0xffff_ffff), 1)
    .addHelpText(
      "after",
      `
Each query is asked by text and by vector once; both lists are then fused with the weights 0, 0.05, ..., 1. Shown is nDCG@10 with grades as gains.
Vectors are those of the texts, by whatever made those of the collection. Without any, the three best points by text are the examples, as with
kith search --hybrid.

Examples:
  kith tune docs judged.jsonl
  kith tune docs judged.jsonl --plain --split 0.7 --seed 3 --output json`,
    )
    .action(async (name: string, file: string, flags: TuneFlags, self: Command) => {
      const context = contextOf(io, self);
      const filter = parseFilterFlag(flags.filter);
      const queries = readJudged(await readText(file, io), file === "-" ? "standard input" : file);
      const lists = await withClient(context, (client) =>
        askAll(client.collection(name), queries, { flags, filter, signal: io.signal }),
      );
      const report = await reportOf(lists, flags, io.signal);
      if (context.out.json) await context.out.document({ collection: name, ...report });
      else await show(context.out, name, report, flags, queries[0]?.vector !== undefined);
    });
}

function share(text: string): number {
  const value = finite(text);
  if (value <= 0 || value >= 1) throw new InvalidArgumentError("It must be a number between 0 and 1.");
  return value;
}

interface Asking {
  flags: TuneFlags;
  filter: FilterInput | undefined;
  signal: AbortSignal;
}

/** Both lists of every query. */
async function askAll(
  collection: CollectionHandle<JsonObject>,
  queries: readonly JudgedQuery[],
  asking: Asking,
): Promise<JudgedLists[]> {
  const lists: JudgedLists[] = [];
  const metric = await metricOf(collection, asking);
  for (let from = 0; from < queries.length; from += batchQueries) {
    const batch = queries.slice(from, from + batchQueries);
    const texts = await ask(
      collection,
      batch,
      asking,
      batch.map(({ text }) => textStage(text, asking.flags)),
    );
    const stages = batch.map((query, i) => vectorStage(query.vector ?? texts[i] ?? [], asking.flags));
    const vectors = await ask(collection, batch, asking, stages);
    batch.forEach(({ grades }, i) =>
      lists.push({ grades, text: hitsOf(texts[i] ?? []), vector: hitsOf(vectors[i] ?? []), metric }),
    );
  }
  return lists;
}

async function metricOf(
  collection: CollectionHandle<JsonObject>,
  { flags: { using = "" }, signal }: Asking,
): Promise<Metric> {
  const { vectors } = await collection.info({ signal });
  const field = vectors.find(({ name }) => name === using);
  if (field !== undefined) return field.metric;
  const known = vectors.map(({ name }) => (name === "" ? "one without a name" : `"${name}"`)).join(", ");
  const wanted = using === "" ? "no vector field without a name" : `no vector field "${using}"`;
  throw new KithError("UNKNOWN_VECTOR", `"${collection.name}" has ${wanted}; name one with --using: it has ${known}`);
}

/** By text, as a prefetch of the hybrid query has it. */
function textStage(text: string, { plain, textIndex = "", candidates }: TuneFlags): PrefetchInput {
  return { query: { text: plain === true ? { text, plain } : text }, using: textIndex, limit: candidates };
}

/** By the vector, or like the first of the points; undefined where there are none. */
function vectorStage(of: Float32Array | readonly ScoredPoint[], flags: TuneFlags): PrefetchInput | undefined {
  const { using = "", candidates, ef, exact } = flags;
  const more = { using, limit: candidates, ...(ef !== undefined && { ef }), ...(exact === true && { exact }) };
  if (of instanceof Float32Array) return { query: { nearest: of }, ...more };
  const positive = of.slice(0, feedbackPoints).map(({ id }) => id);
  return positive.length === 0 ? undefined : { query: { recommend: { positive } }, ...more };
}

/** The points of each stage; none for a stage that is undefined. An error names the line of its query. */
async function ask(
  collection: CollectionHandle<JsonObject>,
  batch: readonly JudgedQuery[],
  { flags, filter, signal }: Asking,
  stages: readonly (PrefetchInput | undefined)[],
): Promise<ScoredPoint<JsonObject>[][]> {
  const asked = stages.flatMap((stage, i) => (stage === undefined ? [] : [{ stage, i }]));
  const found: ScoredPoint<JsonObject>[][] = stages.map(() => []);
  if (asked.length === 0) return found;
  const inputs = asked.map(
    ({ stage }): QueryInput => ({
      ...stage,
      withPayload: false,
      consistency: "none",
      ...(filter !== undefined && { filter }),
      ...partitionOf(flags),
    }),
  );
  const items = await collection.queryBatch(inputs, { signal });
  items.forEach((item, n) => {
    const i = asked[n]?.i ?? 0;
    if (item.ok) found[i] = item.result.points;
    else
      throw new KithError(item.error.code, `the query of line ${batch[i]?.line}: ${item.error.message}`, {
        cause: item.error,
      });
  });
  return found;
}

const noPayload = new Uint8Array();

function hitsOf(points: readonly ScoredPoint[]): Hit[] {
  return points.map(({ id, score, version }) => ({ id: idKeyOf(id), score, version, payload: noPayload }));
}

/** Mean nDCG@10. */
interface Quality {
  training: number;
  heldOut: number;
}

interface FusionQuality extends Quality {
  method: TunedMethod;
  /** Undefined: both lists count alike. */
  textWeight: number | undefined;
}

interface TuneReport {
  training: number;
  heldOut: number;
  seed: number;
  vectors: Quality;
  text: Quality;
  fusions: FusionQuality[];
  /** Of the tuned fusions, the better one on the training queries. */
  best: FusionQuality & {
    /** The better of vectors and text alone on the held-out queries. */
    alone: "vectors" | "text";
    /** nDCG@10 that the fusion is above it there, and the standard error of that. */
    gain: number;
    gainError: number | undefined;
  };
  /** For `hybridQuery` of the SDK. */
  hybrid: { fusion: TunedMethod; textWeight: number; candidates: number };
  /** For `query` of a QueryInput over the prefetches by text and by vector, in this order. */
  fusion: FusionInput;
}

async function reportOf(lists: readonly JudgedLists[], flags: TuneFlags, signal: AbortSignal): Promise<TuneReport> {
  const [training, heldOut] = splitOf(lists, flags.split, new SeededRandom(flags.seed));
  const alone = (which: "text" | "vector"): Quality & { heldOutEach: number[] } => {
    const of = (queries: readonly JudgedLists[]): number[] => queries.map((query) => ndcg(query[which], query.grades));
    const heldOutEach = of(heldOut);
    return { training: meanOf(of(training)), heldOut: meanOf(heldOutEach), heldOutEach };
  };
  const singles = { vectors: alone("vector"), text: alone("text") };
  const fusions: FusionQuality[] = [];
  let best: (FusionQuality & { textWeight: number; heldOutEach: number[] }) | undefined;
  for (const method of tunedMethods) {
    const plain = { training: fusedNdcg(training, method), heldOut: fusedNdcg(heldOut, method) };
    fusions.push({ method, textWeight: undefined, training: meanOf(plain.training), heldOut: meanOf(plain.heldOut) });
    const { textWeight, ndcg: found } = await findWeight(training, method, signal);
    const heldOutEach = fusedNdcg(heldOut, method, textWeight);
    const tuned = { method, textWeight, training: found, heldOut: meanOf(heldOutEach) };
    fusions.push(tuned);
    if (best === undefined || found > best.training) best = { ...tuned, heldOutEach };
  }
  if (best === undefined) throw new KithError("INTERNAL", "no fusion was tried");
  const { heldOutEach, ...chosen } = best;
  const which = singles.vectors.heldOut > singles.text.heldOut ? "vectors" : "text";
  const gains = heldOutEach.map((value, i) => value - (singles[which].heldOutEach[i] ?? 0));
  const { method, textWeight } = chosen;
  // Without the digits that 1 - 0.55 has too many.
  const weights = [textWeight, Number((1 - textWeight).toFixed(2))];
  return {
    training: training.length,
    heldOut: heldOut.length,
    seed: flags.seed,
    vectors: { training: singles.vectors.training, heldOut: singles.vectors.heldOut },
    text: { training: singles.text.training, heldOut: singles.text.heldOut },
    fusions,
    best: { ...chosen, alone: which, gain: meanOf(gains), gainError: errorOf(gains) },
    hybrid: { fusion: method, textWeight, candidates: flags.candidates },
    fusion: method === "rrf" ? { rrf: { weights } } : { relative: { weights } },
  };
}

async function show(
  out: Output,
  name: string,
  report: TuneReport,
  flags: TuneFlags,
  withVectors: boolean,
): Promise<void> {
  const { vectors, text, fusions, best, hybrid, fusion } = report;
  const row = (title: string, weight: number | undefined, { training, heldOut }: Quality): Cell[] => [
    title,
    weight,
    training.toFixed(4),
    heldOut.toFixed(4),
  ];
  await out.table(
    ["LISTS", "TEXT WEIGHT", "NDCG@10 TRAINING", "NDCG@10 HELD OUT"],
    [
      row("vectors alone", undefined, vectors),
      row("text alone", undefined, text),
      ...fusions.map((each) =>
        row(
          each.textWeight === undefined ? `${each.method}, no weights` : `${each.method}, tuned`,
          each.textWeight,
          each,
        ),
      ),
    ],
  );
  const error = best.gainError === undefined ? "" : ` ± ${best.gainError.toFixed(4)}`;
  const { training, heldOut } = report;
  await out.note(
    `weights were found on ${training} ${training === 1 ? "query" : "queries"} and checked on ${heldOut} others (seed ${report.seed}); ` +
      `there the tuned ${best.method} is ${Math.abs(best.gain).toFixed(4)}${error} ${best.gain < 0 ? "worse" : "better"} than ${best.alone} alone`,
  );
  await out.line(`
SDK:    hybridQuery({ ${hybridText(hybrid, flags, withVectors)} })
query:  ${toJson({ fusion })}, over prefetches by text and by vector of ${hybrid.candidates} each
kith:   kith search ${name} ${searchText(hybrid, flags, withVectors)}`);
}

/** What the SDK's `hybridQuery` takes. */
function hybridText(
  { fusion, textWeight, candidates }: TuneReport["hybrid"],
  flags: TuneFlags,
  vectors: boolean,
): string {
  const { plain, textIndex, using } = flags;
  return [
    plain === true ? "text: { text, plain: true }" : "text",
    vectors ? "vector" : `like: the ${feedbackPoints} best by text`,
    ...(textIndex === undefined ? [] : [`textIndex: ${JSON.stringify(textIndex)}`]),
    ...(using === undefined ? [] : [`using: ${JSON.stringify(using)}`]),
    `fusion: "${fusion}"`,
    `textWeight: ${textWeight}`,
    `candidates: ${candidates}`,
  ].join(", ");
}

/** The options of `kith search`. */
function searchText(
  { fusion, textWeight, candidates }: TuneReport["hybrid"],
  flags: TuneFlags,
  vectors: boolean,
): string {
  const { plain, textIndex, using } = flags;
  return [
    "--text '...' --hybrid",
    ...(vectors ? ["--vector '[...]'"] : []),
    ...(plain === true ? ["--plain"] : []),
    ...(textIndex === undefined ? [] : [`--text-index ${textIndex}`]),
    ...(using === undefined ? [] : [`--using ${using}`]),
    `--fusion ${fusion} --text-weight ${textWeight} --candidates ${candidates}`,
  ].join(" ");
}
