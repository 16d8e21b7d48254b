import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { eventually } from "../base/testing.js";
import { createIndex, type Datatype, type IndexOptions, loadIndex, type Metric, type VectorIndex } from "./index.js";
import { clustered, gaussian, naiveDistance, naiveSearch, range, rowOf, seededRandom } from "./testing/data.js";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "kith-given-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const dimension = 96;
const count = 2_500;
const rows = clustered(21, count, dimension);
const queries = clustered(22, 40, dimension);

function optionsOf(metric: Metric, datatype: Datatype): IndexOptions {
  return { dimension, metric, datatype, m: 16, efConstruction: 64, graphThreshold: 500, givenFolder: folder };
}

async function filled(options: IndexOptions, upTo = count): Promise<VectorIndex> {
  const index = createIndex(options);
  for (let from = 0; from < upTo; from += 500) {
    const end = Math.min(upTo, from + 500);
    await index.add(range(from, end), rows.subarray(from * dimension, end * dimension));
  }
  await index.flush();
  return index;
}

/** Every result's distance is that of the vectors as they were given; gives recall@10. */
async function check(index: VectorIndex, metric: Metric, alive = count, scored?: number): Promise<number> {
  let found = 0;
  for (let q = 0; q < 40; q++) {
    const query = rowOf(queries, dimension, q);
    const result = await index.search(query, { k: 10, ef: 64, ...(scored !== undefined && { scored }) });
    expect([...result.distances]).toEqual([...result.distances].sort((a, b) => a - b));
    for (const [i, slot] of result.slots.entries()) {
      expect(result.distances[i]).toBeCloseTo(naiveDistance(metric, query, rowOf(rows, dimension, slot)), 4);
    }
    const truth = naiveSearch(metric, rows.subarray(0, alive * dimension), query, 10).map(({ slot }) => slot);
    found += truth.filter((slot) => result.slots.includes(slot)).length;
  }
  return found / 400;
}

const cases: [Metric, Datatype][] = [
  ["l2", "i8"],
  ["dot", "i8"],
  ["cosine", "f16"],
  ["l2", "bf16"],
  ["l2", "i4"],
  ["dot", "i4"],
  ["cosine", "i4"],
  ["cosine", "binary"],
  ["l2", "pq16"],
  ["dot", "pq32"],
  ["cosine", "pq64"],
];

describe.each(cases)("%s over %s with the vectors as they were given", (metric, datatype) => {
  test("results are scored by these, also after a save and further rows", async () => {
    const options = optionsOf(metric, datatype);
    let index = await filled(options, 2_000);
    expect(await check(index, metric, 2_000, 200)).toBeGreaterThan(0.9);
    expect(index.stats().givenBytes).toBe(2_000 * dimension * 4);
    const saved = join(folder, "saved");
    const first = await index.save(saved, { sequence: 1 });
    await index.add(range(2_000, count), rows.subarray(2_000 * dimension));
    const second = await index.save(saved, { sequence: 2 });
    // The rows of before are not written again.
    expect(second.writtenBytes).toBeLessThan(second.bytes - 2_000 * dimension * 4 + 1);
    expect(second.bytes).toBeGreaterThan(first.bytes + 400 * dimension * 4);
    await index.close();
    const loaded = await loadIndex(saved, options);
    if (loaded === undefined) throw new Error("nothing was saved");
    index = loaded.index;
    await index.flush();
    expect(await check(index, metric, count, 200)).toBeGreaterThan(0.9);
    if (metric !== "cosine") expect([...(index.get(2_400) ?? [])]).toEqual([...rowOf(rows, dimension, 2_400)]);
    await index.close();
    // Its files have no names.
    expect(await readdir(folder)).toEqual(["saved"]);
    const without: IndexOptions = { ...options, givenFolder: "" };
    const code = datatype.startsWith("pq") ? "INVALID_ARGUMENT" : "CORRUPT_DATA";
    await expect(loadIndex(saved, without)).rejects.toMatchObject({ code });
  });
});

test("how many are scored is the query's choice, and none are where it wants codes", async () => {
  const index = await filled(optionsOf("cosine", "binary"));
  const few = await check(index, "cosine", count, 10);
  const many = await check(index, "cosine", count, 300);
  expect(many).toBeGreaterThan(few + 0.05);
  const query = rowOf(queries, dimension, 0);
  const codes = await index.search(query, { k: 10, ef: 64, codesOnly: true });
  const given = await index.search(query, { k: 10, ef: 64 });
  expect([...codes.distances]).not.toEqual([...given.distances]);
  expect(index.stats().arenaBytes).toBe(count * 64);
  await expect(index.search(query, { k: 10, ef: 64, scored: 0 })).rejects.toMatchObject({ code: "LIMIT_OUT_OF_RANGE" });
  await index.close();
});

