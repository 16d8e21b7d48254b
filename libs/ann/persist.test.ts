import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { createIndex, loadIndex, type IndexOptions, type Metric, type Datatype, type VectorIndex } from "./index.js";
import { startChild, transpileLibrary } from "./testing/child.js";
import { clustered, naiveSearch, range, rowOf } from "./testing/data.js";

const dimension = 24;
const count = 3000;
const rows = clustered(1, count, dimension);
const queries = clustered(2, 20, dimension);
const parent = mkdtempSync(join(tmpdir(), "kith-ann-"));
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(parent, "index-"));
});
afterAll(() => rmSync(parent, { recursive: true, force: true }));

function optionsOf(datatype: Datatype = "f32", metric: Metric = "l2", graphThreshold = 1000): IndexOptions {
  return { dimension, metric, datatype, m: 8, efConstruction: 60, graphThreshold };
}

interface Answer {
  slots: number[];
  distances: number[];
}

async function answers(index: VectorIndex, exact: boolean): Promise<Answer[]> {
  const found: Answer[] = [];
  for (let q = 0; q < 20; q++) {
    const { slots, distances } = await index.search(rowOf(queries, dimension, q), { k: 10, ef: 80, exact });
    found.push({ slots: [...slots], distances: [...distances] });
  }
  return found;
}

/** The share of the slots of `a` that `b` has too. */
function overlap(a: readonly Answer[], b: readonly Answer[]): number {
  const shared = a.map(({ slots }, q) => slots.filter((slot) => b[q]?.slots.includes(slot)).length / slots.length);
  return shared.reduce((sum, each) => sum + each, 0) / shared.length;
}

async function load(options: IndexOptions): Promise<VectorIndex> {
  const loaded = await loadIndex(directory, options);
  if (loaded === undefined) throw new Error("nothing was saved");
  return loaded.index;
}

test.each([
  ["f32", "l2", 1000],
  ["f16", "cosine", 1000],
  ["bf16", "dot", 1000],
  ["i8", "l2", 1000],
  ["i8", "cosine", 1000],
  ["i8", "l2", 100_000],
  ["f32", "cosine", 100_000],
] as const)(
  "%s %s (graph from %i rows): a loaded index answers like the saved one",
  async (datatype, metric, threshold) => {
    const options = optionsOf(datatype, metric, threshold);
    const index = createIndex(options);
    await index.add(range(0, count), rows);
    await index.flush();
    index.remove(Uint32Array.of(1, 2, 3, 2999));
    const { bytes } = await index.save(directory, { sequence: 42, extra: { generation: 3, model: "hash" } });
    expect(bytes).toBeGreaterThan(count * dimension);
    const loaded = await loadIndex(directory, options);
    expect([loaded?.sequence, loaded?.extra]).toEqual([42, { generation: 3, model: "hash" }]);
    const copy = loaded?.index as VectorIndex;
    expect(copy.stats()).toMatchObject({ rowCount: count, aliveCount: count - 4 });
    expect(copy.stats().graphRowCount).toBe(index.stats().graphRowCount);
    expect(await answers(copy, true)).toEqual(await answers(index, true));
    // Not the same through the graph: both go on to look after their links.
    expect(overlap(await answers(copy, false), await answers(index, false))).toBeGreaterThan(0.97);
    expect(copy.get(1)).toBeUndefined();
    expect(copy.get(7)).toEqual(index.get(7));
    // It goes on from there: for i8 below the threshold this fits the scale anew from the saved originals.
    const more = clustered(7, 500, dimension).map((x) => 2 * x);
    for (const each of [index, copy]) {
      await each.add(range(count, count + 500), more);
      await each.flush();
    }
    const found = await copy.search(rowOf(more, dimension, 77), { k: 1, ef: 80 });
    expect(found.slots[0]).toBe(count + 77);
    await Promise.all([index.close(), copy.close()]);
  },
);

