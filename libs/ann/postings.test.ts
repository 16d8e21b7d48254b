import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { type PostingRows, PostingsIndex, type PostingsOptions, type PostingsQuery } from "./index.js";
import { forceSimd } from "./testing.js";

/** A small generator of its own: the tests print nothing and begin with the same numbers each time. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

interface Row {
  terms: number[];
  counts: number[][];
  values: number[];
  lengths: number[];
}

const termCount = 60;

function rowOf(random: () => number, fields: number, negative: boolean): Row {
  const terms: number[] = [];
  // Low terms are in most rows, high ones in few.
  for (let term = 0; term < termCount; term++) if (random() < 0.9 / (1 + term * 0.3)) terms.push(term);
  const counts = terms.map(() => {
    const held: number[] = Array.from({ length: fields }, () =>
      random() < 0.5 ? 0 : 1 + Math.floor(random() * 200 ** random()),
    );
    if (fields > 0 && !held.some((count) => count > 0)) held[0] = 1;
    return held;
  });
  const lengths = Array.from({ length: fields }, (_, f) => counts.reduce((sum, held) => sum + (held[f] as number), 0));
  const values = terms.map(() => Math.fround(negative ? random() * 2 - 0.7 : random()));
  return { terms, counts, values, lengths };
}

function rowsOf(slots: number[], rows: Row[]): PostingRows {
  const offsets: number[] = [0];
  for (const row of rows) offsets.push((offsets.at(-1) as number) + row.terms.length);
  return {
    slots: Uint32Array.from(slots),
    offsets: Uint32Array.from(offsets),
    terms: Uint32Array.from(rows.flatMap((row) => row.terms)),
    counts: Uint32Array.from(rows.flatMap((row) => row.counts.flat())),
    values: Float32Array.from(rows.flatMap((row) => row.values)),
    lengths: Uint32Array.from(rows.flatMap((row) => row.lengths)),
  };
}

/** The same by hand: every row, every term. */
function naive(
  rows: ReadonlyMap<number, Row>,
  options: PostingsOptions,
  query: PostingsQuery,
  allows: (slot: number) => boolean,
): Map<number, number> {
  const scores = new Map<number, number>();
  for (const [slot, row] of rows) {
    if (!allows(slot)) continue;
    let score = 0;
    const matched = new Set<number>();
    for (const { term, weight, clause } of query.terms) {
      const at = row.terms.indexOf(term);
      if (at < 0) continue;
      matched.add(clause);
      if (query.clauses[clause] === "mustNot") continue;
      if (options.kind === "values") {
        score += weight * (row.values[at] as number);
        continue;
      }
      let x = 0;
      options.fields.forEach(({ b, weight: boost }, f) => {
        const average = query.averages?.[f] ?? 0;
        const norm = average > 0 ? 1 - b + (b * (row.lengths[f] as number)) / average : 1;
        const count = row.counts[at]?.[f] as number;
        if (count > 0) x += (boost * count) / norm;
      });
      score += (weight * (options.k1 + 1) * x) / (options.k1 + x);
    }
    const isResult = query.clauses.every((kind, i) =>
      kind === "must" ? matched.has(i) : kind === "mustNot" ? !matched.has(i) : true,
    );
    if (isResult && [...matched].some((clause) => query.clauses[clause] !== "mustNot")) scores.set(slot, score);
  }
  return scores;
}

