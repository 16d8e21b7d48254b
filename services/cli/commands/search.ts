import { resolve } from "node:path";
import { Command, Option } from "commander";
import { KithError, limits } from "../../../libs/base/index.js";
import { type CollectionHandle, type HybridInput, hybridQuery } from "../../../libs/client/index.js";
import type {
  JsonObject,
  KithClient,
  QueryBatchItem,
  QueryInput,
  QueryResult,
  ScoredPoint,
} from "../../../libs/client/index.js";
import { type DatasetFormat, datasetFormats, openDataset, valueAt } from "../../../libs/datasets/index.js";
import { renderWaterfall } from "../../../libs/telemetry/index.js";
import { type CommandContext, contextOf, withClient } from "../context.js";
import { exitCode, ExitError, UsageError } from "../failure.js";
import type { Io } from "../io.js";
import type { Cell } from "../cells.js";
import { renderExplain } from "../explain-tree.js";
import { formatDuration, type Output, toJson } from "../output.js";
import { feedbackPoints } from "./feedback.js";
import { partitionOf, type PartitionFlag, partitionOption } from "./partition-option.js";
import { showId } from "./points.js";
import {
  finite,
  parseFilterFlag,
  parseId,
  parseObject,
  parseQueryFlag,
  parseSparse,
  parseVector,
  whole,
} from "../values.js";

interface SearchFlags extends PartitionFlag {
  vector?: string;
  sparse?: string;
  sparseField?: string;
  id?: string;
  queries?: string;
  format?: DatasetFormat;
  vectorField: string;
  using?: string;
  limit: number;
  ef?: number;
  recallTarget?: number;
  exact?: boolean;
  exactScores?: boolean;
  oversampling?: number;
  rescore?: boolean;
  scoreThreshold?: number;
  consistency: "none" | "linearizable";
  allowPartial?: boolean;
  withPayload: boolean;
  withVectors?: boolean;
  trace?: boolean;
  query?: string;
  text?: string;
  plain?: boolean;
  hybrid?: boolean;
  textIndex?: string;
  textWeight?: number;
  weights?: string;
  fusion?: "rrf" | "dbsf" | "relative";
  candidates?: number;
  filter?: string;
  offset?: number;
  highlight?: boolean;
  highlightText?: string;
  groupBy?: string;
  groupSize: number;
  include?: string[];
  exclude?: string[];
  explain?: boolean;
}

/** Queries of a file that go to the server in one call. */
const batchQueries = 64;