test("an empty index, slots of the caller's choice, and slots used again survive", async () => {
  const empty = createIndex(optionsOf());
  await empty.save(directory, { sequence: 0 });
  const copy = await load(optionsOf());
  expect((await copy.search(rowOf(queries, dimension, 0), { k: 5, ef: 10 })).slots.length).toBe(0);
  await copy.add(Uint32Array.of(900, 7, 4_000_000_000), rows.subarray(0, 3 * dimension));
  copy.remove(Uint32Array.of(7));
  await copy.add(Uint32Array.of(7), rows.subarray(5 * dimension, 6 * dimension));
  await copy.save(directory, { sequence: 1 });
  const again = await load(optionsOf());
  const found = await again.search(rowOf(rows, dimension, 5), { k: 4, ef: 10 });
  expect(found.slots[0]).toBe(7);
  expect(found.slots.length).toBe(3);
  expect(again.get(4_000_000_000)).toEqual(rows.slice(2 * dimension, 3 * dimension));
  await Promise.all([empty.close(), copy.close(), again.close()]);
});

test("a save holds what was there at the call: later rows and removals are not in it", async () => {
  const index = createIndex(optionsOf());
  await index.add(range(0, 2000), rows.subarray(0, 2000 * dimension));
  const saving = index.save(directory, { sequence: 1 });
  await index.add(range(2000, count), rows.subarray(2000 * dimension));
  index.remove(range(0, 500));
  await saving;
  await index.flush();
  const copy = await load(optionsOf());
  expect(copy.stats()).toMatchObject({ rowCount: 2000, aliveCount: 2000 });
  await copy.flush();
  const wanted = naiveSearch("l2", rows.subarray(0, 2000 * dimension), rowOf(rows, dimension, 2), 1);
  expect((await copy.search(rowOf(rows, dimension, 2), { k: 1, ef: 80 })).slots[0]).toBe(wanted[0]?.slot);
  await Promise.all([index.close(), copy.close()]);
});

test("saves in a row leave the files of the last one alone", async () => {
  const index = createIndex(optionsOf());
  await index.add(range(0, 2000), rows.subarray(0, 2000 * dimension));
  writeFileSync(join(directory, "rows-00ff.bin.tmp"), "left by a killed save");
  await Promise.all([1, 2, 3].map((sequence) => index.save(directory, { sequence })));
  expect(
    readdirSync(directory)
      .sort()
      .map((name) => name.replace(/-[0-9a-f]+/, "")),
  ).toEqual(["graph.bin", "manifest.json", "meta.bin", "rows.bin"]);
  expect((await loadIndex(directory, optionsOf()))?.sequence).toBe(3);
  await index.close();
});

test("no manifest means no index; a folder that cannot be made is an error", async () => {
  expect(await loadIndex(directory, optionsOf())).toBeUndefined();
  expect(await loadIndex(join(directory, "none"), optionsOf())).toBeUndefined();
  const index = createIndex(optionsOf());
  writeFileSync(join(directory, "file"), "");
  await expect(index.save(join(directory, "file", "below"), { sequence: 1 })).rejects.toMatchObject({
    code: "INTERNAL",
  });
  await expect(index.save(directory, { sequence: 1, extra: { a: "x".repeat(70_000) } })).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
  });
  await index.close();
});

test("a save that cannot write its graph is an error, and the process goes on", async () => {
  const index = createIndex(optionsOf());
  await index.add(range(0, 2000), rows.subarray(0, 2000 * dimension));
  await index.flush();
  // The system takes a path so long, but none with a file name more.
  const longest = process.platform === "darwin" ? 1024 : 4096;
  let deep = directory;
  while (deep.length < longest - 10) deep += `/${"d".repeat(Math.min(100, longest - 11 - deep.length))}`;
  await expect(index.save(deep, { sequence: 1 })).rejects.toMatchObject({ code: "INTERNAL" });
  await index.save(directory, { sequence: 2 });
  const copy = await load(optionsOf());
  expect(copy.stats().rowCount).toBe(2000);
  await Promise.all([index.close(), copy.close()]);
});

