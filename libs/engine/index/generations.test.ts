import { afterEach, describe, expect, test } from "vitest";
import { deferred, systemRuntime } from "../../base/index.js";
import { idFromNum } from "../../model/index.js";
import { noTrace, SpanCollector } from "../../telemetry/index.js";
import { PointStore } from "../../storage/index.js";
import { ExactIndex, distanceOf, exactIndexes } from "../testing/exact-index.fixture.js";
import {
  active,
  call,
  collectionOf,
  eventually,
  factories,
  field,
  nothing,
  recomputed,
  remove,
  seeded,
  upsert,
  World,
} from "../testing/harness.fixture.js";

let world: World;
afterEach(async () => {
  ExactIndex.duringSearch = undefined;
  await world.end();
});

const idNumber = (id: Uint8Array): number => Number(Buffer.from(id).readBigUInt64BE(1));

describe.each(factories)("generations on the %s", (_, indexes) => {
  test("dead rows are left behind while writes and queries go on, and their slots are used again", async () => {
    world = await World.make({ collection: collectionOf(field("", 8)), indexes });
    const replica = await active(await world.open({ tuning: { deadRows: 200, deadShare: 0.25 } }));
    const random = seeded(7);
    const vectors = new Map<number, Float32Array>();
    const fresh = (): Float32Array => Float32Array.from({ length: 8 }, random);
    let at = 0;
    const write = async (ids: number[]): Promise<void> => {
      const items = ids.map((id) => ({ id, vector: fresh() }));
      at = await world.append([upsert(items)]);
      for (const { id, vector } of items) vectors.set(id, vector);
    };
    const check = async (): Promise<void> => {
      const vector = fresh();
      const expected = [...vectors].map(([id, own]) => ({ id, distance: distanceOf("l2", vector, own) }));
      expected.sort((a, b) => a.distance - b.distance);
      const query = { field: "", vector, k: 10, ef: 64, exact: true, select: nothing, minSequence: at };
      const { hits } = await replica.read("query", query, call);
      expect(hits.map(({ id }) => idNumber(id))).toEqual(expected.slice(0, 10).map(({ id }) => id));
    };
    await write(Array.from({ length: 400 }, (_, id) => id));
    let endless = false;
    const background = (async (): Promise<number> => {
      let count = 0;
      for (; !endless; count++) {
        const query = { field: "", vector: fresh(), k: 10, ef: 64, exact: false, select: nothing, minSequence: 0 };
        const { hits } = await replica.read("query", query, call);
        // Never a half-applied record: every point at most once, nearest first.
        expect(new Set(hits.map(({ id }) => idNumber(id))).size).toBe(hits.length);
        expect(hits.every((hit, i) => i === 0 || hit.score >= (hits[i - 1]?.score ?? 0))).toBe(true);
      }
      return count;
    })();
    for (let round = 0; round < 20; round++) {
      await write(Array.from({ length: 100 }, (_, i) => (round * 37 + i) % 400));
      if (round % 4 === 3) {
        at = await world.append([remove([round, round + 100])]);
        vectors.delete(round);
        vectors.delete(round + 100);
      }
      await check();
    }
    endless = true;
    expect(await background).toBeGreaterThan(0);
    await replica.rebuildIndexes();
    await check();
    expect(await replica.waitIndexed(call)).toBe(vectors.size);
    await write([1, 2, 3]);
    await check();
    expect(replica.status().unindexedVectorCount).toBe(0);
    expect((await recomputed(replica)).digest).toBe(replica.status().digest);
    await replica.close();
    const again = await world.open();
    expect(again.status()).toMatchObject({ digest: replica.status().digest, pointCount: vectors.size });
    expect(world.alarms).toEqual([]);
  });
});

