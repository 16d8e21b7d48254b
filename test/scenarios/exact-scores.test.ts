/** Scores by the vectors as they were written, for fields whose index holds them in fewer bits. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import type { CollectionHandle, QueryResult, VectorSpec } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { startInProcess } from "../cluster/in-process.js";
import { program } from "../cluster/processes.js";
import { range, vectorOf } from "../cluster/workload.js";

type Metric = "cosine" | "dot" | "l2";
type Datatype = NonNullable<VectorSpec["datatype"]>;

const vectors = range(0, 6_000).map((id) => vectorOf(id, 1));
/** Far from most, and not rounded by any datatype to what it is. */
const query = Float32Array.from(vectorOf(7, 1), (value, i) => value * 1.37 + i / 97);

function trueScore(metric: Metric, stored: Float32Array): number {
  const sum = (of: (a: number, b: number) => number): number =>
    query.reduce((total, a, i) => total + of(a, stored[i] as number), 0);
  const dot = sum((a, b) => a * b);
  if (metric === "dot") return dot;
  if (metric === "l2") return Math.sqrt(sum((a, b) => (a - b) ** 2));
  return dot / Math.sqrt(sum((a) => a * a) * sum((_, b) => b * b));
}

const cluster = useCluster(() => startInProcess());

async function filled(metric: Metric, datatype: Datatype): Promise<CollectionHandle> {
  const handle = (await cluster().connect()).collection(`${metric}-${datatype}`);
  if (await handle.exists()) return handle;
  await handle.create({ vectors: { dimension: query.length, metric, datatype }, shards: datatype === "i8" ? 1 : 2 });
  await handle.upsert(
    vectors.map((vector, id) => ({ id, vector, payload: { even: id % 2 === 0 } })),
    { ack: "all" },
  );
  await handle.waitIndexed();
  return handle;
}

/** The largest error of a score, in shares of the scores' size. */
function errorOf(metric: Metric, { points }: QueryResult): number {
  return Math.max(
    ...points.map(({ id, score }) => {
      const truth = trueScore(metric, vectors[id as number] as Float32Array);
      return Math.abs(score - truth) / Math.max(1, Math.abs(truth));
    }),
  );
}

describe.each<Metric>(["cosine", "dot", "l2"])("with %s", (metric) => {
  test.each<Datatype>(["f16", "bf16", "i8", "f32"])(
    "of %s, scores are those of the vectors as written, in their order",
    async (datatype) => {
      const handle = await filled(metric, datatype);
      const rounded = await handle.query({ vector: query, limit: 40, exact: true });
      if (datatype !== "f32") expect(errorOf(metric, rounded)).toBeGreaterThan(1e-6);
      for (const filter of [undefined, "even = true"]) {
        const exact = await handle.query({ vector: query, limit: 40, exactScores: true, ...(filter && { filter }) });
        expect(exact.points).toHaveLength(40);
        expect(errorOf(metric, exact)).toBeLessThan(3e-7);
        const scores = exact.points.map(({ score }) => score);
        expect(scores).toEqual([...scores].sort((a, b) => (metric === "l2" ? a - b : b - a)));
        // The vectors are read for the scores, and not given out.
        expect(exact.points.every((point) => point.vector === undefined && point.vectors === undefined)).toBe(true);
      }
      const shown = await handle.query({
        vector: query,
        limit: 3,
        exactScores: true,
        withVectors: true,
        withPayload: true,
      });
      const [best] = shown.points;
      expect(best?.vector).toEqual(vectors[best?.id as number]);
      expect(best?.payload).toEqual({ even: (best?.id as number) % 2 === 0 });
      const [item] = await handle.queryBatch([{ vector: query, limit: 3, exactScores: true }]);
      const batch = item?.ok === true ? item.result.points : [];
      expect(batch.map(({ id, score }) => [id, score])).toEqual(shown.points.map(({ id, score }) => [id, score]));
    },
  );
});

