/** Exact MaxSim against its definition, on random matrices under additions, removals, filters and lists; and what stands around it. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { type Datatype, MatrixIndex, type MatrixRows, type Metric } from "./index.js";
import { forceSimd } from "./testing.js";
import { clustered, gaussian, seededRandom } from "./testing/data.js";

const directory = mkdtempSync(join(tmpdir(), "kith-matrices-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

type Matrix = Float32Array[];
type MatrixDatatype = Extract<Datatype, "f32" | "f16" | "bf16" | "i8">;

function matrixOf(random: () => number, dimension: number, rowsMax = 12): Matrix {
  return Array.from({ length: 1 + Math.floor(random() * rowsMax) }, () =>
    Float32Array.from({ length: dimension }, () => gaussian(random)),
  );
}

function flat(matrix: Matrix): Float32Array {
  return Float32Array.from(matrix.flatMap((row) => [...row]));
}

function rowsOf(matrices: ReadonlyMap<number, Matrix>): MatrixRows {
  return {
    slots: Uint32Array.from(matrices.keys()),
    rowCounts: Uint32Array.from(matrices.values(), ({ length }) => length),
    vectors: flat([...matrices.values()].flat()),
  };
}

function similarity(metric: Metric, a: Float32Array, b: Float32Array): number {
  const sum = (of: (x: number, y: number) => number): number =>
    a.reduce((total, x, i) => total + of(x, b[i] as number), 0);
  if (metric === "l2") return -sum((x, y) => (x - y) ** 2);
  const dot = sum((x, y) => x * y);
  return metric === "dot" ? dot : dot / Math.sqrt(sum((x) => x * x) * sum((_, y) => y * y));
}

/** The sum, over the rows of the query, of the largest similarity: as the distance that the index tells. */
function naive(metric: Metric, query: Matrix, matrix: Matrix): number {
  const sum = query.reduce(
    (total, row) => total + Math.max(...matrix.map((other) => similarity(metric, row, other))),
    0,
  );
  return metric === "cosine" ? 1 - sum : -sum;
}

const tolerance: Record<MatrixDatatype, number> = { f32: 1e-5, f16: 2e-3, bf16: 1.5e-2, i8: 2e-2 };

describe.each<Metric>(["cosine", "dot", "l2"])("MaxSim by %s", (metric) => {
  it.each<MatrixDatatype>(["f32", "f16", "bf16", "i8"])("gives what its definition does, of %s", async (datatype) => {
    const random = seededRandom(metric.length * 31 + datatype.length);
    for (const dimension of [3, 70]) {
      const index = MatrixIndex.create({ dimension, metric, datatype });
      const matrices = new Map<number, Matrix>();
      const alive = new Map<number, Matrix>();
      for (let slot = 0; slot < 90; slot++) matrices.set(slot, matrixOf(random, dimension));
      index.add(rowsOf(matrices));
      for (const [slot, matrix] of matrices) if (slot % 5 !== 0) alive.set(slot, matrix);
      index.remove(Uint32Array.from([...matrices.keys()].filter((slot) => slot % 5 === 0)));
      const again = new Map([[10, matrixOf(random, dimension)]]);
      index.add(rowsOf(again));
      for (const [slot, matrix] of again) alive.set(slot, matrix);
      const filter = new Uint8Array(12);
      for (const slot of alive.keys())
        if (slot % 3 === 1) filter[slot >> 3] = (filter[slot >> 3] ?? 0) | (1 << (slot & 7));
      const listed = Uint32Array.from([10, 5, 11, 11, 13, 999, 21]);
      for (let round = 0; round < 4; round++) {
        const query = matrixOf(random, dimension, 7);
        const scopes = [
          { options: {}, allows: () => true },
          { options: { filter }, allows: (slot: number) => slot % 3 === 1 },
          { options: { slots: listed }, allows: (slot: number) => listed.includes(slot) },
        ];
        for (const { options, allows } of scopes) {
          const wanted = [...alive]
            .filter(([slot]) => allows(slot))
            .map(([slot, matrix]): [number, number] => [slot, naive(metric, query, matrix)]);
          wanted.sort((a, b) => a[1] - b[1]);
          const found = await index.search(flat(query), { k: 10, ...options });
          expect(found.slots.length).toBe(Math.min(10, wanted.length));
          const room = tolerance[datatype] * query.length * (metric === "cosine" ? 1 : dimension);
          const byDefinition = new Map(wanted);
          found.slots.forEach((slot, i) => {
            const distance = found.distances[i] as number;
            // Each is what it is said to be, and as near as the one that stands at its place by definition.
            expect(Math.abs(distance - (byDefinition.get(slot) as number))).toBeLessThan(room);
            expect(Math.abs(distance - (wanted[i] as [number, number])[1])).toBeLessThan(room);
          });
          if (datatype === "f32") expect([...found.slots]).toEqual(wanted.slice(0, 10).map(([slot]) => slot));
        }
      }
      await index.close();
    }
  });
});

it("gives the same with every set of kernels, on one thread or cut up", async () => {
  const dimension = 48;
  const vectors = clustered(5, 2_500 * 20, dimension);
  const slots = Uint32Array.from({ length: 2_500 }, (_, i) => i);
  const rows = { slots, rowCounts: new Uint32Array(2_500).fill(20), vectors };
  const query = clustered(6, 24, dimension);
  const results: { slots: number[]; parts: number }[] = [];
  for (const simd of ["portable", undefined] as const) {
    expect(forceSimd(simd)).toBe(true);
    const index = MatrixIndex.create({ dimension, metric: "cosine", datatype: "f32" });
    index.add(rows);
    const found = await index.search(query, { k: 20 });
    results.push({ slots: [...found.slots], parts: found.parts });
    expect(found.computed).toBeGreaterThan(2_500 * 20);
    const few = await index.search(query, { k: 20, slots: slots.subarray(0, 40) });
    expect(few.parts).toBe(1);
    await index.close();
  }
  expect(results[0]).toEqual(results[1]);
  expect(results[0]?.parts).toBeGreaterThanOrEqual(1);
});

