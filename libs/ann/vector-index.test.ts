import { expect, test } from "vitest";
import { KithError, abortReason, heardByMany } from "../base/index.js";
import { configurePool, createIndex, nativeInfo, type IndexOptions } from "./index.js";
import { startChild, transpileLibrary } from "./testing/child.js";
import { bitset, clustered, range, recall, rowOf, seededRandom } from "./testing/data.js";

const dimension = 16;
const options: IndexOptions = {
  dimension,
  metric: "l2",
  datatype: "f32",
  m: 16,
  efConstruction: 80,
  graphThreshold: 500,
};

test("what was added is found at once, with its distance", async () => {
  const index = createIndex({ ...options, dimension: 2 });
  await index.add(Uint32Array.of(0, 1, 2), Float32Array.of(0, 0, 3, 4, 1, 0));
  const found = await index.search(Float32Array.of(0, 0), { k: 2, ef: 10 });
  expect([...found.slots]).toEqual([0, 2]);
  expect([...found.distances]).toEqual([0, 1]);
  expect(found.plan).toBe("scan");
  await index.close();
});

test("equal distances are ordered by slot", async () => {
  const index = createIndex({ ...options, dimension: 1 });
  await index.add(Uint32Array.of(9, 4, 6, 2), Float32Array.of(1, -1, 1, -1));
  const found = await index.search(Float32Array.of(0), { k: 3, ef: 3 });
  expect([...found.slots]).toEqual([2, 4, 6]);
  await index.close();
});

test("rows not yet in the graph are found beside those that are", async () => {
  const rows = clustered(1, 30_000, dimension);
  const index = createIndex({ ...options, tailRowsMax: 1_000_000 });
  await index.add(range(0, 2000), rows.subarray(0, 2000 * dimension));
  await index.flush();
  await index.add(range(2000, 30_000), rows.subarray(2000 * dimension));
  // The writer needs a second for these; the very last one is there now, and in one of the first searches by a scan.
  const found = await index.search(rowOf(rows, dimension, 29_999), { k: 1, ef: 64 });
  expect([found.slots[0], found.distances[0], found.plan]).toEqual([29_999, 0, "graph+scan"]);
  const filtered = await index.search(rowOf(rows, dimension, 29_999), {
    k: 2,
    ef: 64,
    filter: bitset([5, 29_990], 30_000),
  });
  expect(new Set(filtered.slots)).toEqual(new Set([5, 29_990]));
  await index.flush();
  const later = await index.search(rowOf(rows, dimension, 29_999), { k: 1, ef: 64 });
  expect([later.slots[0], later.plan]).toEqual([29_999, "graph"]);
  expect(index.stats()).toMatchObject({ rowCount: 30_000, graphRowCount: 30_000, tailRowCount: 0 });
  await index.close();
});

test("add waits while more rows than tailRowsMax wait for the graph", async () => {
  const rows = clustered(2, 8000, dimension);
  const index = createIndex({ ...options, tailRowsMax: 1000 });
  for (let from = 0; from < 8000; from += 2000) {
    await index.add(range(from, from + 2000), rows.subarray(from * dimension, (from + 2000) * dimension));
    expect(index.stats().tailRowCount).toBeLessThanOrEqual(1000);
  }
  await index.close();
});

test("every vector finds itself after writes, updates and removals beside searches", async () => {
  const total = 12_000;
  const rows = clustered(3, total, dimension);
  const index = createIndex(options);
  const random = seededRandom(4);
  let added = 0;
  let searches = 0;
  const searching = Array.from({ length: 4 }, async () => {
    while (added < total) {
      const slot = Math.floor(random() * total);
      const found = await index.search(rowOf(rows, dimension, slot), { k: 5, ef: 64 });
      expect(found.slots.every((each) => each < total)).toBe(true);
      searches++;
    }
  });
  const replaced = new Set<number>();
  while (added < total) {
    const upTo = Math.min(total, added + 150);
    await index.add(range(added, upTo), rows.subarray(added * dimension, upTo * dimension));
    // An update: the slot's old row dies, and the slot comes back with another vector.
    const slot = Math.floor(random() * upTo);
    for (let i = 0; i < dimension; i++) rows[slot * dimension + i] = (rows[slot * dimension + i] ?? 0) + 0.01;
    index.remove(Uint32Array.of(slot));
    await index.add(Uint32Array.of(slot), rowOf(rows, dimension, slot));
    replaced.add(slot);
    added = upTo;
  }
  await Promise.all(searching);
  await index.flush();
  expect(searches).toBeGreaterThan(10);
  expect(index.stats().aliveCount).toBe(total);
  let self = 0;
  for (let slot = 0; slot < total; slot++) {
    const found = await index.search(rowOf(rows, dimension, slot), { k: 1, ef: 64 });
    if (found.slots[0] === slot && found.distances[0] === 0) self++;
  }
  expect(self / total).toBeGreaterThanOrEqual(0.999);
  for (const slot of replaced) expect(index.get(slot)).toEqual(rowOf(rows, dimension, slot));
  await index.close();
});

