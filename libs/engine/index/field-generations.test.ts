import { readdir } from "node:fs/promises";
import { afterEach, describe, expect, test } from "vitest";
import type { SearchOptions, SearchResult } from "../../ann/index.js";
import { deferred, withAbort } from "../../base/index.js";
import { parseFilter } from "../../filter/index.js";
import type { Datatype, GenerationShadow, GenerationStatus, SchemaChange } from "../../model/index.js";
import { schemaChangeToWire } from "../../wire/index.js";
import type { IndexFactory, Replica } from "../index.js";
import { distanceOf, ExactIndex, exactIndexes } from "../testing/exact-index.fixture.js";
import {
  active,
  call,
  collectionOf,
  eventually,
  factories,
  field,
  given,
  idOf,
  nothing,
  operationOf,
  remove,
  seeded,
  upsert,
  World,
} from "../testing/harness.fixture.js";

let world: World;
afterEach(() => world.end());

const dimension = 8;
const random = seeded(11);
const fresh = (): Float32Array => Float32Array.from({ length: dimension }, random);

type Step = SchemaChange extends infer C ? (C extends SchemaChange ? Omit<C, "version"> : never) : never;
const begin = (datatype: Datatype, originals = false): Step => ({
  ...{ kind: "beginGeneration", name: "", plan: {} },
  build: { datatype, m: 8, efConstruction: 64, originals },
});
const switchTo = (generation: number): Step => ({ kind: "switchGeneration", name: "", generation });
const drop = (generation: number): Step => ({ kind: "dropGeneration", name: "", generation });

/** A collection whose schema and points are changed, with what it must hold. */
class Points {
  readonly vectors = new Map<number, Float32Array>();
  #version = 1;
  at = 0;

  async write(first: number, count: number): Promise<void> {
    const items = Array.from({ length: count }, (_, i) => ({ id: first + i, vector: fresh() }));
    this.at = await world.append([upsert(items)]);
    for (const { id, vector } of items) this.vectors.set(id, vector);
  }

  async remove(id: number): Promise<void> {
    this.at = await world.append([remove([id])]);
    this.vectors.delete(id);
  }