export function searchCommand(io: Io): Command {
  return new Command("search")
    .description(
      "find the nearest points of a vector, of a stored point, or of every vector of a file, or run a whole query",
    )
    .argument("<collection>", "name of the collection")
    .option("--vector <json>", "the query: '[0.1, 0.2]', or @file with it (@-: standard input)")
    .option("--sparse <json>", 'a sparse query: \'{"indices": [7, 42], "values": [0.5, 1.2]}\', or @file with it')
    .option("--id <id>", "use the stored vector of this point")
    .option("--queries <file>", "use every vector of this file (-: standard input)")
    .addOption(
      new Option("--format <format>", "format of --queries (default: by its extension)").choices(datasetFormats),
    )
    .option(
      "--query <json>",
      'a query as the TypeScript SDK takes it: \'{"prefetch": [...], "query": {...}}\', or @file with it',
    )
    .option(
      "--text <text>",
      'find by words, with BM25: word +must -not "a phrase" pre* fuzzy~ weighed^2 (one OR another)',
    )
    .option("--plain", "with --text: signs are nothing but text")
    .option(
      "--hybrid",
      "fuse two at least of --text, --vector and --sparse; --text alone: with the vectors of the three best texts",
    )
    .option("--text-index <path>", "with --text: the BM25 index (default: the only one)")
    .option("--sparse-field <name>", "with --hybrid: the field of --sparse (default: the only one)")
    .addOption(new Option("--fusion <method>", "with --hybrid").choices(["rrf", "dbsf", "relative"]))
    .option("--text-weight <share>", "with --hybrid: of the text against one other, 0 to 1 (default: 0.5)", finite)
    .option("--weights <json>", 'with --hybrid: what each counts: \'{"text": 1, "vector": 2, "sparse": 0.5}\'')
    .option(
      "--candidates <n>",
      "with --hybrid: results of each that are fused (default: five times the limit, 50 at least)",
      whole(1, limits.queryLimit),
    )
    .option("--vector-field <name>", "field of the vector in JSON lines", "vector")
    .option("--using <name>", "vector field of the collection to search (default: the unnamed one)")
    .option("-n, --limit <n>", "results", whole(1), 10)
    .option("--offset <n>", "results to leave out at the beginning", whole(0))
    .option("--filter <filter>", "only points that pass: text such as 'year > 1990', or JSON")
    .addOption(partitionOption())
    .option("--group-by <field>", "the best points of each value of this field; --limit counts the values")
    .option("--group-size <n>", "points of each value", whole(1), 3)
    .option("--ef <n>", "beam width: more is slower and finds more (default: the collection's)", whole(1))
    .option("--recall-target <share>", "the beam width that finds this share of the nearest, 0.5 to 0.999", finite)
    .option("--exact", "scan every vector instead of the graph")
    .option("--exact-scores", "score by the vectors as they were written, whatever the field's datatype")
    .option("--oversampling <n>", "of a field with originals: score so many times the results by these", finite)
    .option("--no-rescore", "of a field with originals: score by codes alone")
    .option("--highlight", "show the parts of the texts in which the words of --text stand, with <em> around them")
    .option("--highlight-text <text>", "as --highlight, with these words")
    .option("--score-threshold <score>", "leave out worse results", finite)
    .addOption(
      new Option("--consistency <level>", "every write before the search, or what a replica has")
        .choices(["none", "linearizable"])
        .default("none"),
    )
    .option("--allow-partial", "answer without the shards that cannot be reached")
    .option("--with-payload", "show the payloads (the default)", true)
    .option("--no-with-payload", "leave out the payloads")
    .option("--include <path...>", "show only these parts of the payloads")
    .addOption(
      new Option("--exclude <path...>", "show everything but these parts of the payloads").conflicts("include"),
    )
    .option("--with-vectors", "return the vectors (with --output json)")
    .option("--explain", "tell how the answer came about: plans, counts and times of each stage and shard")
    .option("--trace", "print where the time went, from the client to the index")
    .addHelpText(
      "after",
      `
With --output json a search prints one document; --queries prints one line for each query.

Examples:
  kith search articles --id 42 --limit 5
  kith search articles --vector '[0.12, -0.5, 0.33]' --ef 200 --trace
  kith search films --vector '[0.1, 0.2]' --filter 'year > 1990' --group-by director --explain
  kith search films --query '{"query": {"recommend": {"positive": [7, 8], "strategy": "bestScore"}}}'
  kith search docs --text 'boundary layer' --hybrid
  kith search docs --sparse '{"indices": [7, 42], "values": [0.5, 1.2]}' --using words
  kith search docs --hybrid --text 'boundary layer' --vector @query.json --sparse @words.json
  kith search images --queries queries.fvecs -n 100 --output json > results.jsonl`,
    )
    .action(async (name: string, flags: SearchFlags, self: Command) => {
      const context = contextOf(io, self);
      checkSubject(flags);
      if (flags.queries !== undefined) {
        if (flags.trace) throw new UsageError("--trace shows one query; use it with --vector, --id or --query");
        if (flags.explain) throw new UsageError("--explain shows one query; use it with --vector, --id or --query");
        if (flags.groupBy !== undefined)
          throw new UsageError("--group-by takes one query; use it with --vector, --id or --query");
      }
      await withClient(context, async (client) => {
        if (flags.queries !== undefined) await searchFile(context, client, name, flags, flags.queries);
        else if (flags.groupBy !== undefined) await searchGroups(context, client, name, flags, flags.groupBy);
        else await searchOne(context, client, name, flags);
      });
    });
}

