import { type Filter } from "../../libs/model/index.js";
import { parseFilter } from "../../libs/filter/index.js";
import { exactNeighbours } from "../../libs/datasets/index.js";
import { filterToWire, pb } from "../../libs/wire/index.js";
import type { Api } from "../lib/api.js";
import { distance, type Matrix, rowOf } from "../lib/data.js";
import { interleaved, spreadOf } from "../lib/repeat.js";
import { ProcessWatch } from "../lib/process-stats.js";
import type { Session } from "../lib/session.js";
import { http2StreamDriver } from "../load/http2-drivers.js";
import { runLoad } from "../load/loop.js";
import type { Payloads } from "./payloads.js";

export const resultsWanted = 10;
/** Rounding of sums of f32 in another order. */
const tieTolerance = 1e-6;

/** Queries with a filter of their own each. */
export interface FilteredQueries {
  name: string;
  collection: string;
  /** Of a query: its filter, and whether a row passes it. */
  filterOf: (query: number) => { text: string; passes: (row: number) => boolean } | undefined;
}

export interface RateOptions {
  base: Matrix;
  queries: Matrix;
  ef: number;
  concurrency: number;
  durationMs: number;
  rounds: number;
}

export interface RateResult {
  name: string;
  collection: string;
  recall: number;
  /** By round. */
  queriesPerSecond: number[];
  medianQueriesPerSecond: number;
  /** CPU of server and client together, microseconds a query, by round: steadier than rates where the machine has other work. */
  cpuUsPerQuery: number[];
}

/** Without a filter, with filters that let through rows by chance, and with one that lets through what is far from the query. */
export function filteredQueries(
  payloads: Payloads,
  queries: Matrix,
  collections: { indexed: string; plain: string },
): FilteredQueries[] {
  const collection = collections.indexed;
  const far = Array.from({ length: queries.rowCount }, (_, query) => payloads.farthestRegion(rowOf(queries, query)));
  const share = (percent: number): FilteredQueries => {
    const below = percent * 100;
    const filter = { text: `share < ${below}`, passes: (row: number) => (payloads.shares[row] as number) < below };
    return { name: `${percent} %`, collection, filterOf: () => filter };
  };
  return [
    { name: "no filter, no indexes", collection: collections.plain, filterOf: () => undefined },
    { name: "no filter", collection, filterOf: () => undefined },
    ...[50, 10, 1, 0.1].map(share),
    {
      name: "far",
      collection,
      filterOf: (query) => ({
        text: `region = "region ${far[query]}"`,
        passes: (row) => payloads.regions[row] === far[query],
      }),
    },
  ];
}

/** Recall of all, then their rates in turns. */
export async function measureRates(
  session: Session,
  all: readonly FilteredQueries[],
  options: RateOptions,
): Promise<RateResult[]> {
  const recalls: number[] = [];
  for (const queries of all) recalls.push(await measureRecall(session.api, queries, options));
  const encoded = all.map((queries) =>
    Array.from({ length: options.queries.rowCount }, (_, query) =>
      Buffer.from(pb.QueryRequest.encode(requestOf(queries, query, options)).finish()),
    ),
  );
  const { rounds, concurrency, durationMs } = options;
  const samples = await interleaved(encoded, rounds, async (requests) => {
    const watch = new ProcessWatch([process.pid, ...session.pids()]);
    let cpuSeconds = 0;
    const sample = await runLoad({
      plan: { kind: "closed", concurrency },
      warmupMs: Math.min(500, durationMs / 4),
      durationMs,
      queryCount: requests.length,
      open: (onDone) => http2StreamDriver({ target: session.target, connections: 1, requests, onDone }),
      onWindow: (edge) => {
        if (edge === "start") watch.start();
        else cpuSeconds = watch.stop()?.cpuSeconds ?? 0;
      },
    });
    const errors = Object.entries(sample.errors);
    if (errors.length > 0) throw new Error(`queries failed: ${JSON.stringify(errors)}`);
    const { queriesPerSecond, windowSeconds } = sample;
    return { queriesPerSecond, cpuUs: (cpuSeconds * 1e6) / (queriesPerSecond * windowSeconds) };
  });
  return all.map(({ name, collection }, i) => {
    const own = samples[i] ?? [];
    const queriesPerSecond = own.map((sample) => sample.queriesPerSecond);
    return {
      name,
      collection,
      recall: recalls[i] as number,
      queriesPerSecond,
      medianQueriesPerSecond: spreadOf(queriesPerSecond).median,
      cpuUsPerQuery: own.map(({ cpuUs }) => cpuUs),
    };
  });
}

const parsed = new Map<string, Filter>();

function requestOf(
  { collection, filterOf }: FilteredQueries,
  query: number,
  { queries, ef }: RateOptions,
): pb.QueryRequest {
  const text = filterOf(query)?.text;
  let filter = text === undefined ? undefined : parsed.get(text);
  if (text !== undefined && filter === undefined) parsed.set(text, (filter = parseFilter(text)));
  return pb.QueryRequest.fromPartial({
    collection,
    vector: Float32Array.from(rowOf(queries, query)),
    limit: resultsWanted,
    ef,
    ...(filter && { filter: filterToWire(filter) }),
  });
}

/** The share of the true nearest rows that pass which the queries find; one as near as the last of them counts too. */
async function measureRecall(api: Api, queries: FilteredQueries, options: RateOptions): Promise<number> {
  const { base, queries: vectors } = options;
  // Queries with the same filter have the same rows to choose from.
  const groups = new Map<string, number[]>();
  for (let query = 0; query < vectors.rowCount; query++) {
    const text = queries.filterOf(query)?.text ?? "";
    const group = groups.get(text);
    if (group === undefined) groups.set(text, [query]);
    else group.push(query);
  }
  let found = 0;
  let wanted = 0;
  for (const group of groups.values()) {
    const passes = queries.filterOf(group[0] as number)?.passes;
    const rows = Array.from({ length: base.rowCount }, (_, row) => row).filter((row) => passes?.(row) ?? true);
    const matrix = select(base, rows);
    const asked = select(vectors, group);
    const k = Math.min(resultsWanted, rows.length);
    const truth = exactNeighbours({
      points: matrix.values,
      queries: asked.values,
      dimension: base.dimension,
      k,
      metric: "l2",
    });
    for (const [i, query] of group.entries()) {
      const { points } = await api.query(requestOf(queries, query, options));
      const last = rows[truth.ids[i * k + k - 1] as number] as number;
      const vector = rowOf(vectors, query);
      const limit = distance("l2", vector, rowOf(base, last)) * (1 + tieTolerance);
      const ids = new Set(points.map(({ id }) => (id?.id?.$case === "num" ? Number(id.id.value) : -1)));
      wanted += k;
      for (const row of ids) {
        if (row >= 0 && (passes?.(row) ?? true) && distance("l2", vector, rowOf(base, row)) <= limit) found++;
      }
    }
  }
  return found / wanted;
}

function select(matrix: Matrix, rows: readonly number[]): Matrix {
  const values = new Float32Array(rows.length * matrix.dimension);
  for (const [i, row] of rows.entries()) values.set(rowOf(matrix, row), i * matrix.dimension);
  return { dimension: matrix.dimension, rowCount: rows.length, values };
}