test("the graph built beside searches is as good as the exact answer", async () => {
  const rows = clustered(5, 6000, dimension);
  const index = createIndex(options);
  const adding = index.add(range(0, 6000), rows);
  await Promise.all(
    range(0, 6000)
      .filter((slot) => slot % 10 === 0)
      .reduce<Promise<unknown>[]>((all, slot) => {
        all.push(index.search(rowOf(rows, dimension, slot), { k: 10, ef: 64 }));
        return all;
      }, []),
  );
  await adding;
  await index.flush();
  let sum = 0;
  for (let q = 0; q < 100; q++) {
    const query = rowOf(clustered(100 + q, 1, dimension), dimension, 0);
    const exact = await index.search(query, { k: 10, ef: 10, exact: true });
    sum += recall(exact.slots, (await index.search(query, { k: 10, ef: 64 })).slots) / 100;
  }
  expect(sum).toBeGreaterThanOrEqual(0.97);
  await index.close();
});

test("what cannot be stored is refused, whole batches at a time", async () => {
  const index = createIndex({ ...options, dimension: 2, metric: "cosine" });
  const refusals: [Uint32Array, Float32Array, string, RegExp][] = [
    [Uint32Array.of(1, 2), Float32Array.of(1, 2, Number.NaN, 0), "INVALID_ARGUMENT", /slot 2 .*NaN/],
    [Uint32Array.of(1), Float32Array.of(Number.POSITIVE_INFINITY, 0), "INVALID_ARGUMENT", /infinite/],
    [Uint32Array.of(1, 2), Float32Array.of(1, 2, 0, 0), "INVALID_ARGUMENT", /slot 2 is zero/],
    [Uint32Array.of(1, 1), Float32Array.of(1, 2, 3, 4), "INVALID_ARGUMENT", /slot 1 .*twice/],
    [Uint32Array.of(1), Float32Array.of(1, 2, 3), "DIMENSION_MISMATCH", /3 numbers/],
    [Uint32Array.of(0xffffffff), Float32Array.of(1, 2), "INVALID_ARGUMENT", /reserved/],
  ];
  for (const [slots, vectors, code, text] of refusals) {
    await expect(index.add(slots, vectors)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(text) as string,
    });
  }
  expect(index.stats().rowCount).toBe(0);
  await index.add(Uint32Array.of(1), Float32Array.of(1, 2));
  await expect(index.add(Uint32Array.of(7, 1), Float32Array.of(1, 2, 3, 4))).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
  });
  await index.add(new Uint32Array(0), new Float32Array(0));
  expect(index.stats()).toMatchObject({ rowCount: 1, aliveCount: 1 });
  await index.close();
});

