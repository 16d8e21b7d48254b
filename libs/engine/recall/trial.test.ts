/** Datatypes tried on the points of a replica, by indexes of the native library. */
import { afterEach, expect, test } from "vitest";
import { createIndex, loadIndex } from "../../ann/index.js";
import { datatypesFor } from "./trial.js";
import { active, call, collectionOf, field, seeded, upsert, World } from "../testing/harness.fixture.js";

let world: World;
afterEach(() => world.end());

const dimension = 32;
const indexes = { create: createIndex, load: loadIndex };

async function filled(count: number): Promise<{ replica: Awaited<ReturnType<typeof active>>; at: number }> {
  const random = seeded(5);
  world = await World.make({ collection: collectionOf(field("", dimension)), indexes });
  const replica = await active(await world.open());
  let at = 0;
  for (let from = 0; from < count; from += 500) {
    const items = Array.from({ length: Math.min(500, count - from) }, (_, i) => {
      return { id: from + i, vector: Float32Array.from({ length: dimension }, random) };
    });
    at = await world.append([upsert(items)]);
  }
  await replica.wait(at, [], call);
  return { replica, at };
}

test("each datatype says what it reaches, with what beam, time and memory", async () => {
  const { replica, at } = await filled(1_150);
  const asked = { field: "", target: 0.9, minSequence: at };
  // A second one waits for the first.
  const [first, second] = await Promise.all([replica.read("trial", asked, call), replica.read("trial", asked, call)]);
  expect(first).toMatchObject({ rows: 1_050, sequence: at });
  expect(first.trials.map(({ datatype }) => datatype)).toEqual(["f32", "f16", "i8", "i4"]);
  expect(second.trials).toHaveLength(4);
  for (const { recall, canHold, ef, searchUs } of first.trials) {
    expect(canHold).toBe(recall >= 0.9);
    expect(ef).toBeGreaterThanOrEqual(10);
    expect(searchUs).toBeGreaterThan(0);
  }
  const [f32, f16, i8] = first.trials;
  expect(f32).toMatchObject({ canHold: true });
  // Of 32 components a row of f16 takes one line of the cache, of f32 two.
  expect((f32?.vectorBytes ?? 0) - (f16?.vectorBytes ?? 0)).toBeCloseTo(64, -1.2);
  expect(i8?.vectorBytes).toBeLessThanOrEqual((f16?.vectorBytes ?? 0) + 8);
  await expect(replica.read("trial", { ...asked, field: "no" }, call)).rejects.toMatchObject({
    code: "UNKNOWN_VECTOR",
  });
  expect(world.alarms).toEqual([]);
});

test("coarser codes are tried where they take less", () => {
  const finer = ["f32", "f16", "i8", "i4"];
  expect(datatypesFor({ metric: "cosine", dimension: 128 })).toEqual(finer);
  expect(datatypesFor({ metric: "l2", dimension: 256 })).toEqual([...finer, "pq16"]);
  expect(datatypesFor({ metric: "cosine", dimension: 768 })).toEqual([...finer, "pq16", "pq32", "pq64", "binary"]);
});

test("nothing is tried on a few points, and one that is given up ends", async () => {
  const { replica, at } = await filled(1_150);
  const stop = new AbortController();
  const asked = { field: "", target: 0.9, minSequence: at };
  const given = replica.read("trial", asked, { ...call, signal: stop.signal });
  stop.abort();
  await expect(given).rejects.toThrow();
  await world.end();
  const few = await filled(200);
  const answer = await few.replica.read("trial", { ...asked, minSequence: few.at }, call);
  expect(answer).toEqual({ rows: 200, trials: [], sequence: few.at });
});