const directory = mkdtempSync(join(tmpdir(), "kith-postings-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const forms: [string, PostingsOptions][] = [
  ["values", { kind: "values" }],
  ["one field", { kind: "text", k1: 1.2, fields: [{ b: 0.75, weight: 1 }] }],
  [
    "three fields",
    {
      kind: "text",
      k1: 0.9,
      fields: [
        { b: 0.4, weight: 2 },
        { b: 1, weight: 0.5 },
        { b: 0, weight: 1 },
      ],
    },
  ],
];

async function expectSame(
  index: PostingsIndex,
  options: PostingsOptions,
  rows: ReadonlyMap<number, Row>,
  random: () => number,
): Promise<void> {
  const fields = options.kind === "values" ? 0 : options.fields.length;
  for (let round = 0; round < 12; round++) {
    const clauses = Array.from({ length: 1 + Math.floor(random() * 4) }, () => {
      const chance = options.kind === "values" ? 0 : random();
      return chance < 0.7 ? "should" : chance < 0.9 ? "must" : "mustNot";
    });
    const terms = [
      ...new Set(Array.from({ length: 1 + Math.floor(random() * 6) }, () => Math.floor(random() * 64))),
    ].map((term) => ({ term, weight: Math.fround(random() * 3), clause: Math.floor(random() * clauses.length) }));
    const averages = Array.from({ length: fields }, () => 1 + random() * 500);
    const query: PostingsQuery = { clauses, terms, averages };
    const isFiltered = random() < 0.5;
    const filter = new Uint8Array(400).map(() => (isFiltered ? Math.floor(random() * 256) : 255));
    const k = 1 + Math.floor(random() * 30);
    const expected = naive(rows, options, query, (slot) => ((filter[slot >> 3] as number) >> (slot & 7)) % 2 === 1);
    const found = await index.search(query, { k, ...(isFiltered && { filter }) });
    const best = [...expected.values()].sort((a, b) => b - a).slice(0, k);
    expect(found.slots.length).toBe(best.length);
    best.forEach((score, i) => {
      expect(-(found.distances[i] as number)).toBeCloseTo(score, 3);
      expect(-(found.distances[i] as number)).toBeCloseTo(expected.get(found.slots[i] as number) as number, 3);
    });
  }
}

/** Sums in the order of the query, in f64, as the index gives them. */
function dots(
  rows: ReadonlyMap<number, Row>,
  terms: PostingsQuery["terms"],
  allows: (slot: number) => boolean,
): { slot: number; distance: number }[] {
  const found: { slot: number; distance: number }[] = [];
  for (const [slot, row] of rows) {
    if (!allows(slot)) continue;
    let score = 0;
    let any = false;
    for (const { term, weight } of terms) {
      const at = row.terms.indexOf(term);
      if (at < 0) continue;
      any = true;
      score += weight * (row.values[at] as number);
    }
    if (any) found.push({ slot, distance: Math.fround(-score) });
  }
  return found.sort((a, b) => a.distance - b.distance || a.slot - b.slot);
}

describe("an index of values with columns", () => {
  const kernels = (["portable", "avx2", "avx512", "neon"] as const).filter((name) => forceSimd(name));
  afterAll(() => void forceSimd(undefined));

  // Weights that are all positive; that are not; tiny and huge ones; whole numbers, with many equal scores.
  const weights: [string, (random: () => number) => number][] = [
    ["positive", (random) => Math.fround(Math.exp(random() * 3 - 2))],
    ["of both signs", (random) => Math.fround(random() - 0.3)],
    ["far apart", (random) => Math.fround(10 ** (random() * 60 - 42))],
    ["whole", (random) => Math.floor(random() * 4)],
  ];

  it.each(weights)("gives the best, with the scores and in the order of all dot products: %s", async (name, weight) => {
    const random = randomOf(name.length * 104_729);
    const index = PostingsIndex.create({ kind: "values" });
    const rows = new Map<number, Row>();
    const rowWith = (): Row => {
      const terms: number[] = [];
      for (let term = 0; term < termCount; term++) if (random() < 1.1 / (1 + term * 0.3)) terms.push(term);
      return { terms, counts: [], lengths: [], values: terms.map(() => weight(random)) };
    };
    const count = 9_000;
    for (let from = 0; from < count; from += 4_500) {
      const slots = Array.from({ length: 4_500 }, (_, i) => from + i);
      const added = slots.map(rowWith);
      slots.forEach((slot, i) => rows.set(slot, added[i] as Row));
      await index.add(rowsOf(slots, added));
    }
    const gone = [...rows.keys()].filter(() => random() < 0.1);
    index.remove(Uint32Array.from(gone));
    for (const slot of gone) rows.delete(slot);
    const expectBest = async (k: number, filter?: Uint8Array): Promise<void> => {
      const terms = [...new Set(Array.from({ length: 12 }, () => Math.floor(random() ** 2 * 64)))].map((term) => {
        return { term, weight: weight(random), clause: 0 };
      });
      const expected = dots(rows, terms, (slot) => {
        return filter === undefined || ((filter[slot >> 3] as number) >> (slot & 7)) % 2 === 1;
      }).slice(0, k);
      for (const kernel of kernels) {
        forceSimd(kernel);
        const found = await index.search({ clauses: ["should"], terms }, { k, ...(filter && { filter }) });
        expect([...found.slots]).toEqual(expected.map(({ slot }) => slot));
        expect([...found.distances].map((distance) => distance + 0)).toEqual(
          expected.map(({ distance }) => distance + 0),
        );
      }
    };
    for (const k of [1, 3, 10, 10, 10, 10, 100, 1_000, 10_000]) await expectBest(k);
    for (const allowed of [0.5, 0.1, 0.01]) {
      await expectBest(
        10,
        new Uint8Array(count / 8).map(() => byteOf(() => random() < allowed)),
      );
    }
    await index.close();
  });
});

/** A byte of which each bit is drawn. */
function byteOf(bit: () => boolean): number {
  let byte = 0;
  for (let i = 0; i < 8; i++) byte |= Number(bit()) << i;
  return byte;
}

describe("an index of postings", () => {
  it.each(forms)("finds what a look at every row finds: %s", async (name, options) => {
    const random = randomOf(name.length * 7919);
    const fields = options.kind === "values" ? 0 : options.fields.length;
    const index = PostingsIndex.create(options);
    const rows = new Map<number, Row>();
    let nextSlot = 0;
    for (let batch = 0; batch < 40; batch++) {
      const slots = Array.from({ length: 1 + Math.floor(random() * 80) }, () => nextSlot++);
      const added = slots.map(() => rowOf(random, fields, options.kind === "values"));
      await index.add(rowsOf(slots, added));
      slots.forEach((slot, i) => rows.set(slot, added[i] as Row));
      const gone = [...rows.keys()].filter(() => random() < 0.05);
      index.remove(Uint32Array.from([...gone, 3_000_000]));
      for (const slot of gone) rows.delete(slot);
      if (batch % 10 === 9) await expectSame(index, options, rows, random);
      // Slots may be used again.
      const again = gone.slice(0, 2);
      const others = again.map(() => rowOf(random, fields, options.kind === "values"));
      await index.add(rowsOf(again, others));
      again.forEach((slot, i) => rows.set(slot, others[i] as Row));
    }
    await index.flush();
    await expectSame(index, options, rows, random);
    const counts = index.termCounts(Uint32Array.from({ length: termCount }, (_, term) => term));
    counts.forEach((count, term) =>
      expect(count).toBe([...rows.values()].filter(({ terms }) => terms.includes(term)).length),
    );
    const stats = index.stats();
    expect(stats.aliveCount).toBe(rows.size);
    stats.lengths.forEach((length, f) =>
      expect(length).toBe([...rows.values()].reduce((sum, row) => sum + (row.lengths[f] as number), 0)),
    );

    const path = join(directory, `${name}.bin`);
    const sum = await index.save(path);
    await index.close();
    const loaded = await PostingsIndex.load(options, path, sum);
    expect(loaded.stats()).toMatchObject({ aliveCount: rows.size, lengths: stats.lengths });
    await expectSame(loaded, options, rows, random);
    await loaded.close();
    const bytes = readFileSync(path);
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] as number) ^ 1;
    writeFileSync(path, bytes);
    await expect(PostingsIndex.load(options, path, sum)).rejects.toMatchObject({ code: "CORRUPT_DATA" });
  });

  it("passes over blocks that cannot hold a result", async () => {
    const index = PostingsIndex.create({ kind: "text", k1: 1.2, fields: [{ b: 0, weight: 1 }] });
    const count = 20_000;
    await index.add({
      slots: Uint32Array.from({ length: count }, (_, i) => i),
      offsets: Uint32Array.from({ length: count + 1 }, (_, i) => i),
      terms: new Uint32Array(count),
      counts: Uint32Array.from({ length: count }, (_, i) => (i < 10 ? 100 + i : 1)),
      lengths: new Uint32Array(count).fill(200),
    });
    const query: PostingsQuery = {
      clauses: ["should"],
      terms: [{ term: 0, weight: 1, clause: 0 }],
      averages: [200],
    };
    const found = await index.search(query, { k: 5 });
    expect([...found.slots]).toEqual([9, 8, 7, 6, 5]);
    expect(found.postings).toBe(count);
    expect(found.scoredRows).toBeLessThan(200);
    expect(found.decodedBlocks).toBeLessThan(5);
    await index.close();
  });

  it("passes over ranges of values that cannot hold a result", async () => {
    const index = PostingsIndex.create({ kind: "values" });
    const count = 20_000;
    await index.add({
      slots: Uint32Array.from({ length: count }, (_, i) => i),
      offsets: Uint32Array.from({ length: count + 1 }, (_, i) => i),
      terms: new Uint32Array(count),
      values: Float32Array.from({ length: count }, (_, i) => (i < 10 || i === 7777 ? 100 + (i % 1000) : 1)),
    });
    const query: PostingsQuery = { clauses: ["should"], terms: [{ term: 0, weight: 1, clause: 0 }] };
    const found = await index.search(query, { k: 5 });
    expect([...found.slots]).toEqual([7777, 9, 8, 7, 6]);
    expect(found.postings).toBe(count);
    // The first range, and one row of the one that the largest value is in.
    expect(found.scoredRows).toBe(2048 + 1);
    expect(found.decodedBlocks).toBe(16 + 1);
    await index.close();
  });

  it("refuses a slot that is alive, without an effect, and ends a search that was cancelled", async () => {
    const index = PostingsIndex.create({ kind: "values" });
    const row = (slots: number[]): PostingRows => ({
      slots: Uint32Array.from(slots),
      offsets: Uint32Array.from({ length: slots.length + 1 }, (_, i) => i),
      terms: new Uint32Array(slots.length),
      values: new Float32Array(slots.length).fill(1),
    });
    await index.add(row([1, 2]));
    expect(() => index.add(row([3, 2]))).toThrow(/slot 2/);
    const query: PostingsQuery = { clauses: ["should"], terms: [{ term: 0, weight: 1, clause: 0 }] };
    expect([...(await index.search(query, { k: 10 })).slots]).toEqual([1, 2]);
    expect([...(await index.search(query, { k: 10, slots: Uint32Array.of(2, 9) })).slots]).toEqual([2]);
    // A search sees the state of the call's moment.
    const under = index.search(query, { k: 10 });
    index.remove(Uint32Array.of(1));
    await index.add(row([1]));
    expect([...(await under).slots]).toEqual([1, 2]);
    const aborted = AbortSignal.abort();
    await expect(index.search(query, { k: 10, signal: aborted })).rejects.toMatchObject({ code: "CANCELLED" });
    await index.close();
    expect(() => index.stats()).toThrow(/closed/);
  });
});