/** One thing to search for, or with --hybrid several that go together. */
function checkSubject({ vector, sparse, text, id, queries, query, hybrid, ...flags }: SearchFlags): void {
  if (flags.plain && text === undefined) throw new UsageError("--plain goes with --text");
  const parts = [text, vector, sparse].filter((value) => value !== undefined);
  const others = [id, queries, query].filter((value) => value !== undefined);
  if (hybrid) {
    if (others.length > 0) throw new UsageError("--hybrid takes --text, --vector and --sparse");
    if (parts.length < 2 && text === undefined) {
      throw new UsageError("--hybrid goes with --text, or with two of --text, --vector and --sparse");
    }
    return;
  }
  const hybridOnly = {
    ...{ fusion: flags.fusion, candidates: flags.candidates, weights: flags.weights },
    ...{ "text-weight": flags.textWeight, "sparse-field": flags.sparseField },
  };
  for (const [name, value] of Object.entries(hybridOnly)) {
    if (value !== undefined) throw new UsageError(`--${name} goes with --hybrid`);
  }
  if (parts.length > 1) {
    throw new UsageError("several of --text, --vector and --sparse together are a hybrid search; add --hybrid");
  }
  if (parts.length + others.length !== 1) {
    throw new UsageError("say what to search for with one of --vector, --sparse, --text, --id, --query and --queries");
  }
}

/** What holds whatever is searched for. */
type CommonInput = Omit<QueryInput, "query" | "prefetch" | "vector" | "sparse" | "point" | "lookup">;

function inputOf(flags: SearchFlags): CommonInput {
  const filter = parseFilterFlag(flags.filter);
  return {
    limit: flags.limit,
    withPayload: flags.withPayload,
    withVectors: flags.withVectors ?? false,
    consistency: flags.consistency,
    ...partitionOf(flags),
    ...(flags.using !== undefined && { using: flags.using }),
    ...(flags.ef !== undefined && { ef: flags.ef }),
    ...(flags.recallTarget !== undefined && { recallTarget: flags.recallTarget }),
    ...(flags.exact && { exact: true }),
    ...(flags.exactScores && { exactScores: true }),
    ...(flags.oversampling !== undefined && { oversampling: flags.oversampling }),
    ...(flags.rescore === false && { rescore: false }),
    ...(flags.scoreThreshold !== undefined && { scoreThreshold: flags.scoreThreshold }),
    ...((flags.highlight || flags.highlightText !== undefined) && {
      highlight: flags.highlightText === undefined ? true : { text: wordsOf(flags, flags.highlightText) },
    }),
    ...(flags.allowPartial && { allowPartial: true }),
    ...(flags.trace && { trace: true }),
    ...(flags.explain && { explain: true }),
    ...(flags.offset !== undefined && { offset: flags.offset }),
    ...(filter !== undefined && { filter }),
    ...(flags.withPayload && flags.include && { withPayload: { include: flags.include } }),
    ...(flags.withPayload && flags.exclude && { withPayload: { exclude: flags.exclude } }),
  };
}

function wordsOf(flags: SearchFlags, text: string): { text: string; plain?: boolean } {
  return { text, ...(flags.plain && { plain: true }) };
}

/** By words, vectors and sparse vectors at once. */
async function hybridOf(flags: SearchFlags, io: Io, collection: CollectionHandle<JsonObject>): Promise<QueryInput> {
  const { using, ...input } = inputOf(flags);
  const words = flags.text === undefined ? undefined : wordsOf(flags, flags.text);
  const textIndex = flags.textIndex ?? "";
  const asked: HybridInput = {
    ...input,
    ...(words && { text: words, textIndex }),
    ...(flags.vector !== undefined && { vector: await parseVector(flags.vector, io) }),
    ...(using !== undefined && { using }),
    ...(flags.fusion !== undefined && { fusion: flags.fusion }),
    ...(flags.textWeight !== undefined && { textWeight: flags.textWeight }),
    ...(flags.weights !== undefined && { weights: parseObject(flags.weights, "--weights") }),
    ...(flags.candidates !== undefined && { candidates: flags.candidates }),
  };
  if (flags.sparse !== undefined) {
    const field = flags.sparseField ?? (await onlySparse(collection, io, "--sparse-field"));
    asked.sparse = { [field]: await parseSparse(flags.sparse, io) };
  }
  if (words === undefined || asked.vector !== undefined || asked.sparse !== undefined) return hybridQuery(asked);
  const { points } = await collection.query({
    ...{ query: { text: words }, using: textIndex, limit: feedbackPoints, withPayload: false, signal: io.signal },
    ...(input.filter !== undefined && { filter: input.filter }),
  });
  if (points.length === 0) return { ...input, query: { text: words }, using: textIndex };
  return hybridQuery({ ...asked, like: points.map(({ id }) => id) });
}

