import { expect, test } from "vitest";
import { ManualClock } from "../base/testing.js";
import { checkLimits, lowest, Usages } from "./usage.js";

const codeOf = (act: () => unknown): unknown => {
  try {
    act();
    return "in";
  } catch (error) {
    const { code, retryAfterMs, details } = error as { code: string; retryAfterMs: number; details: { limit: string } };
    return [code, details.limit, retryAfterMs];
  }
};

test("requests come at a rate, with a second's worth at once", async () => {
  const clock = new ManualClock();
  const usage = new Usages(clock).of("a", { requestsPerSecond: 4 });
  const begin = (): unknown => codeOf(() => usage?.begin());
  expect([begin(), begin(), begin(), begin()]).toEqual(["in", "in", "in", "in"]);
  expect(begin()).toEqual(["RESOURCE_EXHAUSTED", "requestsPerSecond", 250]);
  await clock.advance(250);
  expect([begin(), begin()]).toEqual(["in", ["RESOURCE_EXHAUSTED", "requestsPerSecond", 250]]);
  // Nothing is saved up beyond a second.
  await clock.advance(60_000);
  expect([begin(), begin(), begin(), begin(), begin()].filter((each) => each === "in")).toHaveLength(4);
});

test("what a call costs beyond what is left is made up for by those that follow", async () => {
  const clock = new ManualClock();
  const usages = new Usages(clock);
  const usage = usages.of("a", { pointsPerSecond: 10, bytesPerSecond: 1_000 });
  const begin = (): unknown => codeOf(() => usage?.begin());
  expect(begin()).toBe("in");
  usage?.spend(30, 10);
  expect(begin()).toMatchObject(["RESOURCE_EXHAUSTED", "pointsPerSecond", 2_000]);
  await clock.advance(2_001);
  expect(begin()).toBe("in");
  usage?.spend(0, 3_000);
  expect(begin()).toMatchObject(["RESOURCE_EXHAUSTED", "bytesPerSecond", 2_000]);
  // The same caller with another token has used the same.
  expect(usages.of("a", { pointsPerSecond: 10, bytesPerSecond: 1_000 })).toBe(usage);
  expect(codeOf(() => usages.of("b", { pointsPerSecond: 10, bytesPerSecond: 1_000 })?.begin())).toBe("in");
});

test("queries at once are counted until they end", () => {
  const usage = new Usages(new ManualClock()).of("a", { concurrentQueries: 2 });
  const first = usage?.query();
  usage?.query();
  expect(codeOf(() => usage?.query())).toEqual(["RESOURCE_EXHAUSTED", "concurrentQueries", 100]);
  first?.();
  expect(codeOf(() => usage?.query())).toBe("in");
});

test("of several limits the lowest hold, and nonsense is none", () => {
  expect(lowest([undefined, {}])).toBeUndefined();
  expect(lowest([{ requestsPerSecond: 5, concurrentQueries: 1 }, { requestsPerSecond: 3 }])).toEqual({
    requestsPerSecond: 3,
    concurrentQueries: 1,
  });
  for (const value of [0, -1, 1.5, Number.NaN, 2 ** 50]) {
    expect(codeOf(() => checkLimits({ pointsPerSecond: value }, "limits"))).toEqual([
      "INVALID_ARGUMENT",
      undefined,
      undefined,
    ]);
  }
});

test("nothing is added to a collection that has as much as the caller may leave there", () => {
  const usage = new Usages(new ManualClock()).of("a", { storedPoints: 10, storedBytes: 1_000 });
  const room = (points: number, bytes: number, isTold = true): unknown =>
    codeOf(() => usage?.room("films", { points, bytes, isTold }));
  expect(room(9, 999)).toBe("in");
  expect(room(10, 0)).toEqual(["RESOURCE_EXHAUSTED", "storedPoints", 60_000]);
  expect(room(0, 1_000)).toEqual(["RESOURCE_EXHAUSTED", "storedBytes", 60_000]);
  const failure = (isTold: boolean): unknown => {
    try {
      usage?.room("films", { points: 12_345, bytes: 0, isTold });
    } catch (error) {
      return error;
    }
    return undefined;
  };
  expect(failure(true)).toMatchObject({ details: { limit: "storedPoints", max: 10, value: 12_345 } });
  // Whoever sees a part of the points is not told how many there are.
  expect(JSON.stringify(failure(false)) + String(failure(false))).not.toContain("12345");
  expect(
    new Usages(new ManualClock())
      .of("a", { requestsPerSecond: 1 })
      ?.room("films", { points: 1e9, bytes: 1e9, isTold: true }),
  ).toBe(undefined);
});