test("a load that is cancelled at any moment is an error, and the process goes on", async () => {
  // A graph of some megabytes, so that many moments fall into its being read.
  const options = { ...optionsOf(), dimension: 2, m: 64, efConstruction: 4 };
  const index = createIndex(options);
  await index.add(range(0, 12_000), rows.subarray(0, 2 * 12_000));
  await index.flush();
  await index.save(directory, { sequence: 1 });
  await index.close();
  let cancelled = 0;
  // Later by a tenth each time: what is loaded takes some hundreds of turns.
  for (let turns = 1, ended = false; !ended; turns = Math.ceil(turns * 1.1)) {
    const abort = new AbortController();
    const loading = loadIndex(directory, options, { signal: abort.signal }).then(
      async (loaded) => {
        ended = true;
        await loaded?.index.close();
      },
      (error: unknown) => {
        expect(error).toMatchObject({ code: "CANCELLED" });
        cancelled++;
      },
    );
    for (let turn = 0; turn < turns && !ended; turn++) await setImmediate();
    abort.abort();
    await loading;
  }
  expect(cancelled).toBeGreaterThan(0);
});

test.each(["f32", "i8"] as const)(
  "%s: a save writes the rows that are new, and all that is loaded is as before",
  async (datatype) => {
    const options = optionsOf(datatype);
    const index = createIndex(options);
    await index.add(range(0, 2_000), rows.subarray(0, 2_000 * dimension));
    await index.flush();
    const first = await index.save(directory, { sequence: 1 });
    expect(first.writtenBytes).toBe(first.bytes);
    await index.add(range(2_000, 2_100), rows.subarray(2_000 * dimension, 2_100 * dimension));
    index.remove(range(0, 10));
    await index.flush();
    const second = await index.save(directory, { sequence: 2 });
    // Rows are a cache line each, or two in f32; graph and slots are written as a whole.
    const rowBytes = datatype === "f32" ? 128 : 64;
    expect(second.bytes - (second.writtenBytes ?? 0)).toBe(2_000 * rowBytes);
    const wanted = await answers(index, true);
    await index.close();
    const copy = await load(options);
    expect(await answers(copy, true)).toEqual(wanted);
    // What was loaded is appended to as well.
    await copy.add(range(2_100, 2_200), rows.subarray(2_100 * dimension, 2_200 * dimension));
    await copy.flush();
    const third = await copy.save(directory, { sequence: 3 });
    expect(third.bytes - (third.writtenBytes ?? 0)).toBe(2_100 * rowBytes);
    await copy.close();
  },
);

test("the graph grows while it is saved", async () => {
  const many = 40_000;
  const index = createIndex({ ...optionsOf(), tailRowsMax: many });
  await index.add(range(0, many), clustered(5, many, dimension));
  let grown = 0;
  while (index.stats().graphRowCount < many / 2) {
    const before = index.stats().graphRowCount;
    await index.save(directory, { sequence: 1 });
    grown = Math.max(grown, index.stats().graphRowCount - before);
  }
  expect(grown).toBeGreaterThan(100);
  await index.close();
});