/** The one query of the command line. */
async function queryOf(flags: SearchFlags, io: Io, collection: CollectionHandle<JsonObject>): Promise<QueryInput> {
  if (flags.hybrid) return hybridOf(flags, io, collection);
  if (flags.text !== undefined) {
    return { ...inputOf(flags), query: { text: wordsOf(flags, flags.text) }, using: flags.textIndex ?? "" };
  }
  const query: QueryInput = inputOf(flags);
  if (flags.vector !== undefined) query.vector = await parseVector(flags.vector, io);
  if (flags.sparse !== undefined) {
    query.sparse = await parseSparse(flags.sparse, io);
    query.using ??= await onlySparse(collection, io, "--using");
  }
  if (flags.id !== undefined) query.point = parseId(flags.id);
  return flags.query === undefined ? query : { ...query, ...(await parseQueryFlag(flags.query, io)) };
}

/** The sparse field that is meant where none is named. */
async function onlySparse(collection: CollectionHandle<JsonObject>, io: Io, flag: string): Promise<string> {
  const { sparse } = await collection.info({ signal: io.signal });
  const [only] = sparse;
  if (only !== undefined && sparse.length === 1) return only.name;
  const known = sparse.length === 0 ? "has none" : `has ${sparse.map(({ name }) => `"${name}"`).join(", ")}`;
  throw new UsageError(`name the sparse field with ${flag}; "${collection.name}" ${known}`);
}

async function searchGroups(
  context: CommandContext,
  client: KithClient,
  name: string,
  flags: SearchFlags,
  groupBy: string,
): Promise<void> {
  const { io, out } = context;
  const { offset, ...query } = await queryOf(flags, io, client.collection(name));
  if (offset !== undefined && offset !== 0) throw new UsageError("groups have no offset; leave out --offset");
  const { limit, groupSize } = flags;
  const found = await client.collection(name).queryGroups({ ...query, groupBy, limit, groupSize, signal: io.signal });
  if (out.json) {
    await out.document(found);
    return;
  }
  const rows = found.groups.flatMap(({ value, points }) =>
    points.map(({ id, score, payload, highlights }, rank): Cell[] => [
      rank === 0 ? out.cut(String(value), 60, 40) : "",
      rank + 1,
      showId(id),
      Number(score.toPrecision(6)),
      ...(isMarked(flags) ? [out.cut(marksOf(highlights), 80)] : []),
      ...(flags.withPayload ? [payload === undefined ? "" : out.cut(toJson(payload), 60)] : []),
    ]),
  );
  const head = ["GROUP", "RANK", "ID", "SCORE", ...columnsOf(flags)];
  if (rows.length > 0) await out.table(head, rows);
  const count = found.groups.length;
  await out.note(`${count} group${count === 1 ? "" : "s"} (server ${formatDuration(found.tookUs / 1000)})`);
  await noteMissing(context, found);
  await showSteps(context, found, flags);
}

/** What was asked to be told beside the results. */
async function showSteps(
  { io, out }: CommandContext,
  { trace, traceId, explain }: Pick<QueryResult, "trace" | "explain" | "traceId">,
  flags: SearchFlags,
): Promise<void> {
  if (explain !== undefined) await out.line(`\n${renderExplain(explain, (style, text) => out.paint(style, text))}`);
  if (flags.trace) await out.line(`\n${renderWaterfall(trace, { width: io.columns ?? 100, color: out.colour })}`);
  if (flags.trace && traceId !== undefined) await out.line(`trace id ${traceId}`);
}

async function searchOne(context: CommandContext, client: KithClient, name: string, flags: SearchFlags): Promise<void> {
  const { io, out } = context;
  const query = await queryOf(flags, io, client.collection(name));
  const startedMs = performance.now();
  const result = await client.collection(name).query({ ...query, signal: io.signal });
  const tookMs = performance.now() - startedMs;
  if (out.json) await out.document(documentOf(result, flags));
  else {
    if (result.points.length > 0) await out.table(...tableOf([result], flags, out));
    await out.note(
      `${result.points.length} result${result.points.length === 1 ? "" : "s"} in ${formatDuration(tookMs)} (server ${formatDuration(result.tookUs / 1000)})`,
    );
    await noteMissing(context, result);
    await showSteps(context, result, flags);
  }
}

