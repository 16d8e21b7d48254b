import { describe, expect, it } from "vitest";
import { exactNeighbours, generateMatrix, recallAtK, VectorGenerator } from "./index.js";

describe("generated vectors", () => {
  it("do not depend on how they are cut into batches", () => {
    const options = { dimension: 5, seed: 3, clusterCount: 4 };
    const whole = generateMatrix({ ...options, rowCount: 10 });
    const generator = new VectorGenerator(options);
    expect([...generator.next(3), ...generator.next(7)]).toEqual([...whole]);
  });

  it("differ by seed and by stream, within the same clusters for a stream", () => {
    const options = { rowCount: 200, dimension: 16, seed: 9, clusterCount: 5, spread: 0.1 };
    const base = generateMatrix(options);
    const queries = generateMatrix({ ...options, stream: 1 });
    expect([...queries]).not.toEqual([...base]);
    const truth = exactNeighbours({ points: base, queries, dimension: 16, k: 1, metric: "l2" });
    // Squared distance within a cluster is about 2 × 16 × 0.1² = 0.32; between centres about 2 × 16.
    expect(Math.max(...(truth.distances ?? []))).toBeLessThan(2);
    const elsewhere = generateMatrix({ ...options, seed: 10, stream: 1 });
    const far = exactNeighbours({ points: base, queries: elsewhere, dimension: 16, k: 1, metric: "l2" });
    expect(Math.max(...(far.distances ?? []))).toBeGreaterThan(4);
  });

  it("refuse a dimension of zero", () => {
    expect(() => generateMatrix({ rowCount: 1, dimension: 0, seed: 1 })).toThrow("the dimension is 0");
  });
});

describe("exact neighbours", () => {
  const dimension = 7;
  const points = generateMatrix({ rowCount: 500, dimension, seed: 11 });
  const queries = generateMatrix({ rowCount: 20, dimension, seed: 11, stream: 1 });

  /** The plain way: all distances, a full sort. */
  function bySorting(query: number, k: number, metric: "l2" | "cosine" | "dot"): number[] {
    const q = queries.subarray(query * dimension, (query + 1) * dimension);
    const length = (v: Float32Array): number => Math.sqrt(v.reduce((sum, x) => sum + x * x, 0));
    const distanceTo = (row: number): number => {
      const p = points.subarray(row * dimension, (row + 1) * dimension);
      const dot = p.reduce((sum, x, i) => sum + x * (q[i] as number), 0);
      if (metric === "dot") return -dot;
      if (metric === "cosine") return 1 - dot / (length(p) * length(q));
      return p.reduce((sum, x, i) => sum + (x - (q[i] as number)) ** 2, 0);
    };
    const all = Array.from({ length: 500 }, (_, row) => [distanceTo(row), row] as const);
    return all
      .sort((a, b) => a[0] - b[0])
      .slice(0, k)
      .map(([, row]) => row);
  }

  it.each(["l2", "cosine", "dot"] as const)("agree with a full sort (%s)", (metric) => {
    const truth = exactNeighbours({ points, queries, dimension, k: 10, metric });
    for (let query = 0; query < 20; query++) {
      expect([...truth.ids.subarray(query * 10, query * 10 + 10)]).toEqual(bySorting(query, 10, metric));
    }
  });

  it("give ties to the smaller row and no more than there are points", () => {
    const same = new Float32Array([1, 1, 1, 1, 0, 0]);
    const truth = exactNeighbours({
      points: same,
      queries: new Float32Array([1, 1]),
      dimension: 2,
      k: 9,
      metric: "l2",
    });
    expect([...truth.ids]).toEqual([0, 1, 2]);
    expect(truth.k).toBe(3);
  });

  it("measure recall", () => {
    const truth = exactNeighbours({ points, queries, dimension, k: 10, metric: "l2" });
    const of = (query: number): number[] => [...truth.ids.subarray(query * 10, query * 10 + 10)];
    expect(recallAtK(truth, 10, of)).toBe(1);
    expect(recallAtK(truth, 10, (query) => of(query).slice(0, 5))).toBe(0.5);
    expect(recallAtK(truth, 5, (query) => of(query).slice(5))).toBe(0);
    // A result that repeats a row is not rewarded twice.
    expect(recallAtK(truth, 10, (query) => new Array<number>(10).fill(of(query)[0] as number))).toBeCloseTo(0.1);
  });
});
