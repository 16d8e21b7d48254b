import { afterEach, beforeEach, expect, test } from "vitest";
import { type Clock, systemClock } from "../../base/index.js";
import { parseFilter } from "../../filter/index.js";
import { pb } from "../../wire/index.js";
import { filterToWire } from "../../wire/index.js";
import type { Replica } from "../index.js";
import { exactIndexes } from "../testing/exact-index.fixture.js";
import { active, call, collectionOf, field, operationOf, target, upsert, World } from "../testing/harness.fixture.js";

/**
 * Reads and writes of many points give way to others. On this clock every look takes a quarter of a millisecond, so that what looks once
 * for each point must give way every few points, however fast the machine is.
 */

const lookMs = 0.25;
/** Looks between two turns of the event loop: of the stretch that reads may take, and some around it. */
const looksMax = 12;

class SlowClock implements Clock {
  readonly originMs = systemClock.originMs;
  turns = 0;
  longest = 0;
  looks = 0;
  #looks = 0;
  #atMs = 0;

  nowMs(): number {
    return systemClock.nowMs();
  }

  monotonicMs(): number {
    this.looks++;
    this.longest = Math.max(this.longest, ++this.#looks);
    return (this.#atMs += lookMs);
  }

  setTimer(callback: () => void, delayMs: number): ReturnType<Clock["setTimer"]> {
    return systemClock.setTimer(callback, delayMs);
  }

  every(callback: () => void, periodMs: number): ReturnType<Clock["every"]> {
    return systemClock.every(callback, periodMs);
  }

  soon(callback: () => void): void {
    this.turns++;
    systemClock.soon(() => {
      this.#looks = 0;
      callback();
    });
  }

  restart(): void {
    this.turns = 0;
    this.longest = 0;
    this.looks = 0;
    this.#looks = 0;
  }
}

const pointCount = 2_000;

let world: World;
let replica: Replica;
let sequence: number;
const clock = new SlowClock();
beforeEach(async () => {
  world = await World.make({ collection: collectionOf(field()), indexes: exactIndexes });
  replica = await active(await world.open({ clock }));
  const items = Array.from({ length: pointCount }, (_, id) => ({ id, vector: [id, 0, 0, 0], payload: { n: id } }));
  sequence = await world.append([upsert(items)]);
  await replica.wait(sequence, [], call);
  clock.restart();
});
afterEach(() => world.end());

const everything = parseFilter("n >= 0");
const nothing = { payload: false, vectors: [] };
const scope = (): { filter: undefined; ids: undefined; exclude: []; minSequence: number } => ({
  filter: undefined,
  ids: undefined,
  exclude: [],
  minSequence: sequence,
});

test.each<[string, () => Promise<unknown>]>([
  ["a mask by payloads", () => replica.read("count", { filter: everything, minSequence: sequence }, call)],
  ["a facet by payloads", () => replica.read("facet", { ...scope(), key: "n" }, call)],
  [
    "an order by payloads",
    () =>
      replica.read(
        "order",
        { ...scope(), orderBy: { key: "n", direction: "ascending" }, limit: 10, select: nothing },
        call,
      ),
  ],
  [
    "a scroll with a filter",
    () =>
      replica.read(
        "scroll",
        { ...scope(), filter: everything, after: undefined, limit: pointCount, select: nothing },
        call,
      ),
  ],
])("%s gives way after a few points", async (_, read) => {
  await read();
  expect(clock.turns).toBeGreaterThan(pointCount / looksMax);
  expect(clock.longest).toBeLessThanOrEqual(looksMax);
});

test.each<[string, number, () => Parameters<typeof operationOf>[0]]>([
  [
    "a deletion by a filter",
    32,
    () => {
      const filter = pb.Filter.encode(filterToWire(everything)).finish();
      return { $case: "remove", value: { target: target({ filter }) } };
    },
  ],
  ["the end of all points", 256, () => ({ $case: "truncate", value: {} })],
])("%s looks at the time at least every %i points", async (_, points, mutation) => {
  // Its mask is there: what is counted is the write alone.
  await replica.read("count", { filter: everything, minSequence: sequence }, call);
  const waiting = world.append([operationOf(mutation())]);
  clock.restart();
  sequence = await waiting;
  await replica.wait(sequence, [], call);
  expect(replica.status().pointCount).toBe(0);
  expect(clock.looks).toBeGreaterThan(pointCount / points + 4);
});