  async change(step: Step): Promise<void> {
    const value = schemaChangeToWire({ ...step, version: this.#version++ + 1 });
    this.at = await world.append([operationOf({ $case: "changeSchema", value })]);
  }

  /** That was refused: the next one has its version. */
  forgetChange(): void {
    this.#version--;
  }

  /** The nearest points are found, by whatever index. */
  async check(replica: Replica): Promise<void> {
    for (let i = 0; i < 5; i++) {
      const vector = fresh();
      const query = { field: "", vector, k: 5, ef: 64, exact: false, select: nothing, minSequence: this.at };
      const { hits } = await replica.read("query", query, call);
      const expected = [...this.vectors].map(([id, own]) => ({ id, distance: distanceOf("l2", vector, own) }));
      expected.sort((a, b) => a.distance - b.distance);
      const ids = expected.slice(0, 5).map(({ id }) => idOf(id).toString("hex"));
      expect(hits.map(({ id }) => Buffer.from(id).toString("hex"))).toEqual(ids);
    }
  }
}

const statusOf = (replica: Replica, number: number): GenerationStatus | undefined =>
  replica.status().generations?.find((each) => each.number === number);

function whole(replica: Replica, number: number): Promise<GenerationStatus> {
  return eventually(`generation ${number} is whole and measured`, () => {
    const status = statusOf(replica, number);
    return status?.isReady === true && status.recall !== undefined ? status : undefined;
  });
}

async function checkpoints(name = "a"): Promise<string[]> {
  const names = await readdir(world.replicaDirectory(name));
  return names.filter((each) => each.startsWith("index-")).sort();
}

describe.each(factories)("another generation on the %s", (_, indexes) => {
  test("is built beside the one that answers, answers by the log, and is rolled back and dropped", async () => {
    world = await World.make({ collection: collectionOf(field("", dimension)), indexes });
    let replica = await active(await world.open());
    const points = new Points();
    await points.write(0, 400);
    await points.change(begin("f16"));
    await points.write(300, 200);
    await points.remove(7);
    await points.check(replica);
    const before = statusOf(replica, 0)?.memoryBytes ?? 0;
    const built = await whole(replica, 1);
    expect(built).toMatchObject({ rowCount: 499, recall: { samples: 200 } });
    expect(built.recall?.recall).toBeGreaterThan(0.98);
    expect(built.recall?.baseline).toBeGreaterThan(0.98);
    // Vectors are counted once, memory is that of both.
    expect(replica.status()).toMatchObject({ indexedVectorCount: 499, unindexedVectorCount: 0 });
    expect(replica.status().memoryBytes).toBeGreaterThanOrEqual(before + built.memoryBytes);
    expect(await replica.waitIndexed(call)).toBe(499);

    await points.change(switchTo(1));
    await points.write(500, 50);
    await points.check(replica);
    expect(statusOf(replica, 0)).toMatchObject({ rowCount: 549 });
    await replica.checkpoint();
    expect(await checkpoints()).toEqual(["index-dense-0", "index-dense-0g1"]);
    await replica.close();
    replica = await active(await world.open());
    await points.check(replica);
    await points.change(switchTo(0));
    await points.write(600, 10);
    await points.check(replica);
    await points.change(drop(1));
    await points.check(replica);
    expect(statusOf(replica, 1)).toBeUndefined();
    await eventually("its checkpoint is gone", async () => (await checkpoints()).length === 1);
    // Numbers are never used again: what is left of a dropped one is not taken for its successor.
    await points.change(begin("i8", true));
    await whole(replica, 2);
    await points.change(switchTo(2));
    await points.change(drop(0));
    await replica.checkpoint();
    await points.write(620, 5);
    await replica.close();
    replica = await active(await world.open());
    await points.check(replica);
    expect(await checkpoints()).toEqual(["index-dense-0g2"]);
    expect(world.alarms).toEqual([]);
  });

  test("a copy and a replay have it too, and one that is dropped while it is built is gone", async () => {
    world = await World.make({ collection: collectionOf(field("", dimension)), indexes });
    const replica = await active(await world.open());
    const points = new Points();
    await points.write(0, 300);
    await points.change(begin("f16"));
    await points.write(300, 20);
    const peers = { fetch: (wanted: Parameters<typeof given>[1]) => given(replica, wanted) };
    const copy = await active(await world.open({ name: "copy", peers, startsAsCopy: true }));
    await points.check(copy);
    expect((await whole(copy, 1)).rowCount).toBe(320);
    await points.change(drop(1));
    await points.change(begin("f16"));
    await points.change(drop(2));
    await points.check(replica);
    await points.check(copy);
    const replayed = await active(await world.open({ name: "replayed" }));
    await points.check(replayed);
    for (const each of [replica, copy, replayed]) {
      expect(each.status().generations?.map(({ number }) => number)).toEqual([0]);
    }
    expect(world.alarms.map(({ kind }) => kind)).toEqual(["copy_started", "copied"]);
  });
});

test("steps that do not fit are refused, on every replica alike", async () => {
  world = await World.make({ collection: collectionOf(field("", dimension)) });
  const replica = await active(await world.open());
  const points = new Points();
  const refused: Step[] = [switchTo(1), switchTo(0), drop(0), { ...begin("f16"), name: "no" } as Step];
  for (const step of refused) {
    await points.change(step);
    points.forgetChange();
  }
  await points.change(begin("f16"));
  await points.change(begin("i8"));
  points.forgetChange();
  await replica.wait(points.at, [], call);
  expect(world.alarms.map(({ kind }) => kind)).toEqual(Array(5).fill("operation_refused"));
  expect(world.alarms[4]?.message).toMatch(/generation 1 of the vector field is being built/);
  // One that is kept gives way to the next.
  await points.change(switchTo(1));
  await points.change(begin("bf16"));
  await whole(replica, 2);
  expect(replica.status().generations?.map(({ number }) => number)).toEqual([1, 2]);
});

test("a generation that was not whole when its replica ended is built again, while the one before answers", async () => {
  const holding = deferred<void>();
  let builds = 0;
  let isHeld = true;
  const indexes: IndexFactory = {
    ...exactIndexes,
    create: (options) => {
      const index = new ExactIndex(options);
      if (options.datatype !== "f16") return index;
      builds++;
      index.flush = (signal?: AbortSignal) => (isHeld ? withAbort(holding.promise, signal) : Promise.resolve());
      return index;
    },
  };
  world = await World.make({ collection: collectionOf(field("", dimension)), indexes });
  let replica = await active(await world.open());
  const points = new Points();
  await points.write(0, 200);
  await points.change(begin("f16"));
  await eventually("it is being built", () => builds === 1);
  await points.write(200, 10);
  await points.check(replica);
  expect(statusOf(replica, 1)).toMatchObject({ isReady: false });
  await replica.close();
  // Chosen although it is not whole here: the one before answers until it is.
  await points.change(switchTo(1));
  replica = await active(await world.open());
  await points.check(replica);
  isHeld = false;
  await replica.close();
  holding.resolve();
  replica = await active(await world.open());
  await points.check(replica);
  expect(replica.status().generations).toMatchObject([{ number: 1, isReady: true }, { number: 0 }]);
});

/** Misses the third part of all rows, unless it is asked to scan them. */
class Poor extends ExactIndex {
  override async search(query: Float32Array, options: SearchOptions): Promise<SearchResult> {
    const found = await super.search(query, { ...options, k: options.k * 2 });
    const rows = [...found.slots.keys()].filter((i) => options.exact === true || (found.slots[i] as number) % 3 !== 0);
    const kept = rows.slice(0, options.k);
    return {
      ...found,
      slots: Uint32Array.from(kept, (i) => found.slots[i] as number),
      distances: Float32Array.from(kept, (i) => found.distances[i] as number),
    };
  }
}

const poorIndexes: IndexFactory = {
  ...exactIndexes,
  create: (options) => (options.datatype === "i8" ? new Poor(options) : new ExactIndex(options)),
};

test("the recall of a generation is measured with points of the collection, against an exact search", async () => {
  world = await World.make({ collection: collectionOf(field("", dimension)), indexes: poorIndexes });
  const replica = await active(await world.open());
  const points = new Points();
  await points.write(0, 600);
  await points.change(begin("i8"));
  const { recall } = await whole(replica, 1);
  expect(recall).toMatchObject({ baseline: 1, samples: 200 });
  expect(recall?.recall).toBeGreaterThan(0.55);
  expect(recall?.recall).toBeLessThan(0.78);
});

test("queries are run again in both generations, before the new one answers and while the old one is kept", async () => {
  world = await World.make({ collection: collectionOf(field("", dimension)), indexes: poorIndexes });
  const replica = await active(await world.open());
  const points = new Points();
  await points.write(0, 300);
  const compared = async (number: number, least: number): Promise<GenerationShadow> => {
    const filter = parseFilter("has_id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)");
    return eventually(`${least} queries are compared`, async () => {
      const shadow = statusOf(replica, number)?.shadow;
      if (shadow !== undefined && shadow.samples >= least) return shadow;
      const scope = { field: "", k: 5, ef: 64, exact: false, select: nothing, minSequence: points.at };
      await replica.read("query", { ...scope, vector: fresh() }, call);
      const scorer = { kind: "nearest", vector: fresh() } as const;
      await replica.read("search", { ...scope, scorer, filter, ids: undefined, exclude: [] }, call);
      return undefined;
    });
  };
  await points.change(begin("i8"));
  await whole(replica, 1);
  const candidate = await compared(1, 8);
  expect(candidate).toMatchObject({ k: 5, baseline: 1 });
  expect(candidate.recall).toBeGreaterThan(0.4);
  expect(candidate.recall).toBeLessThan(0.95);
  expect(candidate.overlap).toBeLessThan(0.95);
  expect(candidate.margin).toBeGreaterThan(0);
  expect(statusOf(replica, 0)?.shadow).toBeUndefined();

  await points.change(switchTo(1));
  await replica.wait(points.at, [], call);
  const kept = await compared(0, candidate.samples + 4);
  expect(kept).toMatchObject({ recall: 1 });
  expect(kept.baseline).toBeLessThan(0.95);
  expect(statusOf(replica, 1)?.shadow).toBeUndefined();
  await points.change(drop(0));
  await replica.wait(points.at, [], call);
  expect(replica.status().generations?.map(({ shadow }) => shadow)).toEqual([undefined]);
  expect(world.alarms).toEqual([]);
});