describe("what is damaged is refused", () => {
  const saved = join(parent, "saved");
  const options = optionsOf("i8");
  async function prepare(): Promise<void> {
    if (!existsSync(saved)) {
      const index = createIndex(options);
      await index.add(range(10, 10 + count), rows);
      await index.flush();
      await index.save(saved, { sequence: 5 });
      await index.close();
    }
    cpSync(saved, directory, { recursive: true });
  }
  const fileOf = (kind: string): string => {
    const name = readdirSync(directory).find((each) => each.startsWith(kind));
    if (name === undefined) throw new Error(`no ${kind} file`);
    return join(directory, name);
  };

  test.each(["manifest", "rows", "graph", "meta"])("%s: one flipped bit anywhere", async (kind) => {
    await prepare();
    const path = fileOf(kind);
    const intact = readFileSync(path);
    for (let part = 0; part <= 12; part++) {
      const at = Math.min(intact.length - 1, Math.floor((intact.length * part) / 12));
      const damaged = Buffer.from(intact);
      damaged.writeUInt8(damaged.readUInt8(at) ^ (1 << (part & 7)), at);
      writeFileSync(path, damaged);
      await expect(loadIndex(directory, options)).rejects.toMatchObject({ code: "CORRUPT_DATA" });
    }
    writeFileSync(path, intact);
    const copy = await load(options);
    await copy.close();
  });

  test.each(["manifest", "rows", "graph", "meta"])("%s: cut short, longer, or gone", async (kind) => {
    await prepare();
    const path = fileOf(kind);
    const intact = readFileSync(path);
    for (const bytes of [0, 1, intact.length - 1]) {
      writeFileSync(path, intact);
      truncateSync(path, bytes);
      await expect(loadIndex(directory, options)).rejects.toMatchObject({ code: "CORRUPT_DATA" });
    }
    writeFileSync(path, Buffer.concat([intact, Buffer.from("x")]));
    await expect(loadIndex(directory, options)).rejects.toMatchObject({ code: "CORRUPT_DATA" });
    rmSync(path);
    if (kind === "manifest") expect(await loadIndex(directory, options)).toBeUndefined();
    else await expect(loadIndex(directory, options)).rejects.toMatchObject({ code: "CORRUPT_DATA" });
  });

  test.each([{ dimension: 25 }, { metric: "dot" }, { datatype: "f32" }, { m: 9 }, { efConstruction: 61 }] as const)(
    "other options: %o",
    async (other) => {
      await prepare();
      await expect(loadIndex(directory, { ...options, ...other })).rejects.toMatchObject({ code: "CORRUPT_DATA" });
    },
  );

  test("a load can be cancelled", async () => {
    await prepare();
    await expect(loadIndex(directory, options, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: "CANCELLED",
    });
  });
});

test("kill -9 in the middle of saves leaves a whole index, every time", async () => {
  const library = transpileLibrary();
  // Each save follows an add, so sequence n has exactly 1000 + 50 n rows; the child saves until it is killed.
  const script = `${library.importLine}
    const [directory, first] = process.argv.slice(1);
    const options = ${JSON.stringify(optionsOf("f32", "l2", 500))};
    const rows = (from, to) => Float32Array.from({ length: (to - from) * ${dimension} },
      (_, i) => Math.sin((from * ${dimension} + i) * 12.9898) * 43758.5453 % 1);
    const slots = (from, to) => Uint32Array.from({ length: to - from }, (_, i) => from + i);
    const loaded = await loadIndex(directory, options);
    const index = loaded?.index ?? createIndex(options);
    let sequence = loaded?.sequence ?? 0;
    if (sequence === 0) await index.add(slots(0, 1000), rows(0, 1000));
    for (;;) {
      const from = 1000 + 50 * sequence;
      await index.add(slots(from, from + 50), rows(from, from + 50));
      await index.save(directory, { sequence: ++sequence });
      console.log(sequence);
    }`;
  try {
    let least = 0;
    for (let round = 0; round < 6; round++) {
      const child = startChild(script, [directory]);
      let last = least;
      for (let saves = 0; saves < 3 + round; saves++) {
        const line = await child.lines.next();
        if (line.done === true) throw new Error(`the child ended: ${(await child.exit).errors}`);
        last = Number(line.value);
      }
      // The child is now somewhere in its next save.
      child.process.kill("SIGKILL");
      await child.exit;
      const loaded = await loadIndex(directory, optionsOf("f32", "l2", 500));
      const { sequence = 0, index } = loaded ?? {};
      if (index === undefined) throw new Error("no index was left");
      expect(sequence).toBeGreaterThanOrEqual(last);
      const total = 1000 + 50 * sequence;
      expect(index.stats().rowCount).toBe(total);
      await index.flush();
      let self = 0;
      for (let slot = 0; slot < total; slot++) {
        const vector = index.get(slot);
        if (vector === undefined) throw new Error(`slot ${slot} is gone`);
        if ((await index.search(vector, { k: 1, ef: 64 })).slots[0] === slot) self++;
      }
      expect(self / total).toBeGreaterThanOrEqual(0.999);
      await index.close();
      least = sequence;
    }
    expect(statSync(directory).isDirectory()).toBe(true);
  } finally {
    library.remove();
  }
});
