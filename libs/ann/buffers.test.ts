/** Arrays of the caller: their kinds are checked, and nothing of them is read after the call that they were given to. */
import { expect, test } from "vitest";
import { createIndex, type VectorIndex } from "./index.js";
import { startChild, transpileLibrary } from "./testing/child.js";
import { bitset, clustered, range, rowOf } from "./testing/data.js";

const dimension = 8;
const rows = clustered(1, 2000, dimension);

async function built(): Promise<VectorIndex> {
  const index = createIndex({
    dimension,
    metric: "l2",
    datatype: "f32",
    m: 8,
    efConstruction: 40,
    graphThreshold: 500,
  });
  await index.add(range(0, 2000), rows);
  await index.flush();
  return index;
}

test("arrays of another kind are refused, with what is wanted", async () => {
  const index = await built();
  const query = rowOf(rows, dimension, 0);
  const wrong: [unknown, RegExp][] = [
    [Float64Array.from(query), /query is a Float64Array; give a Float32Array/],
    [[...query], /query is a Array/],
    [new DataView(new ArrayBuffer(32)), /query is a DataView/],
    [null, /query is a null/],
    [undefined, /query is a undefined/],
  ];
  for (const [given, message] of wrong) {
    await expect(index.search(given as Float32Array, { k: 1, ef: 10 })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringMatching(message) as string,
    });
  }
  const others: [Record<string, unknown>, RegExp][] = [
    [{ slots: Uint16Array.of(1, 2) }, /slots is a Uint16Array; give a Uint32Array/],
    [{ slots: Int32Array.of(1, 2) }, /slots is a Int32Array/],
    [{ filter: Uint32Array.of(1) }, /filter is a Uint32Array; give a Uint8Array/],
    [{ filter: new ArrayBuffer(8) }, /filter is a ArrayBuffer/],
  ];
  for (const [more, message] of others) {
    await expect(index.search(query, { k: 1, ef: 10, ...more })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringMatching(message) as string,
    });
  }
  const add = (slots: unknown, vectors: unknown): Promise<void> =>
    index.add(slots as Uint32Array, vectors as Float32Array);
  await expect(add(Uint16Array.of(5000), query)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  await expect(add(Uint32Array.of(5000), Float64Array.from(query))).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  expect(() => index.remove(Uint16Array.of(1) as unknown as Uint32Array)).toThrow(/Uint16Array/);
  expect(index.stats()).toMatchObject({ rowCount: 2000, aliveCount: 2000 });
  // Buffers of Node are byte arrays like others.
  const everything = Buffer.from(bitset(range(0, 2000), 2000));
  expect((await index.search(query, { k: 1, ef: 10, filter: everything })).slots[0]).toBe(0);
  await index.close();
});

test("queries and slots may be transferred, detached and overwritten as soon as the call has returned", async () => {
  const index = await built();
  const filter = bitset(range(0, 2000), 2000);
  for (let round = 0; round < 50; round++) {
    const query = rowOf(rows, dimension, round).slice();
    const slots = range(0, 2000);
    const answers = [
      index.search(query, { k: 1, ef: 20, filter }),
      index.search(query, { k: 1, ef: 20, slots }),
      index.search(query, { k: 1, ef: 20, exact: true, filter }),
    ];
    // Searches of one tick are handed over together, at its end: before and after.
    if (round % 2 === 0) await Promise.resolve();
    slots.fill(0);
    for (const { buffer } of [query, slots]) structuredClone(buffer, { transfer: [buffer as ArrayBuffer] });
    for (const answer of await Promise.all(answers)) expect([...answer.slots]).toEqual([round]);
  }
  await index.close();
});

test("nothing is read that the garbage collector has taken", async () => {
  const library = transpileLibrary();
  try {
    const child = startChild(`${library.importLine}
      import { setFlagsFromString } from "node:v8";
      import { runInNewContext } from "node:vm";
      setFlagsFromString("--expose-gc");
      const collect = runInNewContext("gc");
      const index = createIndex({ dimension: 4, metric: "l2", datatype: "f32", m: 8, efConstruction: 40, graphThreshold: 1e6 });
      const count = 400000;
      const rows = Float32Array.from({ length: count * 4 }, (_, i) => Math.sin(i * 12.9898) * 43758.5453 % 1);
      await index.add(Uint32Array.from({ length: count }, (_, i) => i), rows);
      const search = () => {
        // Large, so that the system takes the memory back when it is freed.
        const filter = new Uint8Array(2 ** 22).fill(255);
        const found = index.search(new Float32Array(4), { k: 1, ef: 1, exact: true, filter });
        return { found, filter };
      };
      const wanted = (await search().found).slots[0];
      for (let round = 0; round < 10; round++) {
        const some = Array.from({ length: 4 }, search);
        // Until they are handed over.
        await new Promise((resolve) => setImmediate(resolve));
        for (const { filter } of some) structuredClone(filter.buffer, { transfer: [filter.buffer] });
        collect();
        for (const { found } of some) if ((await found).slots[0] !== wanted) throw new Error("another answer");
      }
      await index.close();`);
    expect(await child.exit).toMatchObject({ code: 0, signal: null, errors: "" });
  } finally {
    library.remove();
  }
});