it("ends a search that is cancelled, and closes beside one", async () => {
  const dimension = 64;
  const index = MatrixIndex.create({ dimension, metric: "dot", datatype: "f32" });
  const count = 1_500;
  index.add({
    slots: Uint32Array.from({ length: count }, (_, i) => i),
    rowCounts: new Uint32Array(count).fill(16),
    vectors: clustered(1, count * 16, dimension),
  });
  const controller = new AbortController();
  const searching = index.search(clustered(2, 512, dimension), { k: 5, signal: controller.signal });
  controller.abort();
  await expect(searching).rejects.toMatchObject({ code: "CANCELLED" });
  const last = index.search(clustered(2, 64, dimension), { k: 5 });
  await index.close();
  expect((await last).slots.length).toBe(5);
  await expect(index.search(new Float32Array(dimension), { k: 1 })).rejects.toMatchObject({ code: "SHUTTING_DOWN" });
});

it("refuses what is no matrix, and then keeps nothing of it", () => {
  const index = MatrixIndex.create({ dimension: 2, metric: "cosine", datatype: "f32" });
  const add = (rowCounts: number[], vectors: number[], slots = rowCounts.map((_, i) => i)): void =>
    index.add({
      slots: Uint32Array.from(slots),
      rowCounts: Uint32Array.from(rowCounts),
      vectors: Float32Array.from(vectors),
    });
  const refused = expect.objectContaining({ code: "INVALID_ARGUMENT" }) as unknown;
  expect(() => add([1, 0], [1, 2])).toThrow(refused);
  expect(() => add([1, 1], [1, 2, 0, 0])).toThrow(refused);
  expect(() => add([1], [1, Number.NaN])).toThrow(refused);
  expect(() => add([1, 1], [1, 2, 3, 4], [7, 7])).toThrow(refused);
  expect(index.stats()).toMatchObject({ matrixCount: 0, aliveCount: 0 });
  add([2], [1, 2, 3, 4], [7]);
  expect(() => add([1], [1, 2], [7])).toThrow(refused);
  expect(index.stats()).toMatchObject({ matrixCount: 1, aliveCount: 1, rowCount: 2 });
});

it.each<MatrixDatatype>(["f32", "i8"])(
  "finds the same after it was saved and loaded, without what was dead (%s)",
  async (datatype) => {
    const options = { dimension: 24, metric: "l2", datatype } as const;
    const random = seededRandom(17);
    const index = MatrixIndex.create(options);
    const matrices = new Map(Array.from({ length: 200 }, (_, slot) => [slot, matrixOf(random, 24)]));
    index.add(rowsOf(matrices));
    index.remove(Uint32Array.from({ length: 50 }, (_, i) => i * 3));
    const path = join(directory, `${datatype}.bin`);
    const sum = await index.save(path);
    const loaded = await MatrixIndex.load(options, path, sum);
    expect(loaded.stats()).toMatchObject({ matrixCount: 150, aliveCount: 150 });
    for (let round = 0; round < 5; round++) {
      const query = flat(matrixOf(random, 24));
      const [a, b] = await Promise.all([index.search(query, { k: 12 }), loaded.search(query, { k: 12 })]);
      expect([...b.slots]).toEqual([...a.slots]);
      expect([...b.distances]).toEqual([...a.distances]);
    }
    const bytes = readFileSync(path);
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
    writeFileSync(path, bytes);
    await expect(MatrixIndex.load(options, path, sum)).rejects.toMatchObject({ code: "CORRUPT_DATA" });
    await Promise.all([index.close(), loaded.close()]);
  },
);

it("encodes matrices so that products of the encodings are near to MaxSim", async () => {
  const dimension = 32;
  const encoding = { repetitions: 16, planes: 3, projected: 16 };
  const index = MatrixIndex.create({ dimension, metric: "cosine", datatype: "f32", encoding });
  const random = seededRandom(3);
  const matrices = new Map(Array.from({ length: 300 }, (_, slot) => [slot, matrixOf(random, dimension, 8)]));
  index.add(rowsOf(matrices));
  const slots = Uint32Array.from(matrices.keys());
  const encoded = await index.encode(slots);
  expect(encoded.length).toBe(300 * index.encodingDimension);
  let found = 0;
  for (let round = 0; round < 20; round++) {
    // A query is made of rows of one of them, moved a little.
    const target = Math.floor(random() * 300);
    const query = flat((matrices.get(target) as Matrix).map((row) => row.map((x) => x + 0.3 * gaussian(random))));
    const by = index.encodeQuery(query);
    const products = Array.from(slots, (slot) => {
      const own = encoded.subarray(slot * by.length, (slot + 1) * by.length);
      return { slot, product: own.reduce((sum, x, i) => sum + x * (by[i] as number), 0) };
    });
    products.sort((a, b) => b.product - a.product);
    if (products.slice(0, 10).some(({ slot }) => slot === target)) found++;
  }
  expect(found).toBeGreaterThanOrEqual(18);
  expect((await index.encode(Uint32Array.of(5_000))).every((x) => x === 0)).toBe(true);
  await index.close();
});
