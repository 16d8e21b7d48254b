import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { createIndex, loadIndex, type IndexOptions, type Metric, type Datatype, type VectorIndex } from "./index.js";
import { evictedLink, miscountedRows } from "./testing.js";
import { startChild, transpileLibrary } from "./testing/child.js";
import { gaussian, range, rowOf, seededRandom } from "./testing/data.js";

const parent = mkdtempSync(join(tmpdir(), "kith-link-repair-"));
afterAll(() => rmSync(parent, { recursive: true, force: true }));

const dimension = 48;
const count = 16_000;

/** Tight clusters with some rows that lie alone: in the middle between two centres, or far out in any direction. */
function withOutliers(seed: number): { rows: Float32Array; outliers: number[] } {
  const random = seededRandom(seed);
  const clusters = 80;
  const centres = Float32Array.from({ length: clusters * dimension }, () => gaussian(random));
  const rows = new Float32Array(count * dimension);
  const outliers: number[] = [];
  const some = (): number => Math.floor(random() * clusters) * dimension;
  for (let row = 0; row < count; row++) {
    const kind = random();
    const [a, b] = [some(), some()];
    if (kind < 0.03) outliers.push(row);
    for (let i = 0; i < dimension; i++) {
      const centre = centres[a + i] ?? 0;
      let value = centre + 0.4 * gaussian(random);
      if (kind < 0.015) value = (centre + (centres[b + i] ?? 0)) / 2 + 0.02 * gaussian(random);
      else if (kind < 0.03) value = 2 * gaussian(random);
      rows[row * dimension + i] = value;
    }
  }
  return { rows, outliers };
}

const { rows, outliers } = withOutliers(7);

function optionsOf(metric: Metric, datatype: Datatype): IndexOptions {
  return { dimension, metric, datatype, m: 16, efConstruction: 128, graphThreshold: 1000, tailRowsMax: count };
}

/** The rows among these that a search with ef 64 for their own vector does not return. */
async function missing(index: VectorIndex, wanted: Iterable<number>, vectors = rows): Promise<number[]> {
  const found = await Promise.all(
    Array.from(wanted, async (slot) => {
      const { slots } = await index.search(rowOf(vectors, dimension, slot), { k: 1, ef: 64 });
      return slots[0] === slot ? undefined : slot;
    }),
  );
  return found.filter((slot) => slot !== undefined);
}

/** The writer looks after the last of them once it is at rest. */
async function expectAllFound(index: VectorIndex): Promise<void> {
  await expect.poll(() => missing(index, outliers), { timeout: 60_000, interval: 50 }).toEqual([]);
  expect((await missing(index, range(0, count))).length / count).toBeLessThanOrEqual(0.001);
}

describe("rows that lie alone are found by their own vector", () => {
  test.each([
    ["l2", "f32"],
    ["cosine", "bf16"],
    ["l2", "i8"],
  ] as const)("%s %s", async (metric, datatype) => {
    const index = createIndex(optionsOf(metric, datatype));
    await index.add(range(0, count), rows);
    await index.flush();
    await expectAllFound(index);
    await index.close();
  });

  test("while rows are written beside the searches, and after", async () => {
    const index = createIndex(optionsOf("l2", "f32"));
    let added = 0;
    let asked = 0;
    let missed = 0;
    const random = seededRandom(3);
    const searching = Array.from({ length: 4 }, async () => {
      while (added < count) {
        const known = outliers.filter((slot) => slot < added);
        const slot = known[Math.floor(random() * known.length)];
        if (slot === undefined) await index.flush();
        else {
          asked++;
          missed += (await missing(index, [slot])).length;
        }
      }
    });
    while (added < count) {
      await index.add(range(added, added + 500), rows.subarray(added * dimension, (added + 500) * dimension));
      added += 500;
      if (added % 2000 === 0) await index.flush();
    }
    await Promise.all(searching);
    await index.flush();
    expect(asked).toBeGreaterThan(0);
    expect(missed / asked).toBeLessThanOrEqual(0.02);
    await expectAllFound(index);
    await index.close();
  });
});