test("bits say enough of rows whose components differ much in size", async () => {
  // Signs of 8 components alone, without a rotation: 0.54 of the ten nearest.
  const random = seededRandom(5);
  const uneven = (of: number): Float32Array =>
    Float32Array.from({ length: of * dimension }, (_, i) => gaussian(random) * (i % dimension < 8 ? 1 : 0.02));
  const [few, asked] = [uneven(1_500), uneven(40)];
  const index = createIndex(optionsOf("cosine", "binary"));
  await index.add(range(0, 1_500), few);
  await index.flush();
  let found = 0;
  for (let q = 0; q < 40; q++) {
    const query = rowOf(asked, dimension, q);
    const { slots } = await index.search(query, { k: 10, ef: 64, scored: 60 });
    const truth = naiveSearch("cosine", few, query, 10).map(({ slot }) => slot);
    found += truth.filter((slot) => slots.includes(slot)).length;
  }
  expect(found / 400).toBeGreaterThan(0.9);
  await index.close();
});

test("they may be kept in memory, and nowhere on the disk", async () => {
  const options = { ...optionsOf("cosine", "binary"), givenFolder: "memory:" };
  const index = await filled(options);
  expect(await check(index, "cosine", count, 200)).toBeGreaterThan(0.9);
  expect(index.stats().givenBytes).toBe(0);
  expect(index.stats().otherBytes).toBeGreaterThanOrEqual(count * dimension * 4);
  await index.close();
});

test("what cannot be is refused", async () => {
  expect(() => createIndex({ ...optionsOf("l2", "binary") })).toThrow(/cosine alone/);
  expect(() => createIndex({ ...optionsOf("l2", "pq32"), givenFolder: "" })).toThrow(/pq32 goes with a folder/);
  const file = join(folder, "file");
  await writeFile(file, "");
  const index = createIndex({ ...optionsOf("l2", "i8"), givenFolder: file });
  await expect(index.add(range(0, 10), rows.subarray(0, 10 * dimension))).rejects.toMatchObject({
    code: "RESOURCE_EXHAUSTED",
    message: expect.stringContaining(file) as string,
  });
  // Nothing of it is there.
  expect(index.stats().rowCount).toBe(0);
  await index.close();
});

test.each<[Metric, Datatype]>([
  ["l2", "i4"],
  ["cosine", "binary"],
  ["l2", "pq16"],
  ["dot", "pq32"],
  ["cosine", "pq64"],
])("an exact search finds the nearest, however coarse the codes are: %s over %s", async (metric, datatype) => {
  const index = await filled(optionsOf(metric, datatype));
  const random = seededRandom(31);
  const numbers = Float32Array.from({ length: 10 * dimension }, () => gaussian(random));
  const mask = new Uint8Array(Math.ceil(count / 8)).fill(0b0101_0101);
  for (let q = 0; q < 10; q++) {
    const query = rowOf(numbers, dimension, q);
    const nearest = naiveSearch(metric, rows, query, count).map(({ slot }) => slot);
    const find = async (filter?: Uint8Array): Promise<number[]> => {
      return [
        ...(await index.search(query, { k: 10, ef: 1, exact: true, scored: 10, ...(filter && { filter }) })).slots,
      ];
    };
    expect(await find()).toEqual(nearest.slice(0, 10));
    expect(await find(mask)).toEqual(nearest.filter((slot) => slot % 2 === 0).slice(0, 10));
  }
  index.remove(range(0, count - 20));
  const left = naiveSearch(metric, rows, rowOf(numbers, dimension, 0), count).filter(({ slot }) => slot >= count - 20);
  const found = await index.search(rowOf(numbers, dimension, 0), { k: 10, ef: 1, exact: true });
  expect([...found.slots]).toEqual(left.slice(0, 10).map(({ slot }) => slot));
  const codes = await index.search(rowOf(numbers, dimension, 0), { k: 10, ef: 1, exact: true, codesOnly: true });
  expect([...codes.distances]).not.toEqual([...found.distances]);
});

/** Bytes of the files in the folder that the process has in its memory. */
async function residentBytes(): Promise<number> {
  const text = await readFile("/proc/self/smaps", "utf8");
  let isOwn = false;
  let kib = 0;
  for (const line of text.split("\n")) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) isOwn = line.includes(folder);
    else if (isOwn && line.startsWith("Rss:")) kib += Number(/\d+/.exec(line)?.[0]);
  }
  return kib * 1024;
}

test.runIf(process.platform === "linux")(
  "vectors as they were given leave the memory of the process after a load, a save and a start",
  async () => {
    const long = 4_096;
    const most = 4_600;
    const options: IndexOptions = { ...optionsOf("dot", "i8"), dimension: long, m: 4, efConstruction: 8 };
    const random = seededRandom(41);
    const index = createIndex(options);
    for (let from = 0; from < most; from += 200) {
      await index.add(range(from, from + 200), Float32Array.from({ length: 200 * long }, random));
    }
    const { givenBytes } = index.stats();
    expect(givenBytes).toBe(most * long * 4);
    await index.flush();
    await eventually(async () => expect(await residentBytes()).toBeLessThan(givenBytes / 4));
    const query = Float32Array.from({ length: long }, random);
    const found = await index.search(query, { k: 10, ef: 64 });
    const saved = join(folder, "saved");
    await index.save(saved, { sequence: 1 });
    expect(await residentBytes()).toBeLessThan(givenBytes / 4);
    await index.close();
    const loaded = await loadIndex(saved, options);
    expect(await residentBytes()).toBeLessThan(givenBytes / 4);
    const { slots, distances } = found;
    expect(await loaded?.index.search(query, { k: 10, ef: 64 })).toMatchObject({ slots, distances });
    await loaded?.index.close();
  },
);
