import { afterEach, beforeEach, expect, test } from "vitest";
import { limits, SeededRandom, systemClock } from "../../base/index.js";
import { parseFilter, runSteps } from "../../filter/index.js";
import { schemaChangeToWire } from "../../wire/index.js";
import type { Replica } from "../index.js";
import { exactIndexes } from "../testing/exact-index.fixture.js";
import {
  active,
  call,
  collectionOf,
  eventually,
  field,
  operationOf,
  upsert,
  World,
} from "../testing/harness.fixture.js";
import { openSlots, sampleOf } from "./sampled-slots.js";

/** Counts and facets that may be estimates: how far they are off, and that they read less. */

const pointCount = 12_000;

let world: World;
let replica: Replica;
let sequence: number;
beforeEach(async () => {
  world = await World.make({ collection: collectionOf(field()), indexes: exactIndexes });
  replica = await active(await world.open());
  const items = Array.from({ length: pointCount }, (_, id) => ({
    id,
    vector: [id, 0, 0, 0],
    payload: { third: id % 3, tenth: id % 10, word: `w${id % 4}` },
  }));
  for (let from = 0; from < pointCount; from += 2_000)
    sequence = await world.append([upsert(items.slice(from, from + 2_000))]);
  await replica.wait(sequence, [], call);
});
afterEach(() => world.end());

async function count(text: string, approximate: boolean): Promise<number> {
  const filter = parseFilter(text);
  return (await replica.read("count", { minSequence: sequence, filter, approximate }, call)).count;
}

test("a count of points that no index knows is estimated by a sample, and exact where an index knows it or a mask is there", async () => {
  // The standard deviation of this share of 2,000 points is 123 of all.
  for (let round = 0; round < 3; round++) {
    const about = await count(`third = 1 and tenth != ${round}`, true);
    expect(Math.abs(about - pointCount * 0.3)).toBeLessThan(600);
  }
  const exact = await count("third = 1", false);
  expect(exact).toBe(pointCount / 3);
  expect(await count("third = 1", true)).toBe(exact);
  const index = { path: "tenth", kind: "integer" as const, isTenant: false, isPrincipal: false };
  const change = schemaChangeToWire({ version: 2, kind: "addPayloadIndex", index });
  sequence = await world.append([operationOf({ $case: "changeSchema", value: change })]);
  await eventually("the index", () => replica.status().payloadIndexes[0]?.isReady);
  expect(await count("tenth = 7", true)).toBe(pointCount / 10);
  // What the index leaves open are 1,200 points: all of them are tested.
  expect(await count("tenth = 7 and third = 1", true)).toBe(pointCount / 30);
}, 60_000);

test("a facet of a field without an index is estimated by a sample", async () => {
  const request = { minSequence: sequence, filter: undefined, ids: undefined, exclude: [], key: "word", explain: true };
  const about = await replica.read("facet", { ...request, approximate: true }, call);
  expect(about.explain).toMatchObject({ plan: "sampled points", readPoints: 4_000 });
  expect(about.counts.map(({ value }) => value).sort()).toEqual(["w0", "w1", "w2", "w3"]);
  for (const { count: each } of about.counts) expect(Math.abs(each - pointCount / 4)).toBeLessThan(450);
  const exact = await replica.read("facet", request, call);
  expect(exact.explain).toMatchObject({ plan: "points", readPoints: pointCount });
  for (const { count: each } of exact.counts) expect(each).toBe(pointCount / 4);
}, 60_000);

test("a facet whose different values take more than it may have is refused, with an index and without", async () => {
  const request = { minSequence: sequence, filter: undefined, ids: undefined, exclude: [], key: "word", explain: true };
  const refusal = { code: "RESOURCE_EXHAUSTED", details: { path: "word", limitBytes: 4 * 68 - 1 } };
  const bounds: { facetBytes: number } = limits;
  const { facetBytes } = bounds;
  try {
    bounds.facetBytes = 4 * 68 - 1;
    await expect(replica.read("facet", request, call)).rejects.toMatchObject(refusal);
    const index = { path: "word", kind: "keyword" as const, isTenant: false, isPrincipal: false };
    const change = schemaChangeToWire({ version: 2, kind: "addPayloadIndex", index });
    sequence = await world.append([operationOf({ $case: "changeSchema", value: change })]);
    await eventually("the index", () => replica.status().payloadIndexes[0]?.isReady);
    await expect(replica.read("facet", request, call)).rejects.toMatchObject(refusal);
    bounds.facetBytes++;
    const { counts, explain } = await replica.read("facet", request, call);
    expect([explain?.plan, counts.length]).toEqual(["facet index", 4]);
  } finally {
    bounds.facetBytes = facetBytes;
  }
}, 60_000);

test("a sample takes each item equally often, whatever repeats in their order", async () => {
  const random = new SeededRandom(3);
  const items = Uint32Array.from({ length: 1_000 }, (_, i) => i);
  const taken = new Uint32Array(10);
  for (let round = 0; round < 200; round++) {
    const sample = sampleOf(items, 100, random);
    expect(new Set(sample).size).toBe(100);
    for (const item of sample) taken[item % 10] = (taken[item % 10] as number) + 1;
  }
  for (const each of taken) expect(Math.abs(each - 2_000)).toBeLessThan(250);
  expect(sampleOf(items.subarray(0, 7), 10, random)).toEqual(items.subarray(0, 7));
  const steps = openSlots(Uint32Array.of(0b1, 0), Uint32Array.of(0b1011, 0x8000_0001));
  expect([...(await runSteps(steps, { clock: systemClock }))]).toEqual([1, 3, 32, 63]);
});
