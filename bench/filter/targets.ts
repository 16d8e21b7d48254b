import { KithError } from "../../libs/base/index.js";
import { parseFilter } from "../../libs/filter/index.js";
import { filterToWire, pb } from "../../libs/wire/index.js";
import type { Api } from "../lib/api.js";
import { bulkLoad } from "../lib/bulk-load.js";
import { type BenchData, type DataOptions, loadData, type Matrix } from "../lib/data.js";
import { EventLoopDelayWatch } from "../lib/prometheus.js";
import { interleaved, spreadOf } from "../lib/repeat.js";
import { describeMachine, writeResult } from "../lib/result.js";
import type { Session } from "../lib/session.js";
import { formatNumber, formatTable } from "../lib/table.js";
import { http2StreamDriver } from "../load/http2-drivers.js";
import { runLoad } from "../load/loop.js";
import { queryRequest } from "../load/requests.js";
import { indexedFields, Payloads } from "./payloads.js";
import { filteredQueries, measureRates, resultsWanted } from "./rates.js";

export const phases = ["ingest", "rates", "facet", "scroll", "delete"] as const;
export type Phase = (typeof phases)[number];

export interface TargetFlags {
  phases: Phase[];
  rounds: number;
  duration: number;
  concurrency: number;
  ef: number;
  existing?: boolean;
  keep?: boolean;
  json?: string;
}

/** A figure beside what it should be. */
interface Row {
  what: string;
  figure: string;
  wanted: string;
  reached: boolean;
}

const collections = { indexed: "bench-indexed", plain: "bench-plain" };

/** Everything works on the same points, in one run. */
export async function measureTargets(session: Session, flags: TargetFlags & DataOptions): Promise<void> {
  const data = await loadData(flags);
  const { base } = data;
  if (base === undefined) throw new KithError("INVALID_ARGUMENT", "there is nothing to load: name --base or --seeded");
  const payloads = new Payloads(base, flags.seed);
  console.log(`machine: ${describeMachine()}\nserver:  ${session.description}\ndata:    ${data.description}`);
  const run = new TargetRun(session, flags, data, base, payloads);
  if (flags.existing !== true) await run.load();
  if (flags.phases.includes("rates")) await run.rates();
  if (flags.phases.includes("facet")) await run.facets();
  if (flags.phases.includes("scroll")) await run.scroll();
  if (flags.phases.includes("delete")) await run.delete();
  if (flags.existing !== true && flags.keep !== true)
    for (const name of Object.values(collections)) await session.api.drop(name);
  const columns = [
    { title: "what", align: "left" },
    { title: "figure" },
    { title: "wanted" },
    { title: "reached" },
  ] as const;
  const cells = run.rows.map(({ what, figure, wanted, reached }) => [what, figure, wanted, reached ? "yes" : "NO"]);
  console.log(`\n${formatTable([...columns], cells)}`);
  const settings = { server: session.description, data: { description: data.description, seed: data.seed } };
  console.log(
    `\n${writeResult("filter", { ...settings, settings: flags, rows: run.rows, details: run.details }, flags.json)}`,
  );
}

class TargetRun {
  readonly rows: Row[] = [];
  readonly details: Record<string, unknown> = {};
  readonly #session: Session;
  readonly #flags: TargetFlags;
  readonly #data: BenchData;
  readonly #base: Matrix;
  readonly #payloads: Payloads;

  constructor(session: Session, flags: TargetFlags, data: BenchData, base: Matrix, payloads: Payloads) {
    this.#session = session;
    this.#flags = flags;
    this.#data = data;
    this.#base = base;
    this.#payloads = payloads;
  }

