import { expect, test } from "vitest";
import { ManualClock } from "../../libs/base/testing.js";
import type { Collection } from "../../libs/model/index.js";
import { Rates } from "./rates.js";

test("a collection takes so many calls a second, at once or spread, and saves none up", async () => {
  const clock = new ManualClock();
  const rates = new Rates(clock);
  const collection = { id: "c1", name: "films", strictMode: { maxReadsPerSecond: 4 } } as unknown as Collection;
  const taken = (count: number): number => {
    let passed = 0;
    for (let i = 0; i < count; i++) {
      try {
        rates.take(collection, "maxReadsPerSecond");
        passed++;
      } catch (error) {
        expect(error).toMatchObject({ code: "RESOURCE_EXHAUSTED", details: { limit: "max_reads_per_second", max: 4 } });
        expect((error as { retryAfterMs: number }).retryAfterMs).toBeLessThanOrEqual(250);
      }
    }
    return passed;
  };
  expect(taken(6)).toBe(4);
  await clock.advance(500);
  expect(taken(6)).toBe(2);
  await clock.advance(60_000);
  expect(taken(6)).toBe(4);
  // Writes are another thing, and so is another collection.
  expect(() => rates.take(collection, "maxWritesPerSecond")).not.toThrow();
  expect(() => rates.take({ ...collection, id: "c2" }, "maxReadsPerSecond")).not.toThrow();
});