test("rows that the writer had looked after before more came are found once it is at rest", async () => {
  for (const seed of [2, 6]) {
    const { rows } = withOutliers(seed);
    const index = createIndex(optionsOf("l2", "f32"));
    // Each part but the first comes in the middle of the round over the rows before it.
    for (let from = 0; from < count; from += count / 4) {
      await index.add(range(from, from + count / 4), rows.subarray(from * dimension, (from + count / 4) * dimension));
      await index.flush();
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
    const all = range(0, count);
    await expect.poll(() => missing(index, all, rows), { timeout: 60_000, interval: 200 }).toEqual([]);
    await index.close();
  }
});

test("they are found in an index that a killed process saved", async () => {
  const library = transpileLibrary();
  const directory = mkdtempSync(join(parent, "index-"));
  const file = join(parent, "rows.bin");
  writeFileSync(file, rows);
  // Saves as soon as the graph is built, before the writer has looked after anything at rest, and is killed.
  const script = `${library.importLine}
    import { readFileSync } from "node:fs";
    const rows = new Float32Array(new Uint8Array(readFileSync(${JSON.stringify(file)})).buffer);
    const index = createIndex(${JSON.stringify(optionsOf("l2", "f32"))});
    await index.add(Uint32Array.from({ length: ${count} }, (_, i) => i), rows);
    await index.flush();
    await index.save(${JSON.stringify(directory)}, { sequence: 1 });
    console.log("saved");
    setInterval(() => undefined, 1000);`;
  try {
    const child = startChild(script);
    const line = await child.lines.next();
    child.process.kill("SIGKILL");
    expect([line.value, (await child.exit).errors]).toEqual(["saved", ""]);
    const first = (await loadIndex(directory, optionsOf("l2", "f32")))?.index as VectorIndex;
    expect(first.stats().graphRowCount).toBe(count);
    await expectAllFound(first);
    // What was done for them is in the next save, and found at once after the next load.
    await first.save(directory, { sequence: 2 });
    await first.close();
    const second = (await loadIndex(directory, optionsOf("l2", "f32")))?.index as VectorIndex;
    expect(await missing(second, outliers)).toEqual([]);
    await second.close();
  } finally {
    library.remove();
  }
});

test("removed rows stay links for others, and copies of one vector hide nobody", async () => {
  const index = createIndex(optionsOf("l2", "f32"));
  const mixed = rows.slice();
  const lone = new Set(outliers);
  const copies = range(0, count).filter((slot) => slot % 5 === 0 && !lone.has(slot));
  for (const slot of copies) mixed.set(rowOf(rows, dimension, copies[slot % 40] ?? 0), slot * dimension);
  await index.add(range(0, count), mixed);
  index.remove(copies.filter((slot) => slot % 10 === 0));
  await index.flush();
  await expect.poll(() => missing(index, outliers), { timeout: 60_000, interval: 50 }).toEqual([]);
  await index.close();
});

test("rows that are nearly all as far from each other are found by their own vector", async () => {
  const [width, size] = [1024, 6144];
  const ones = new Float32Array(size * width);
  for (let row = 0; row < size; row++) {
    ones[row * width + (row % width)] = 1;
    ones[row * width + ((row * 7 + 3 * Math.floor(row / width) + 1) % width)] = 1;
  }
  const index = createIndex({ ...optionsOf("l2", "f32"), dimension: width, tailRowsMax: size });
  await index.add(range(0, size), ones);
  await index.flush();
  const found = async (): Promise<number> => {
    let count = 0;
    for (let slot = 0; slot < size; slot += 8) {
      const { distances } = await index.search(rowOf(ones, width, slot), { k: 1, ef: 64 });
      if (distances[0] === 0) count++;
    }
    return count / (size / 8);
  };
  // hnswlib 0.8.0 finds 0.76 of them. When repair took links from full lists first, 0.83 was the most that came of it.
  await expect.poll(found, { timeout: 60_000, interval: 50 }).toBeGreaterThanOrEqual(0.9);
  await index.close();
});

describe("the counts of links are those of a recount after any history", () => {
  test.each([
    ["l2", "f32", 2, 11],
    ["cosine", "f32", 4, 12],
    ["dot", "f32", 4, 13],
    ["l2", "i8", 8, 14],
    ["cosine", "bf16", 16, 15],
  ] as const)("%s %s, m %i", async (metric, datatype, m, seed) => {
    const random = seededRandom(seed);
    const below = (n: number): number => Math.floor(random() * n);
    const size = 8;
    const options = { dimension: size, metric, datatype, m, efConstruction: 32, graphThreshold: 100 };
    const centres = Float32Array.from({ length: 20 * size }, () => gaussian(random));
    const vectors: Float32Array[] = [];
    /** A row of a cluster, a copy of an earlier row, or one that lies alone. */
    const another = (): Float32Array => {
      const kind = random();
      const earlier = vectors[below(vectors.length)];
      if (kind < 0.1 && earlier !== undefined) return earlier;
      const centre = rowOf(centres, size, below(20));
      return centre.map((value) => (kind < 0.9 ? value + 0.2 * gaussian(random) : 3 * gaussian(random)));
    };
    const directory = mkdtempSync(join(parent, "counts-"));
    let index = createIndex(options);
    const slots: number[] = [];
    const miscounted: number[] = [];
    for (let step = 0; step < 40; step++) {
      // Some slots anew, whose rows of before stay in the graph.
      const again = Uint32Array.from(new Set(Array.from({ length: below(10) }, () => slots[below(slots.length)] ?? 0)));
      const fresh = range(slots.length, slots.length + 1 + below(200));
      const batch = Uint32Array.of(...again.filter((slot) => slot < slots.length), ...fresh);
      index.remove(again);
      const batchVectors = Array.from(batch, another);
      vectors.push(...batchVectors);
      slots.push(...fresh);
      await index.add(batch, Float32Array.from(batchVectors.flatMap((vector) => [...vector])));
      // Beside the writer or after it.
      if (random() < 0.3) await index.flush();
      miscounted.push(miscountedRows(index));
      if (step % 15 === 14) {
        await index.save(directory, { sequence: step });
        await index.close();
        index = (await loadIndex(directory, options))?.index as VectorIndex;
      }
    }
    await index.flush();
    miscounted.push(miscountedRows(index));
    expect(miscounted).toEqual(miscounted.map(() => 0));
    expect(index.stats().graphRowCount).toBe(vectors.length);
    await index.close();
  });
});

test("a full list of links gives the farthest away to repair, of those that lead to rows with enough", () => {
  const random = seededRandom(21);
  for (let round = 0; round < 200; round++) {
    const count = 2 * (2 + Math.floor(random() * 30));
    const distances = Float32Array.from({ length: count }, () => random());
    const incoming = Uint32Array.from({ length: count }, () => 1 + Math.floor(random() * 5));
    const may = Array.from(distances.keys()).filter((i) => (incoming[i] ?? 0) > 2);
    const farthest = may.sort((a, b) => (distances[b] ?? 0) - (distances[a] ?? 0))[0] ?? -1;
    expect(evictedLink(distances, incoming, 2)).toBe(farthest);
  }
  expect(evictedLink(Float32Array.of(1, 2, 3, 4), Uint32Array.of(2, 2, 1, 2), 2)).toBe(-1);
});
