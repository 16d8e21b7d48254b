import { setImmediate } from "node:timers/promises";
import { expect, test } from "vitest";
import { KithError, systemClock, toKithError } from "../../../libs/base/index.js";
import { ManualClock } from "../../../libs/base/testing.js";
import { AnswerBudget, facetBytes } from "./answer-budget.js";

const select = { payload: true, vectors: [], allVectors: false, include: [], exclude: [] };
const shape = { collectionId: "a", select, count: 10 };

test("answers are refused before they are read where those in flight leave no room", () => {
  const budget = new AnswerBudget(systemClock, 100_000);
  const first = budget.reserve(shape);
  first.settle(60_000);
  expect(budget.inFlightBytes).toBe(60_000);
  expect(budget.expectedBytes({ ...shape, count: 5 })).toBe(30_000);
  expect(() => budget.reserve(shape)).toThrow(/60000 bytes are in flight, and 100000 are allowed/);
  const small = budget.reserve({ ...shape, count: 5 });
  expect(() => budget.reserve({ ...shape, collectionId: "b", count: 1_000 })).toThrow(/RESOURCE|in flight/);
  first.release();
  small.release();
  first.release();
  expect(budget.inFlightBytes).toBe(0);
  // However large it will be, one answer alone always has room.
  budget.reserve({ ...shape, count: 1_000 }).release();
});

test("what clients have not taken counts, and what is expected follows what was seen", () => {
  let unsent = 90_000;
  const budget = new AnswerBudget(systemClock, 100_000);
  budget.countUnsent(() => unsent);
  expect(() => budget.reserve(shape)).toThrow(/90000/);
  unsent = 0;
  const large = budget.reserve(shape);
  large.settle(50_000);
  large.release();
  for (let i = 0; i < 200; i++) {
    const small = budget.reserve(shape);
    small.settle(1_000);
    small.release();
  }
  expect(budget.expectedBytes(shape)).toBeLessThan(1_100);
  // Without payload and vectors results are small, whatever the collection holds.
  expect(budget.expectedBytes({ ...shape, select: { ...select, payload: false } })).toBe(640);
});

test("facets are known by their field, and what is counted by bytes is refused as all else is", () => {
  const budget = new AnswerBudget(systemClock, 100_000);
  const genres = { collectionId: "a", select: undefined, count: 1, kind: "facet genre" };
  const first = budget.reserve(genres);
  first.settle(60_000);
  expect(budget.expectedBytes(genres)).toBe(60_000);
  expect(budget.expectedBytes({ ...genres, kind: "facet year" })).toBe(64);
  expect(() => budget.reserve(genres)).toThrow(/in flight/);
  expect(() => budget.reserveBytes(50_000)).toThrow(/in flight/);
  budget.reserveBytes(30_000).release();
  first.release();
  expect(budget.inFlightBytes).toBe(0);
  expect(facetBytes([{ value: "abc" }, { value: 7n }])).toBe(134);
});

test("of answers of which nothing is known one goes first, and tells how large others are", async () => {
  const clock = new ManualClock();
  const budget = new AnswerBudget(clock, 10_000_000);
  const large = { ...shape, count: 400 };
  const first = budget.reserveKnown(large, 1, {});
  if (first instanceof Promise) throw new Error("the first one waits");
  const order: string[] = [];
  const leave = new AbortController();
  const asked = ["a", "b", "c", "gone"].map(async (name) => {
    try {
      const reservation = await budget.reserveKnown(large, 1, name === "gone" ? { signal: leave.signal } : {});
      order.push(name);
      return reservation;
    } catch (error) {
      order.push(`${name}: ${toKithError(error).code}`);
      throw error;
    }
  });
  const settled = Promise.allSettled(asked);
  leave.abort(new KithError("CANCELLED", "gone"));
  await expect(asked[3]).rejects.toThrow("gone");
  // Small ones, and those of which there is nothing to know, do not wait.
  for (const other of [
    { ...large, count: 10 },
    { ...large, select: undefined },
  ]) {
    const reservation = budget.reserveKnown(other, 1, {});
    if (reservation instanceof Promise) throw new Error("a small one waits");
    reservation.release();
  }
  expect(order).toEqual(["gone: CANCELLED"]);
  // It fails: another one goes first.
  first.release();
  const second = await asked[0];
  await setImmediate();
  expect(order).toEqual(["gone: CANCELLED", "a"]);
  second?.settle(9_900_000);
  // The others wait for room, in vain.
  await clock.advance(14_900);
  expect(order).toEqual(["gone: CANCELLED", "a"]);
  await clock.advance(200);
  await settled;
  expect(order).toEqual(["gone: CANCELLED", "a", "b: RESOURCE_EXHAUSTED", "c: RESOURCE_EXHAUSTED"]);
  second?.release();
  // Facets of a field are unknown, too, whatever their number.
  const facet = { collectionId: "a", select: undefined, count: 1, kind: "facet text" };
  expect(budget.reserveKnown(facet, 1, {})).not.toBeInstanceOf(Promise);
  expect(budget.reserveKnown(facet, 1, {})).toBeInstanceOf(Promise);
});

