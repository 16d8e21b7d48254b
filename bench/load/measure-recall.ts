import type { GroundTruth } from "../../libs/datasets/index.js";
import type { pb } from "../../libs/wire/index.js";
import type { Api } from "../lib/api.js";
import { type BenchData, type MetricName, rowOf, truthOf } from "../lib/data.js";
import { recallWithTies } from "../lib/recall.js";
import { queryRequest, type QueryShape } from "./requests.js";

const concurrency = 16;

/** The rows that each query finds. The id of a point is its row; a point with another kind of id is never a hit. */
async function findAll(api: Api, data: BenchData, shape: QueryShape, exact: boolean): Promise<number[][]> {
  const found: number[][] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < data.queries.rowCount) {
      const query = next++;
      const response = await api.query(queryRequest(shape, Float32Array.from(rowOf(data.queries, query)), exact));
      found[query] = response.points.map(rowOfPoint);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  return found;
}

function rowOfPoint({ id }: pb.ScoredPoint): number {
  return id?.id?.$case === "num" ? Number(id.id.value) : -1;
}

export interface Truth {
  neighbours: GroundTruth;
  source: "file" | "computed" | "exact search of the server";
}

/** The true neighbours: from the file, by comparing all here, or (without the base) by exact search on the server. */
export async function findTruth(api: Api, data: BenchData, metric: MetricName, shape: QueryShape): Promise<Truth> {
  const known = await truthOf(data, metric, shape.limit);
  if (known !== undefined) return { neighbours: known, source: data.truthPath === undefined ? "computed" : "file" };
  const found = await findAll(api, data, { ...shape, withPayload: false }, true);
  const k = Math.min(shape.limit, ...found.map((rows) => rows.length));
  const ids = new Int32Array(found.length * k);
  found.forEach((rows, query) => ids.set(rows.slice(0, k), query * k));
  return { neighbours: { queryCount: found.length, k, ids }, source: "exact search of the server" };
}

/** Recall@limit of the queries with the given beam width: a pass of its own, answers fully decoded. */
export async function measureRecall(
  api: Api,
  data: BenchData,
  metric: MetricName,
  truth: Truth,
  shape: QueryShape,
): Promise<number> {
  const found = await findAll(api, data, { ...shape, withPayload: false }, false);
  return recallWithTies(truth.neighbours, shape.limit, found, data, metric);
}