test("searches that make no sense are refused with what is wrong", async () => {
  const index = createIndex({ ...options, dimension: 2, metric: "cosine" });
  const query = Float32Array.of(1, 0);
  const refusals: [Float32Array, Parameters<typeof index.search>[1], string][] = [
    [Float32Array.of(1), { k: 1, ef: 1 }, "DIMENSION_MISMATCH"],
    [Float32Array.of(1, Number.NaN), { k: 1, ef: 1 }, "VECTOR_NOT_FINITE"],
    [Float32Array.of(0, 0), { k: 1, ef: 1 }, "ZERO_VECTOR"],
    [query, { k: 0, ef: 1 }, "LIMIT_OUT_OF_RANGE"],
    [query, { k: 1_000_000, ef: 1 }, "LIMIT_OUT_OF_RANGE"],
    [query, { k: 1.5, ef: 1 }, "LIMIT_OUT_OF_RANGE"],
    [query, { k: 1, ef: -1 }, "LIMIT_OUT_OF_RANGE"],
    [query, { k: 1, ef: 1, filter: new Uint8Array(1), slots: new Uint32Array(1) }, "INVALID_ARGUMENT"],
    [query, { k: 1, ef: 1, signal: AbortSignal.abort() }, "CANCELLED"],
  ];
  for (const [vector, how, code] of refusals) await expect(index.search(vector, how)).rejects.toMatchObject({ code });
  await index.close();
  await expect(index.search(query, { k: 1, ef: 1 })).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  await expect(index.add(Uint32Array.of(1), query)).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  expect(() => index.stats()).toThrow(KithError);
});

test("options out of range are refused", () => {
  const wrong: Partial<IndexOptions>[] = [
    { dimension: 0 },
    { dimension: 100_000 },
    { m: 1 },
    { efConstruction: 0 },
    { graphThreshold: -1 },
    { tailRowsMax: 0 },
    { metric: "hamming" as "l2" },
    { datatype: "f64" as "f32" },
  ];
  for (const each of wrong) {
    expect(() => createIndex({ ...options, ...each })).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT" }) as Error,
    );
  }
  expect(() => configurePool({ threads: 0 })).toThrow(/threads is 0/);
  createIndex(options);
  expect(() => configurePool({ threads: 3 })).toThrow(/running already/);
  expect(nativeInfo().searchThreads).toBeGreaterThan(0);
});

test("aborting ends long searches early, with the reason of the signal", async () => {
  const index = createIndex({ ...options, dimension: 256, graphThreshold: 1_000_000 });
  const rows = clustered(8, 20_000, 256);
  await index.add(range(0, 20_000), rows);
  const scan = (signal?: AbortSignal) => index.search(rowOf(rows, 256, 1), { k: 10, ef: 10, exact: true, signal });
  const before = (await scan()).computed;
  expect(before).toBe(20_000);
  const controller = new AbortController();
  heardByMany(controller.signal);
  const waiting = Array.from({ length: 200 }, () => scan(controller.signal));
  controller.abort(new KithError("DEADLINE_EXCEEDED", "too late"));
  const ended = await Promise.allSettled(waiting);
  for (const each of ended) expect(each).toMatchObject({ status: "rejected", reason: { code: "DEADLINE_EXCEEDED" } });
  expect(abortReason(controller.signal).code).toBe("DEADLINE_EXCEEDED");
  // Aborting after the end is nothing, and the tickets are free for others.
  const late = new AbortController();
  const found = await scan(late.signal);
  late.abort();
  expect(found.slots[0]).toBe(1);
  await expect(index.flush(AbortSignal.abort())).rejects.toMatchObject({ code: "CANCELLED" });
  await index.close();
});

test("close waits for searches in flight and may be called again", async () => {
  const index = createIndex(options);
  await index.add(range(0, 3000), clustered(9, 3000, dimension));
  const searches = Array.from({ length: 500 }, () => index.search(new Float32Array(dimension), { k: 5, ef: 64 }));
  const closing = index.close();
  expect(index.close()).toBe(closing);
  await closing;
  for (const found of await Promise.all(searches)) expect(found.slots.length).toBe(5);
});

test("close in the middle of building lets nobody wait for ever", async () => {
  const index = createIndex({ ...options, tailRowsMax: 100 });
  const adding = index.add(range(0, 30_000), clustered(10, 30_000, dimension));
  const flushing = index.flush();
  const closing = index.close();
  await expect(adding).rejects.toMatchObject({ code: "SHUTTING_DOWN" });
  await expect(flushing).rejects.toMatchObject({ code: "SHUTTING_DOWN" });
  await closing;
});