test("large answers are made in turns, and small ones in between", async () => {
  const budget = new AnswerBudget(systemClock);
  const large = { ...shape, count: 1_000 };
  const told = budget.reserve(large);
  told.settle(24_000_000);
  told.release();
  await setImmediate();
  const first = await budget.reserveKnown(large, 1, {});
  const order: string[] = [];
  const leave = new AbortController();
  const asked = ["gone", "a", "b"].map(async (name) => {
    const reservation = await budget.reserveKnown(large, 1, name === "gone" ? { signal: leave.signal } : {});
    order.push(name);
    return reservation;
  });
  const small = budget.reserveKnown({ ...shape, count: 10 }, 1, {});
  expect(small).not.toBeInstanceOf(Promise);
  leave.abort(new KithError("CANCELLED", "gone"));
  await expect(asked[0]).rejects.toThrow("gone");
  await setImmediate();
  expect(order).toEqual([]);
  // Those that wait count from when they are asked.
  expect(budget.inFlightBytes).toBe(3 * 24_000_000 + 240_000);
  first.release();
  first.release();
  (await asked[1])?.release();
  (await asked[2])?.release();
  expect(order).toEqual(["a", "b"]);
  (await small).release();
  expect(budget.inFlightBytes).toBe(0);
});

const mib = 1024 * 1024;

/** A budget of 64 MiB that knows that answers of `large` have 24 MiB. */
async function withLargeAnswers(): Promise<{ budget: AnswerBudget; clock: ManualClock; large: typeof shape }> {
  const clock = new ManualClock();
  const budget = new AnswerBudget(clock, 64 * mib);
  const large = { ...shape, count: 1_024 };
  const told = await budget.reserveKnown(large, 1, {});
  told.settle(24 * mib);
  told.release();
  await clock.advance(0);
  return { budget, clock, large };
}

test("large answers wait for clients that read slowly, in order, and are refused after a while", async () => {
  const { budget, clock, large } = await withLargeAnswers();
  let unsent = 0;
  budget.countUnsent(() => unsent);
  const first = await budget.reserveKnown(large, 1, {});
  first.release();
  // Two answers are on their way.
  unsent = 48 * mib;
  const order: string[] = [];
  const ask = async (name: string, deadlineMs?: number): Promise<void> => {
    try {
      const reservation = await budget.reserveKnown(large, 1, deadlineMs === undefined ? {} : { deadlineMs });
      order.push(name);
      reservation.release();
      unsent += 24 * mib;
    } catch (error) {
      order.push(`${name}: ${toKithError(error).code}`);
    }
  };
  const asked = [ask("a"), ask("hasty", clock.monotonicMs() + 2_000), ask("b"), ask("c")];
  await clock.advance(900);
  expect(order).toEqual([]);
  // Half the time that its caller gives is over.
  await clock.advance(200);
  expect(order).toEqual(["hasty: RESOURCE_EXHAUSTED"]);
  unsent -= 24 * mib;
  await clock.advance(50);
  expect(order).toEqual(["hasty: RESOURCE_EXHAUSTED", "a"]);
  unsent -= 24 * mib;
  await clock.advance(50);
  expect(order).toEqual(["hasty: RESOURCE_EXHAUSTED", "a", "b"]);
  await clock.advance(15_000);
  await Promise.all(asked);
  expect(order).toEqual(["hasty: RESOURCE_EXHAUSTED", "a", "b", "c: RESOURCE_EXHAUSTED"]);
  expect(budget.inFlightBytes).toBe(48 * mib);
  // Nobody waits, and nobody looks.
  expect(clock.pending).toBe(0);
});