test("a generation is built by itself at the share of dead rows, and a checkpoint at the share of changed ones", async () => {
  let builds = 0;
  let saves = 0;
  world = await World.make();
  const replica = await world.open({
    tuning: { deadRows: 10, deadShare: 0.25, checkpointRows: 30, checkpointShare: 0.2, checkpointRowsOnClose: 1000 },
    indexes: {
      ...exactIndexes,
      create: (options) => {
        builds++;
        const index = new ExactIndex(options);
        const save = index.save.bind(index);
        index.save = (directory, manifest) => {
          saves++;
          return save(directory, manifest);
        };
        return index;
      },
    },
  });
  const items = Array.from({ length: 29 }, (_, id) => ({ id, vector: [id, 0, 0, 0] }));
  await replica.wait(await world.append([upsert(items)]), [], call);
  expect([builds, saves]).toEqual([1, 0]);
  await replica.wait(await world.append([upsert([{ id: 99, vector: [1, 1, 1, 1] }])]), [], call);
  await eventually("a checkpoint", () => saves === 1);
  await replica.wait(await world.append([upsert(items.slice(0, 12))]), [], call);
  await eventually("a generation with its checkpoint", () => builds === 2 && saves === 2);
});

test("hits that are overwritten while a search runs are searched again, not lost and not mixed", async () => {
  world = await World.make();
  const replica = await world.open();
  await replica.wait(await world.append([upsert([1, 2].map((id) => ({ id, vector: [id, 0, 0, 0] })))]), [], call);
  ExactIndex.duringSearch = async () => {
    ExactIndex.duringSearch = undefined;
    await replica.wait(await world.append([upsert([{ id: 2, vector: [0, 0, 0, 0], payload: { v: 2 } }])]), [], call);
  };
  const select = { payload: true, vectors: [] };
  const query = { field: "", vector: Float32Array.of(0, 0, 0, 0), k: 2, ef: 0, exact: false, select, minSequence: 0 };
  const { hits } = await replica.read("query", query, call);
  expect(
    hits.map(({ id, version, score, payload }) => [idNumber(id), version, score, Buffer.from(payload).toString()]),
  ).toEqual([
    [2, 2, 0, '{"v":2}'],
    [1, 1, 1, ""],
  ]);
});

test("a slot that is given out again during a search does not lend its new point to the old distance", async () => {
  world = await World.make();
  const replica = await world.open();
  await replica.wait(await world.append([upsert([1, 2].map((id) => ({ id, vector: [id, 0, 0, 0] })))]), [], call);
  ExactIndex.duringSearch = async () => {
    ExactIndex.duringSearch = undefined;
    // Point 1 goes, its slot becomes free, and point 3 far away takes it.
    await replica.wait(await world.append([remove([1])]), [], call);
    await replica.rebuildIndexes();
    await replica.wait(await world.append([upsert([{ id: 3, vector: [50, 0, 0, 0] }])]), [], call);
  };
  const query = {
    field: "",
    vector: Float32Array.of(0, 0, 0, 0),
    k: 1,
    ef: 0,
    exact: false,
    select: nothing,
    minSequence: 0,
  };
  const { hits } = await replica.read("query", query, call);
  expect(hits.map(({ id, score }) => [idNumber(id), score])).toEqual([[2, 2]]);
});