test("a process may end, and a worker thread be ended, in the middle of everything", async () => {
  const library = transpileLibrary();
  const busy = `
    const index = createIndex({ dimension: 64, metric: "l2", datatype: "f32", m: 16, efConstruction: 100, graphThreshold: 500 });
    const rows = Float32Array.from({ length: 20000 * 64 }, (_, i) => Math.sin(i * 12.9898) * 43758.5453 % 1);
    index.add(Uint32Array.from({ length: 20000 }, (_, i) => i), rows).catch(() => undefined);
    const spin = () => index.search(rows.subarray(0, 64), { k: 10, ef: 100, exact: true }).then(spin, () => undefined);
    for (let i = 0; i < 50; i++) spin();
    for (let i = 0; i < 20; i++) createIndex({ dimension: 4, metric: "l2", datatype: "f32", m: 4, efConstruction: 10 });`;
  try {
    // Ends by process.exit with searches, a writer and forgotten indexes alive.
    const exits = startChild(`${library.importLine}${busy} setTimeout(() => process.exit(7), 100);`);
    expect(await exits.exit).toMatchObject({ code: 7, signal: null, errors: "" });
    // Ends by itself although an index was never closed: an idle index keeps no process alive.
    const idle = startChild(`${library.importLine}
      const index = createIndex({ dimension: 2, metric: "l2", datatype: "f32", m: 4, efConstruction: 10 });
      await index.add(Uint32Array.of(1), Float32Array.of(1, 2));
      console.log((await index.search(Float32Array.of(1, 2), { k: 1, ef: 1 })).slots[0]);`);
    expect(await idle.exit).toMatchObject({ code: 0, signal: null, errors: "" });
    // Worker threads come and go beside a busy main thread.
    const worker = `${library.importLine}${busy} import { parentPort } from "node:worker_threads"; setTimeout(() => parentPort.postMessage(1), 50);`;
    const threads = startChild(`${library.importLine}${busy}
      import { Worker } from "node:worker_threads";
      const code = new URL("data:text/javascript," + encodeURIComponent(${JSON.stringify(worker)}));
      for (let round = 0; round < 3; round++) {
        const worker = new Worker(code);
        await new Promise((resolve, reject) => { worker.on("message", resolve); worker.on("error", reject); });
        await worker.terminate();
      }
      await index.close();
      process.exit(8);`);
    expect(await threads.exit).toMatchObject({ code: 8, signal: null, errors: "" });
    // Forgotten indexes are freed by the garbage collector.
    const forgotten = startChild(`${library.importLine}
      import { setFlagsFromString } from "node:v8";
      import { runInNewContext } from "node:vm";
      setFlagsFromString("--expose-gc");
      const collect = runInNewContext("gc");
      const rows = new Float32Array(100000 * 64);
      for (let i = 0; i < 30; i++) {
        const index = createIndex({ dimension: 64, metric: "l2", datatype: "f32", m: 4, efConstruction: 10, graphThreshold: 1e6 });
        await index.add(Uint32Array.from({ length: 100000 }, (_, i) => i), rows);
        collect();
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      console.log(process.memoryUsage.rss() / 2 ** 20);`);
    const line = await forgotten.lines.next();
    // All thirty together hold 750 MiB.
    expect(Number(line.value)).toBeLessThan(500);
    expect(await forgotten.exit).toMatchObject({ code: 0, signal: null, errors: "" });
  } finally {
    library.remove();
  }
});

test("a worker thread may be ended while it hands over searches with filters and lists", async () => {
  const library = transpileLibrary();
  // Were a filter taken for the list that comes after it, native code would read far beyond its end.
  const worker = `${library.importLine} import { parentPort } from "node:worker_threads";
    const index = createIndex({ dimension: 1, metric: "l2", datatype: "f32", m: 16, efConstruction: 16 });
    const filter = new Uint8Array(2 ** 15), slots = Uint32Array.of(0), query = Float32Array.of(1);
    for (let i = 0; i < 20000; i++) index.search(query, { k: 1, ef: 1, ...(i % 2 ? { slots } : { filter }) });
    parentPort.postMessage(1);`;
  try {
    const threads = startChild(`import { Worker } from "node:worker_threads";
      const code = new URL("data:text/javascript," + encodeURIComponent(${JSON.stringify(worker)}));
      for (let round = 0; round < 3; round++) {
        const worker = new Worker(code);
        await new Promise((resolve, reject) => { worker.on("message", resolve); worker.on("error", reject); });
        await worker.terminate();
      }
      process.exit(8);`);
    expect(await threads.exit).toMatchObject({ code: 8, signal: null, errors: "" });
  } finally {
    library.remove();
  }
});
