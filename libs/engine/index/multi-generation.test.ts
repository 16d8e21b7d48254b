/** An index of matrices whose candidates are found by their encodings: as right as comparing all, through writes, removals, saves and loads. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { SeededRandom } from "../../base/index.js";
import type { VectorField } from "../../model/index.js";
import { MultiGeneration, type MultiRows } from "./multi-generation.js";

const directory = mkdtempSync(join(tmpdir(), "kith-multi-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const dimension = 16;
const field: VectorField = {
  ...{ name: "tokens", dimension, metric: "cosine", datatype: "f32", multivector: "maxSim" },
  ...{ m: 16, efConstruction: 64, efSearch: 64 },
};

function gaussian(random: SeededRandom): number {
  return Math.sqrt(-2 * Math.log(1 - random.float())) * Math.cos(2 * Math.PI * random.float());
}

/** Rows around few directions, as tokens of one text are. */
function matricesOf(random: SeededRandom, count: number, firstSlot: number): MultiRows {
  const rowCounts = Uint32Array.from({ length: count }, () => 2 + random.below(8));
  const matrix: number[] = [];
  for (const rows of rowCounts) {
    const topics = Array.from({ length: 3 }, () => Array.from({ length: dimension }, () => gaussian(random)));
    for (let row = 0; row < rows; row++) {
      const topic = topics[random.below(3)] as number[];
      for (const x of topic) matrix.push(x + 0.4 * gaussian(random));
    }
  }
  const slots = Uint32Array.from({ length: count }, (_, i) => firstSlot + i);
  return { slots, rowCounts, matrix: Float32Array.from(matrix) };
}

function queryOf(random: SeededRandom, { rowCounts, matrix }: MultiRows): Float32Array {
  const target = random.below(rowCounts.length);
  const from = rowCounts.subarray(0, target).reduce((sum, rows) => sum + rows, 0) * dimension;
  const rows = matrix.subarray(from, from + (rowCounts[target] as number) * dimension);
  return rows.map((x) => x + 0.5 * gaussian(random));
}

async function recall(
  generation: MultiGeneration,
  queries: readonly Float32Array[],
  filter?: Uint8Array,
): Promise<number> {
  let found = 0;
  let wanted = 0;
  for (const query of queries) {
    const scope = filter === undefined ? {} : { filter };
    const near = await generation.search(query, { k: 10, ef: 64, ...scope });
    const best = await generation.search(query, { k: 10, ef: 64, exact: true, ...scope });
    const slots = new Set(near.slots);
    found += best.slots.filter((slot) => slots.has(slot)).length;
    wanted += best.slots.length;
    // What is found has its exact distance.
    const distances = new Map(Array.from(best.slots, (slot, i) => [slot, best.distances[i]]));
    near.slots.forEach((slot, i) => {
      if (distances.has(slot)) expect(near.distances[i]).toBe(distances.get(slot));
    });
  }
  return found / wanted;
}

test("candidates by encodings are as good as all, through removals, filters, saves and loads", async () => {
  const random = new SeededRandom(11);
  const generation = new MultiGeneration(field, { encodedRows: 2_000 });
  const first = matricesOf(random, 200, 0);
  await generation.add(first);
  const few = await generation.search(queryOf(random, first), { k: 5, ef: 64, explain: true });
  expect(few.plan).toBe("scan");
  expect(few.explanation?.reason).toMatch(/few matrices/);
  const rest = matricesOf(random, 2_800, 200);
  await generation.add(rest);
  await generation.flush();
  expect(generation.stats()).toMatchObject({ rowCount: 3_000, aliveCount: 3_000, unindexedCount: 0 });
  const queries = Array.from({ length: 25 }, () => queryOf(random, rest));
  const told = await generation.search(queries[0] as Float32Array, { k: 5, ef: 64, explain: true });
  expect(told.explanation?.reason).toMatch(/256 candidates by their encodings, 0 that are not encoded/);
  expect(await recall(generation, queries)).toBeGreaterThan(0.9);

  const gone = Uint32Array.from({ length: 1_000 }, (_, i) => 3 * i);
  generation.remove(gone);
  const filter = new Uint8Array(375).fill(0xff);
  filter.fill(0, 0, 100);
  for (const allowed of [undefined, filter]) {
    expect(await recall(generation, queries, allowed)).toBeGreaterThan(0.9);
    const scope = allowed === undefined ? {} : { filter: allowed };
    const { slots } = await generation.search(queries[1] as Float32Array, { k: 50, ef: 64, ...scope });
    expect(slots.every((slot) => slot % 3 !== 0 && (allowed === undefined || slot >= 800))).toBe(true);
  }
  // Some matrices come after the flush, and are found at once.
  const late = matricesOf(random, 40, 5_000);
  const added = generation.add(late);
  const own = late.matrix.subarray(0, (late.rowCounts[0] as number) * dimension);
  expect((await generation.search(own, { k: 1, ef: 64 })).slots[0]).toBe(5_000);
  const saving = generation.save(directory, { storeId: "store", sequence: 7 });
  await Promise.all([added, saving]);
  await generation.flush();

  const loaded = await MultiGeneration.load(directory, field, { encodedRows: 2_000 });
  expect(loaded?.stamp).toEqual({ storeId: "store", sequence: 7 });
  const again = loaded?.generation as MultiGeneration;
  await again.flush();
  expect(again.stats()).toMatchObject({ rowCount: 2_040, aliveCount: 2_040 });
  for (const query of queries.slice(0, 5)) {
    const options = { k: 10, ef: 64, exact: true };
    const [a, b] = await Promise.all([generation.search(query, options), again.search(query, options)]);
    expect([...b.slots]).toEqual([...a.slots]);
  }
  expect(await recall(again, queries)).toBeGreaterThan(0.9);
  await Promise.all([generation.close(), again.close()]);

  // Of another field, or damaged: nothing is believed.
  await expect(MultiGeneration.load(directory, { ...field, metric: "dot" })).rejects.toMatchObject({
    code: "CORRUPT_DATA",
  });
  const manifest = join(directory, "manifest.json");
  writeFileSync(manifest, readFileSync(manifest, "utf8").replace("store", "stare"));
  await expect(MultiGeneration.load(directory, field)).rejects.toMatchObject({ code: "CORRUPT_DATA" });
  expect(await MultiGeneration.load(join(directory, "nothing"), field)).toBeUndefined();
});

test("a point that is overwritten again and again is found in one version or the other", async () => {
  const random = new SeededRandom(5);
  const generation = new MultiGeneration(field, { encodedRows: 500 });
  await generation.add(matricesOf(random, 400, 0));
  await generation.flush();
  const target = matricesOf(random, 1, 10_000);
  await generation.add(target);
  let slot = 10_000;
  for (let round = 0; round < 60; round++) {
    const searching = generation.search(target.matrix, { k: 1, ef: 64 });
    // As a batch does: the new row, then the old one goes.
    void generation.add({ ...target, slots: Uint32Array.of(slot + 1) });
    generation.remove(Uint32Array.of(slot));
    slot++;
    const { slots } = await searching;
    expect([slot - 1, slot]).toContain(slots[0]);
  }
  await generation.close();
});