test("a threshold is held against the exact scores, and a point's own is exact too", async () => {
  const handle = await filled("l2", "i8");
  const all = await handle.query({ vector: query, limit: 40, exactScores: true });
  const scoreThreshold = all.points[9]?.score as number;
  const { points } = await handle.query({ vector: query, limit: 40, exactScores: true, scoreThreshold });
  expect(points.map(({ id }) => id)).toEqual(all.points.slice(0, 10).map(({ id }) => id));
  const own = await handle.query({ point: 3, limit: 5, exactScores: true });
  for (const { id, score } of own.points) {
    const [a, b] = [vectors[3] as Float32Array, vectors[id as number] as Float32Array];
    expect(score).toBeCloseTo(Math.hypot(...a.map((value, i) => value - (b[i] as number))), 4);
  }
});

test.each<[string, object]>([
  ["prefetches", { vector: query, prefetch: [{ query: { nearest: query }, limit: 5 }] }],
  ["an offset", { vector: query, offset: 3 }],
  ["another query", { query: { orderBy: "even" } }],
  ["explain", { vector: query, explain: true }],
])("they are refused with %s", async (_, options) => {
  const handle = await filled("l2", "i8");
  await expect(handle.query({ ...options, exactScores: true })).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
    message: expect.stringContaining("exact_scores") as string,
  });
});

test("the command line asks for them", { timeout: 30_000 }, async () => {
  const handle = await filled("l2", "i8");
  const vector = JSON.stringify([...query]);
  const args = ["search", handle.name, "--vector", vector, "--limit", "2", "--exact-scores", "-o", "json"];
  const found = await promisify(execFile)(process.execPath, [program, ...args, "--target", cluster().target]);
  const { points } = await handle.query({ vector: query, limit: 2, exactScores: true });
  for (const { score } of points) expect(found.stdout).toContain(String(score));
});

test.each<[Datatype, Metric]>([
  ["i8", "l2"],
  ["i4", "dot"],
  ["binary", "cosine"],
  ["pq16", "l2"],
  ["pq32", "dot"],
  ["pq64", "cosine"],
])("a field of %s that keeps its vectors as they were written scores by these", async (datatype, metric) => {
  const handle = (await cluster().connect()).collection(`originals-${datatype}`);
  await handle.create({ vectors: { dimension: query.length, metric, datatype, originals: true } });
  await handle.upsert(
    vectors.map((vector, id) => ({ id, vector, payload: { even: id % 2 === 0 } })),
    { ack: "all" },
  );
  await handle.waitIndexed();
  expect((await handle.info()).vectors[0]).toMatchObject({ datatype, originals: true });
  for (const filter of [undefined, "even = true"]) {
    const asked = { vector: query, limit: 40, ...(filter && { filter }) };
    const written = await handle.query(asked);
    expect(written.points).toHaveLength(40);
    expect(errorOf(metric, written)).toBeLessThan(1e-6);
    expect(errorOf(metric, await handle.query({ ...asked, oversampling: 10 }))).toBeLessThan(1e-6);
    expect(errorOf(metric, await handle.query({ ...asked, rescore: false }))).toBeGreaterThan(1e-6);
  }
  for (const oversampling of [0.5, 1_001, Number.NaN]) {
    await expect(handle.query({ vector: query, oversampling })).rejects.toMatchObject({ code: "LIMIT_OUT_OF_RANGE" });
  }
  const tree = { query: { nearest: query }, prefetch: [{ query: { nearest: query } }] };
  await expect(handle.query({ ...tree, oversampling: 2 })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
});

test.each<VectorSpec>([
  { dimension: 4, metric: "l2", datatype: "binary" },
  { dimension: 4, metric: "dot", datatype: "binary" },
  { dimension: 4, datatype: "binary", multivector: "maxSim" },
  { dimension: 4, datatype: "i8", originals: true, multivector: "maxSim" },
  { dimension: 4, datatype: "pq32", multivector: "maxSim" },
])("what cannot be kept so is refused: %j", async (vectors) => {
  const handle = (await cluster().connect()).collection("refused");
  await expect(handle.create({ vectors })).rejects.toMatchObject({ code: "INVALID_SCHEMA" });
});
