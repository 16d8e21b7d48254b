import { expect, test } from "vitest";
import { ManualClock } from "../../base/testing.js";
import { fieldConditions, parseFilter } from "../../filter/index.js";
import type { PayloadIndex } from "../../model/index.js";
import { IndexUsage } from "./index-usage.js";

const index = (path: string, kind: PayloadIndex["kind"]): PayloadIndex => {
  return { path, kind, isTenant: false, isPrincipal: false };
};

test("conditions count for the index that answers them, or for the field that has none", () => {
  const clock = new ManualClock();
  const indexes = [index("year", "integer"), index("title", "text")];
  const usage = new IndexUsage(clock, indexes);
  const openedMs = clock.nowMs();
  for (const text of [
    "year > 1990 and genre = drama",
    "genre = crime or not genre = noir",
    'title = "M"',
    "has_id(1)",
  ]) {
    usage.filtered(fieldConditions(parseFilter(text)), indexes);
  }
  expect(usage.of("year")).toEqual({ count: 1, sinceMs: openedMs });
  expect(usage.of("title")).toEqual({ count: 0, sinceMs: openedMs });
  expect(usage.unindexed()).toEqual([
    { path: "genre", kinds: ["keyword", "uuid"], count: 3 },
    { path: "title", kinds: ["keyword", "uuid"], count: 1 },
  ]);
});

test("an index that comes counts from then on, others go on, and one that is dropped is forgotten", async () => {
  const clock = new ManualClock();
  const year = index("year", "integer");
  const usage = new IndexUsage(clock, [year]);
  const openedMs = clock.nowMs();
  usage.used("year");
  await clock.advance(1_000);
  usage.changeIndexes([year, index("genre", "keyword")]);
  usage.used("genre");
  expect(usage.of("year")).toEqual({ count: 1, sinceMs: openedMs });
  expect(usage.of("genre")).toEqual({ count: 1, sinceMs: openedMs + 1_000 });
  usage.changeIndexes([]);
  usage.used("year");
  usage.changeIndexes([year]);
  expect(usage.of("year").count).toBe(0);
});

test("so many fields are remembered, the rarest goes first", () => {
  const usage = new IndexUsage(new ManualClock(), []);
  for (let round = 0; round < 2; round++) usage.filtered(fieldConditions(parseFilter("often = 1")), []);
  for (let i = 0; i < 200; i++) usage.filtered(fieldConditions(parseFilter(`f${i} = 1`)), []);
  expect(usage.unindexed()).toHaveLength(64);
  expect(usage.unindexed()[0]).toMatchObject({ path: "often", count: 2 });
});