  #add(what: string, figure: string, wanted: string, reached: boolean): void {
    this.rows.push({ what, figure, wanted, reached });
    console.log(`${what}: ${figure} (wanted: ${wanted})`);
  }

  /** Fills both collections, in turns where the rate is to be measured. */
  async load(): Promise<void> {
    const { api } = this.#session;
    const rounds = this.#flags.phases.includes("ingest") ? this.#flags.rounds : 1;
    const kinds = [collections.plain, collections.indexed];
    const rates = await interleaved(kinds, rounds, async (name) => {
      await create(api, name, this.#base.dimension, name === collections.indexed);
      const { pointsPerSecond } = await this.#fill(name, 0);
      await api.waitIndexed(name);
      return pointsPerSecond;
    });
    if (!this.#flags.phases.includes("ingest")) return;
    const ratios = (rates[1] as number[]).map((rate, round) => rate / (rates[0]?.[round] as number));
    this.details["ingest"] = { plain: rates[0], indexed: rates[1] };
    const ratio = spreadOf(ratios).median;
    const figure = `${percent(ratio)} (${formatNumber(spreadOf(rates[1] as number[]).median)} points/s)`;
    this.#add("bulk upsert with 5 payload indexes, of the rate without", figure, ">= 60 %", ratio >= 0.6);
  }

  #fill(name: string, firstId: number): ReturnType<typeof bulkLoad> {
    const { api } = this.#session;
    const payloadAt = (row: number): Uint8Array => this.#payloads.at(row);
    return bulkLoad(api, {
      collection: name,
      vectors: this.#base,
      firstId,
      ack: "applied",
      batchPoints: 500,
      inFlight: 8,
      payloadBytes: 0,
      payloadAt,
    });
  }

  async rates(): Promise<void> {
    const { rounds, ef, concurrency, duration: durationMs } = this.#flags;
    const { queries } = this.#data;
    const all = filteredQueries(this.#payloads, queries, collections);
    const options = { base: this.#base, queries, ef, concurrency, durationMs, rounds };
    const results = await measureRates(this.#session, all, options);
    this.details["rates"] = results;
    const [bare, plain, ...filtered] = results;
    if (bare === undefined || plain === undefined) return;
    const ratio = (of: typeof plain, to: typeof plain): number =>
      spreadOf(of.queriesPerSecond.map((rate, round) => rate / (to.queriesPerSecond[round] as number))).median;
    const figureOf = (result: typeof plain, share: number): string => {
      const rate = `${formatNumber(result.medianQueriesPerSecond)} q/s`;
      const cpu = `${formatNumber(spreadOf(result.cpuUsPerQuery).median)} us of CPU`;
      return `${percent(share)} (${rate}, ${cpu}), recall ${result.recall.toFixed(4)}`;
    };
    const loss = ratio(plain, bare);
    const unfiltered = figureOf(plain, loss);
    this.#add("unfiltered with 5 indexes, of the rate without indexes", unfiltered, ">= 97 %", loss >= 0.97);
    for (const result of filtered) {
      const least = { "50 %": 0.6, "10 %": 0.6, "1 %": 1, "0.1 %": 1 }[result.name] ?? 0.4;
      const share = ratio(result, plain);
      const figure = figureOf(result, share);
      const wanted = `>= ${percent(least)}, recall >= 0.95`;
      this.#add(
        `filter ${result.name}, of the unfiltered rate`,
        figure,
        wanted,
        share >= least && result.recall >= 0.95,
      );
    }
  }

  /** Wall time of the whole call, each with a filter that is asked for the first time. */
  async facets(): Promise<void> {
    const { api } = this.#session;
    const times: number[] = [];
    for (let i = 0; i < 40; i++) {
      const from = 100 * i;
      const filter = filterToWire(parseFilter(`share >= ${from} and share < ${from + 1_000}`));
      const request = pb.FacetRequest.fromPartial({ collection: collections.indexed, key: "genre", filter, limit: 10 });
      const startMs = performance.now();
      const { hits } = await api.facet(request);
      times.push(performance.now() - startMs);
      if (hits.length !== 10) throw new KithError("INTERNAL", `the facet has ${hits.length} values`);
    }
    // The first ones are of a server that never made one.
    const { median, max } = spreadOf(times.slice(10));
    this.details["facet"] = times;
    const figure = `${median.toFixed(2)} ms (at most ${max.toFixed(2)})`;
    this.#add("facet over all points with a new filter of 10 %", figure, "<= 5 ms", median <= 5);
  }

  async scroll(): Promise<void> {
    const { api } = this.#session;
    const rates: number[] = [];
    for (let round = 0; round < this.#flags.rounds; round++) {
      const startMs = performance.now();
      let points = 0;
      let cursor: Uint8Array = new Uint8Array(0);
      do {
        const orderBy = { key: "rating", direction: pb.Direction.ASCENDING };
        const request = pb.ScrollRequest.fromPartial({
          collection: collections.indexed,
          limit: 1_000,
          cursor,
          orderBy,
        });
        const page = await api.scroll(request);
        points += page.points.length;
        cursor = page.nextCursor;
      } while (cursor.length > 0);
      if (points !== this.#base.rowCount) throw new KithError("INTERNAL", `the scroll has ${points} points`);
      rates.push(points / ((performance.now() - startMs) / 1000));
    }
    this.details["scroll"] = rates;
    const { median } = spreadOf(rates);
    this.#add("scroll in the order of an index, points/s", formatNumber(median), ">= 50,000", median >= 50_000);
  }

  /** As many points again are deleted by a filter while searches go on. */
  async delete(): Promise<void> {
    const { api, target, metricsUrl } = this.#session;
    const name = collections.indexed;
    const { rowCount } = this.#base;
    await this.#fill(name, rowCount);
    await api.waitIndexed(name);
    // Twice as many points have every value by now.
    const filter = filterToWire(parseFilter("share < 5000"));
    const shape = { collection: name, ef: this.#flags.ef, limit: resultsWanted, withPayload: false };
    const requests = Array.from({ length: this.#data.queries.rowCount }, (_, query) => {
      const vector = this.#data.queries.values.slice(query * this.#base.dimension, (query + 1) * this.#base.dimension);
      return Buffer.from(pb.QueryRequest.encode(queryRequest(shape, vector)).finish());
    });
    const delay = new EventLoopDelayWatch(metricsUrl);
    let deleting: Promise<{ deleted: number; seconds: number }> | undefined;
    const remove = async (): Promise<{ deleted: number; seconds: number }> => {
      const startMs = performance.now();
      const request = {
        collection: name,
        filter,
        options: { ack: pb.Ack.APPLIED, idempotencyKey: `delete-${Math.random()}` },
      };
      const { deleted } = await api.delete(pb.DeletePointsRequest.fromPartial(request));
      return { deleted, seconds: (performance.now() - startMs) / 1000 };
    };
    const sample = await runLoad({
      plan: { kind: "closed", concurrency: 4 },
      warmupMs: 500,
      durationMs: 4_000,
      queryCount: requests.length,
      open: (onDone) => http2StreamDriver({ target, connections: 1, requests, onDone }),
      onWindow: (edge) => {
        if (edge === "start") {
          delay.start();
          deleting = remove();
        }
      },
    });
    if (deleting === undefined) throw new KithError("INTERNAL", "nothing was deleted");
    const { deleted, seconds } = await deleting;
    const { p99Ms, failure } = await delay.stop();
    this.details["delete"] = { deleted, seconds, p99Ms, failure, queriesPerSecond: sample.queriesPerSecond };
    const about = `${formatNumber(deleted)} points, ${formatNumber(sample.queriesPerSecond)} q/s meanwhile`;
    this.#add("delete by filter while searches go on", `${seconds.toFixed(2)} s (${about})`, "<= 3 s", seconds <= 3);
    const loop = p99Ms === undefined ? (failure ?? "not known") : `${p99Ms.toFixed(1)} ms`;
    this.#add("delay of the event loop meanwhile, p99", loop, "<= 10 ms", (p99Ms ?? Infinity) <= 10);
  }
}

async function create(api: Api, name: string, dimension: number, isIndexed: boolean): Promise<void> {
  if (await api.exists(name)) await api.drop(name);
  await api.create(
    pb.CreateCollectionRequest.fromPartial({
      name,
      shardCount: 1,
      replicationFactor: 1,
      vectors: [{ dimension, metric: pb.Metric.L2, datatype: pb.Datatype.F32 }],
    }),
  );
  if (!isIndexed) return;
  for (const [path, kind] of indexedFields) {
    const request = { collection: name, index: { path, kind }, wait: true };
    await api.createPayloadIndex(pb.CreatePayloadIndexRequest.fromPartial(request));
  }
}

function percent(share: number): string {
  return `${(share * 100).toFixed(share < 0.995 && share * 100 !== Math.round(share * 100) ? 1 : 0)} %`;
}