test("a large answer that passes from hand to hand lets no other large one in, and small ones", async () => {
  const { budget, clock, large } = await withLargeAnswers();
  let unsent = 0;
  budget.countUnsent(() => unsent);
  const [first, second] = [budget.reserveBytes(24 * mib), budget.reserveBytes(24 * mib)];
  let isIn = false;
  second.release();
  // Read, and not yet with the server.
  const third = Promise.resolve(budget.reserveKnown(large, 1, {})).then((reservation) => {
    isIn = true;
    return reservation;
  });
  expect(budget.reserveKnown({ ...shape, count: 10 }, 1, {})).not.toBeInstanceOf(Promise);
  unsent = 24 * mib;
  await clock.advance(50);
  expect(isIn).toBe(false);
  first.release();
  await clock.advance(50);
  expect(isIn).toBe(true);
  (await third).release();
});

test("small answers have room where large ones are kept out", async () => {
  const { budget, clock, large } = await withLargeAnswers();
  budget.countUnsent(() => 60 * mib);
  for (const small of [
    { ...shape, count: 10 },
    { ...large, select: undefined },
  ]) {
    const reservation = budget.reserveKnown(small, 1, {});
    expect(reservation).not.toBeInstanceOf(Promise);
    (await reservation).release();
  }
  const refused = expect(budget.reserveKnown(large, 1, {})).rejects.toMatchObject({ code: "RESOURCE_EXHAUSTED" });
  await clock.advance(16_000);
  await refused;
});

test("answers that are large together are kept out as one, though each part is small; what the parts had is learnt", async () => {
  const { budget, clock } = await withLargeAnswers();
  let unsent = 40 * mib;
  budget.countUnsent(() => unsent);
  const together = Promise.resolve(budget.reserveTogether(24 * mib, {}));
  let isIn = false;
  void together.then(() => (isIn = true));
  await clock.advance(100);
  expect(isIn).toBe(false);
  unsent = 8 * mib;
  await clock.advance(100);
  const reservation = await together;
  const part = { ...shape, collectionId: "parts" };
  const within = budget.within(part);
  within.settle(10 * 1_024);
  within.release();
  expect(budget.expectedBytes(part)).toBe(10 * 1_024);
  expect(budget.inFlightBytes).toBe(32 * mib);
  reservation.settle(30 * mib);
  expect(budget.inFlightBytes).toBe(38 * mib);
  reservation.release();
  expect(budget.inFlightBytes).toBe(8 * mib);
  // Small ones together find the last eighth, where large ones are kept out.
  unsent = 60 * mib;
  const small = budget.reserveTogether(mib, {});
  expect(small).not.toBeInstanceOf(Promise);
  (await small).release();
});

test("a page of which nothing is known is no large answer because several shards give it", async () => {
  const { budget } = await withLargeAnswers();
  budget.countUnsent(() => 60 * mib);
  const page = budget.reserveKnown({ ...shape, collectionId: "unknown", count: 100 }, 5, {});
  expect(page).not.toBeInstanceOf(Promise);
  (await page).release();
});

test("who leaves while it waits for room is forgotten", async () => {
  const { budget, clock, large } = await withLargeAnswers();
  budget.countUnsent(() => 60 * mib);
  const leave = new AbortController();
  const asked = expect(budget.reserveKnown(large, 1, { signal: leave.signal })).rejects.toThrow("gone");
  leave.abort(new KithError("CANCELLED", "gone"));
  await asked;
  await clock.advance(20);
  expect(clock.pending).toBe(0);
});
