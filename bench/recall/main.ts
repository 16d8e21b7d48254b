import { Command, Option } from "commander";
import { createIndex, type VectorIndex } from "../../libs/ann/index.js";
import { KithError, SeededRandom, systemClock } from "../../libs/base/index.js";
import { RecallKeeper } from "../../libs/engine/index.js";
import type { Filter } from "../../libs/model/index.js";
import { loadData, type Matrix, type MetricName } from "../lib/data.js";
import { type DataFlags, dataOptions, listOf, runMain, whole } from "../lib/options.js";
import { describeMachine, writeResult } from "../lib/result.js";
import { formatNumber, formatTable } from "../lib/table.js";

interface Flags extends DataFlags {
  metric: MetricName;
  m: number;
  k: number;
  targets: number[];
  json?: string;
}

const command = dataOptions(
  new Command("bench:recall").description(
    "recall targets: what is found with the beam widths that are chosen for them, without filters, with those of 10 and 1 %, and after the data have changed",
  ),
)
  .addOption(new Option("--metric <metric>", "distance").choices(["l2", "cosine", "dot"]).default("l2"))
  .option("--m <n>", "links per node of the graph", whole(2, 128), 16)
  .option("--k <n>", "results of a search", whole(1, 1000), 10)
  .option("--targets <list>", "recalls that are asked for", listOf(Number), [0.95, 0.99])
  .option("--json <file>", "where the result goes; default: a new file in bench/results")
  .action(main);

/** Queries that are measured meanwhile, and then those whose recall is told. */
const learning = 150;
const judged = 400;

interface Row {
  target: number;
  phase: string;
  recall: number;
  ef: number;
  /** What the keeper says of it. */
  said: number;
  margin: number;
  samples: number;
}

async function main(flags: Flags): Promise<void> {
  const { base, queries, description } = await loadData(flags);
  if (base === undefined) throw new KithError("INVALID_ARGUMENT", "name the vectors to index: --base, or --seeded");
  const rows: Row[] = [];
  for (const target of flags.targets) rows.push(...(await run(flags, base, queries, target)));
  const shown = rows.map(({ target, phase, recall, ef, said, margin, samples }) => [
    target.toString(),
    phase,
    recall.toFixed(4),
    formatNumber(ef),
    `${said.toFixed(4)} ± ${margin.toFixed(4)}`,
    samples.toString(),
  ]);
  const titles = ["target", "searches", "recall", "mean ef", "measured", "samples"];
  process.stdout.write(
    `${description}\n\n${formatTable(
      titles.map((title) => ({ title })),
      shown,
    )}\n`,
  );
  const { metric, m, k } = flags;
  writeResult("recall", { machine: describeMachine(), data: description, metric, m, k, rows }, flags.json);
}

async function run({ metric, m, k }: Flags, base: Matrix, queries: Matrix, target: number): Promise<Row[]> {
  const { dimension, rowCount } = base;
  const index = createIndex({ dimension, metric, datatype: "f32", m, efConstruction: 128, graphThreshold: 1000 });
  // Half of the rows come later, and they are others: the values of the data in the opposite order.
  const half = Math.floor(rowCount / 2);
  let count = half;
  await index.add(slots(0, half), base.values.subarray(0, half * dimension));
  await index.flush();
  const random = new SeededRandom(5);
  const masks = new Map<Filter, Uint8Array>();
  const stop = new AbortController();
  const keeper = new RecallKeeper({
    clock: systemClock,
    indexOf: () => ({ search: (query, how) => index.search(query, how), rowCount: count }),
    maskOf: (filter) => Promise.resolve(masks.get(filter) as Uint8Array),
    onError: (error) => process.stderr.write(`${String(error)}\n`),
    onUnheld: (message) => process.stderr.write(`${message}\n`),
    signal: stop.signal,
  });
  const phase = async (name: string, share: number, isTurned = false): Promise<Row> => {
    const filter: Filter | undefined = share === 1 ? undefined : { must: [], should: [], mustNot: [] };
    const allowed = { count, of: count };
    const mask = new Uint8Array(Math.ceil(rowCount / 8));
    if (filter !== undefined) {
      allowed.count = 0;
      for (let slot = 0; slot < count; slot++) {
        if (random.float() >= share) continue;
        mask[slot >> 3] = (mask[slot >> 3] as number) | (1 << (slot & 7));
        allowed.count++;
      }
      masks.set(filter, mask);
    }
    const scope = { k, ...(filter !== undefined && { filter: mask }) };
    let recall = 0;
    let widths = 0;
    for (let i = 0; i < learning + judged; i++) {
      const at = random.below(queries.rowCount) * dimension;
      const query = queries.values.slice(at, at + dimension);
      if (isTurned) query.reverse();
      const { ef } = keeper.choose({ field: "", query, k, filter, allowed, target });
      if (i < learning) {
        if (i % 4 === 3) await keeper.settled();
        continue;
      }
      recall += await recallAt(index, query, ef, scope);
      widths += ef;
    }
    await keeper.settled();
    const known = keeper.status().find((each) => each.share === (share === 1 ? 1 : share > 0.05 ? 0.3 : 0.03));
    const near = keeper.status().filter((each) => each.share >= share);
    const { recall: said, margin, samples } = known ?? near.at(-1) ?? { recall: 0, margin: 1, samples: 0 };
    return { target, phase: name, recall: recall / judged, ef: widths / judged, said, margin, samples };
  };
  try {
    const rows = [
      await phase("all points", 1),
      await phase("filters of 10 %", 0.1),
      await phase("filters of 1 %", 0.01),
    ];
    const later = base.values.slice(half * dimension);
    for (let row = 0; row < rowCount - half; row++) later.subarray(row * dimension, (row + 1) * dimension).reverse();
    await index.add(slots(half, rowCount), later);
    await index.flush();
    count = rowCount;
    rows.push(await phase("other rows and queries", 1, true));
    return rows;
  } finally {
    stop.abort(new KithError("SHUTTING_DOWN", "the benchmark ends"));
    await index.close();
  }
}

function slots(from: number, to: number): Uint32Array {
  return Uint32Array.from({ length: to - from }, (_, i) => from + i);
}

async function recallAt(
  index: VectorIndex,
  query: Float32Array,
  ef: number,
  scope: { k: number; filter?: Uint8Array },
): Promise<number> {
  const { slots: found } = await index.search(query, { ...scope, ef });
  const { slots: nearest } = await index.search(query, { ...scope, ef: 1, exact: true });
  const wanted = new Set(nearest);
  return wanted.size === 0 ? 1 : found.filter((slot) => wanted.has(slot)).length / wanted.size;
}

await runMain(command);