function documentOf(result: QueryResult, flags: SearchFlags): object {
  return {
    points: result.points,
    tookUs: result.tookUs,
    ...(result.missing.length > 0 && { missing: result.missing }),
    ...(flags.trace && { traceId: result.traceId, trace: result.trace }),
    ...(result.explain && { explain: result.explain }),
  };
}

async function noteMissing({ out }: CommandContext, result: Pick<QueryResult, "missing">): Promise<void> {
  if (result.missing.length === 0) return;
  const slots = result.missing.map(({ first, last }) => `${first}..${last}`).join(", ");
  await out.note(out.paint("yellow", `partial: nothing came from the hash slots ${slots}`, "stderr"));
}

function isMarked({ highlight, highlightText }: SearchFlags): boolean {
  return highlight === true || highlightText !== undefined;
}

/** What stands behind the score. */
function columnsOf(flags: SearchFlags): string[] {
  return [...(isMarked(flags) ? ["HIGHLIGHTS"] : []), ...(flags.withPayload ? ["PAYLOAD"] : [])];
}

function marksOf(highlights: ScoredPoint["highlights"] = {}): string {
  return Object.entries(highlights)
    .map(([path, fragments]) => `${path}: ${fragments.join(" ... ")}`)
    .join("; ");
}

function tableOf(results: QueryResult[], flags: SearchFlags, out: Output, firstQuery?: number): [string[], Cell[][]] {
  const many = firstQuery !== undefined;
  const head = [...(many ? ["QUERY"] : []), "RANK", "ID", "SCORE", ...columnsOf(flags)];
  const rows = results.flatMap((result, index) =>
    result.points.map((point, rank) => [
      ...(many ? [firstQuery + index] : []),
      rank + 1,
      showId(point.id),
      Number(point.score.toPrecision(6)),
      ...(isMarked(flags) ? [out.cut(marksOf(point.highlights), 80)] : []),
      ...(flags.withPayload ? [point.payload === undefined ? "" : out.cut(toJson(point.payload), 40)] : []),
    ]),
  );
  return [head, rows];
}

async function searchFile(
  context: CommandContext,
  client: KithClient,
  name: string,
  flags: SearchFlags,
  file: string,
): Promise<void> {
  const { io, out } = context;
  const dataset = await openDataset(file === "-" ? io.stdin : resolve(io.cwd, file), flags.format, {
    batchRows: batchQueries,
    vectorField: flags.vectorField,
    signal: io.signal,
    ...(file !== "-" && { name: file }),
  });
  const collection = client.collection<JsonObject>(name);
  let count = 0;
  let failed = 0;
  let serverUs = 0;
  const startedMs = performance.now();
  for await (const batch of dataset.batches()) {
    const column = batch.columns.find((each) => each.name === (flags.using ?? "")) ?? batch.columns[0];
    if (column === undefined) throw new KithError("INVALID_ARGUMENT", `${dataset.name} has rows without a vector`);
    const queries = Array.from({ length: batch.rowCount }, (_, row) => ({
      ...inputOf(flags),
      vector: valueAt(column, row),
    }));
    const items = await collection.queryBatch(queries, { signal: io.signal });
    for (const [index, item] of items.entries()) {
      if (item.ok) serverUs += item.result.tookUs;
      else failed++;
      await showItem(context, flags, count + index, item);
    }
    count += items.length;
  }
  const tookMs = performance.now() - startedMs;
  const rate = count === 0 ? 0 : Math.round(count / (tookMs / 1000));
  await out.note(
    `${count} queries in ${formatDuration(tookMs)} (${rate}/s, server ${formatDuration(serverUs / 1000 / Math.max(1, count))} each)` +
      (failed === 0 ? "" : `; ${failed} failed`),
  );
  if (failed > 0) throw new ExitError(exitCode.failure);
}

async function showItem(
  context: CommandContext,
  flags: SearchFlags,
  query: number,
  item: QueryBatchItem<JsonObject>,
): Promise<void> {
  const { out } = context;
  if (!item.ok) {
    const { code, message } = item.error;
    if (out.json) await out.record({ query, error: { code, message } });
    else await out.note(`query ${query}: ${message} [${code}]`);
    return;
  }
  if (out.json) await out.record({ query, ...documentOf(item.result, flags) });
  else {
    const [head, rows] = tableOf([item.result], flags, out, query);
    await out.table(head, rows);
    await noteMissing(context, item.result);
  }
}
