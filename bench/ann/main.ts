import { tmpdir } from "node:os";
import { Command, Option } from "commander";
import { configurePool, createIndex, nativeInfo, type IndexOptions, type VectorIndex } from "../../libs/ann/index.js";
import { KithError } from "../../libs/base/index.js";
import { loadData, truthOf, type BenchData, type MetricName } from "../lib/data.js";
import { dataOptions, listOf, oneOf, runMain, whole, type DataFlags } from "../lib/options.js";
import { describeMachine, writeResult } from "../lib/result.js";
import { formatNumber, formatTable } from "../lib/table.js";
import { measureAgainst } from "./against.js";
import { measureBuild } from "./build.js";
import { measureCrossing } from "./crossing.js";
import { measureSearch, type SearchReport } from "./search.js";

interface Flags extends DataFlags {
  metric: MetricName;
  datatype: IndexOptions["datatype"];
  m: number;
  efConstruction: number;
  ef: number[];
  k: number;
  threads: number;
  inFlight: number;
  rounds: number;
  originals?: boolean;
  against?: IndexOptions["datatype"][];
  crossing?: boolean;
  json?: string;
}

const datatypes = ["f32", "f16", "bf16", "i8", "i4", "pq16", "pq32", "binary", "pq64"] as const;

const command = dataOptions(
  new Command("bench:ann").description(
    "the native index: searches from JavaScript against the same loop in plain C++, build rate, recall, memory",
  ),
)
  .addOption(new Option("--metric <metric>", "distance").choices(["l2", "cosine", "dot"]).default("l2"))
  .addOption(new Option("--datatype <type>", "how vectors are kept").choices(datatypes).default("f32"))
  .option(
    "--against <types>",
    "instead of the loops: other datatypes, which keep the vectors as they were given too, in turns with --datatype",
    listOf(oneOf(datatypes)),
  )
  .option("--originals", "keep the vectors as they were given in a file, and score by them")
  .option("--m <n>", "links per node of the graph", whole(2, 128), 16)
  .option("--ef-construction <n>", "beam width of the build", whole(4, 4096), 128)
  .option("--ef <list>", "beam widths of the searches", listOf(whole(1, 10_000)), [64, 128])
  .option("--k <n>", "results of a search, and k of recall@k", whole(1, 1000), 10)
  .option("--threads <n>", "search threads of the pool; the C++ loops always use one", whole(1, 256), 1)
  .option("--in-flight <n>", "searches in flight from JavaScript", whole(1, 10_000), 64)
  .option("--rounds <n>", "repetitions, the variants taking turns", whole(1, 100), 7)
  .option("--crossing", "also find the number of rows from which the graph is faster than a scan")
  .option("--json <file>", "where the result goes; default: a new file in bench/results")
  .action(main);

async function main(flags: Flags): Promise<void> {
  if (flags.base === undefined && flags.seeded === undefined) flags.seeded = "100000x128";
  configurePool({ threads: flags.threads });
  const data = await loadData(flags);
  const { base } = data;
  if (base === undefined) throw new KithError("INVALID_ARGUMENT", "name the vectors to index: --base, or --seeded");
  const options: IndexOptions = {
    dimension: base.dimension,
    metric: flags.metric,
    datatype: flags.datatype,
    m: flags.m,
    efConstruction: flags.efConstruction,
    graphThreshold: 1,
    ...(flags.originals === true && { givenFolder: tmpdir() }),
  };
  const info = nativeInfo();
  console.log(`${describeMachine()}, ${info.simd}, huge pages ${info.hugePages ? "yes" : "no"}`);
  console.log(
    `${data.description}; ${flags.metric}, ${flags.datatype}, M ${flags.m}, efConstruction ${flags.efConstruction}`,
  );
  if (flags.against !== undefined) {
    const { text, reports } = await measureAgainst(options, [flags.datatype, ...flags.against], base, data, {
      ...flags,
      efs: flags.ef,
    });
    console.log(text);
    const against = { flags, data: data.description, info, reports };
    console.log(`written to ${writeResult("ann", against, flags.json)}`);
    return;
  }
  const index = createIndex(options);
  const build = await measureBuild(index, base);
  console.log(
    `build: ${formatNumber(build.vectorsPerSecond)} vectors/s with one writer thread; ` +
      `memory ${build.ratioToRaw.toFixed(3)} × raw by count, ${build.ratioOfResident.toFixed(3)} × raw by resident set`,
  );
  const search = await searchAll(index, data, flags);
  console.log(table(search, flags));
  const crossing = flags.crossing === true ? await measureCrossing(options, base, data.queries, flags) : undefined;
  if (crossing !== undefined) console.log(crossing.text);
  await index.close();
  const path = writeResult(
    "ann",
    { flags, data: data.description, info, build, search, crossing: crossing?.points },
    flags.json,
  );
  console.log(`written to ${path}`);
}

async function searchAll(index: VectorIndex, data: BenchData, flags: Flags): Promise<SearchReport[]> {
  const truth = await truthOf(data, flags.metric, flags.k);
  const reports: SearchReport[] = [];
  for (const ef of flags.ef) {
    reports.push(...(await measureSearch(index, data, truth, { ...flags, ef })));
  }
  return reports;
}

function table(reports: readonly SearchReport[], flags: Flags): string {
  const share = (value: number | undefined): string => (value === undefined ? "" : `${(100 * value).toFixed(1)} %`);
  return formatTable(
    [
      { title: "search", align: "left" },
      { title: "ef" },
      { title: "threads" },
      { title: `recall@${flags.k}` },
      { title: "queries/s median" },
      { title: "min" },
      { title: "max" },
      { title: "of the C++ loop" },
      { title: "loop delay p99 ms" },
    ],
    reports.map((report) => [
      report.name,
      String(report.ef),
      String(report.threads),
      report.recall?.toFixed(4) ?? "-",
      formatNumber(report.queriesPerSecond.median),
      formatNumber(report.queriesPerSecond.min),
      formatNumber(report.queriesPerSecond.max),
      share(report.shareOfLoop),
      report.loopDelayP99Ms?.toFixed(1) ?? "",
    ]),
  );
}

await runMain(command);