test.each([
  ["before the record becomes visible", "close"],
  ["while the record becomes visible", "add"],
] as const)("a generation built %s has every point once", async (_, when) => {
  world = await World.make();
  const gate = deferred<void>();
  let isGated = false;
  let gated = 0;
  let built = 0;
  const replica = await world.open(
    {
      indexes: {
        ...exactIndexes,
        create: (options) => {
          const index = new ExactIndex(options);
          const original = index[when].bind(index) as (...parameters: unknown[]) => Promise<void>;
          const isNext = built++ > 0;
          // Let the gated write end when the next generation has its first rows, or when it has taken over.
          const hooked = async (...parameters: unknown[]): Promise<void> => {
            await original(...parameters);
            if (isNext === (when === "close")) return;
            gate.resolve();
            await eventually("the record", () => replica.appliedSequence === 3);
          };
          return Object.assign(index, { [when]: hooked });
        },
      },
    },
    async (directory) => {
      const store = await PointStore.open(directory);
      const write = store.write.bind(store);
      store.write = async (batch, options) => {
        await write(batch, options);
        gated++;
        if (isGated) await gate.promise;
      };
      return store;
    },
  );
  // More points than one step of the walk through the store reads; the last one is overwritten.
  const items = Array.from({ length: 5_000 }, (_, id) => ({ id, vector: [id, 1, 0, 0] }));
  await replica.wait(await world.append([upsert(items)]), [], call);
  await replica.wait(await world.append([upsert([{ id: 0, vector: [0, 2, 0, 0] }])]), [], call);
  isGated = true;
  const before = gated;
  // This record is in the store, but not yet in memory, when the build begins.
  const at = await world.append([upsert([{ id: 4_999, vector: [0, 0, 0, 0] }])]);
  await eventually("the write", () => gated > before);
  await replica.rebuildIndexes();
  const query = {
    field: "",
    vector: Float32Array.of(0, 0, 0, 0),
    k: 3,
    ef: 0,
    exact: false,
    select: nothing,
    minSequence: at,
  };
  const { hits } = await replica.read("query", query, call);
  expect(hits.map(({ id, score }) => [idNumber(id), score])).toEqual([
    [4_999, 0],
    [1, Math.fround(Math.SQRT2)],
    [0, 2],
  ]);
  expect((await recomputed(replica)).pointCount).toBe(5_000);
  expect(world.alarms).toEqual([]);
});

test("a query's steps appear in its trace", async () => {
  world = await World.make();
  const replica = await world.open();
  await replica.wait(await world.append([upsert([{ id: 1, vector: [1, 0, 0, 0], payload: { a: 1 } }])]), [], call);
  const collector = new SpanCollector("n1", systemRuntime);
  const query = { field: "", vector: Float32Array.of(0, 0, 0, 0), k: 1, ef: 7, exact: false, minSequence: 0 };
  await replica.read(
    "query",
    { ...query, select: { payload: true, vectors: [] } },
    { trace: { ...noTrace, collector, spanId: "ab" } },
  );
  expect(collector.spans.map(({ name, parentSpanId }) => [name, parentSpanId])).toEqual([
    ["index.search", "ab"],
    ["hydrate", "ab"],
  ]);
  expect(collector.spans[0]?.attributes).toMatchObject({ plan: "scan", ef: "7", computed: "1" });
  expect(
    (await replica.read("get", { ids: [idFromNum(1)], select: nothing, minSequence: 0 }, call)).points.length,
  ).toBe(1);
});

test("waiting for the graph ends with the generation that answers, whatever replaces it meanwhile", async () => {
  const gate = deferred<void>();
  const flushes: number[] = [];
  class Flushed extends ExactIndex {
    readonly #number = flushes.push(0) - 1;
    override async flush(): Promise<void> {
      flushes[this.#number] = (flushes[this.#number] ?? 0) + 1;
      if (this.#number === 0) await gate.promise;
    }
  }
  world = await World.make({ indexes: { ...exactIndexes, create: (options) => new Flushed(options) } });
  const replica = await active(await world.open());
  await replica.wait(await world.append([upsert([{ id: 1, vector: [1, 0, 0, 0] }])]), [], call);
  await replica.wait(await world.append([upsert([{ id: 1, vector: [2, 0, 0, 0] }])]), [], call);
  const indexed = replica.waitIndexed(call);
  await eventually("the first generation is asked", () => flushes[0] === 1);
  await replica.rebuildIndexes();
  expect(flushes).toEqual([1, 1]);
  gate.resolve();
  expect(await indexed).toBe(1);
  expect(flushes).toEqual([1, 2]);
});
