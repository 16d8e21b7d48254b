import * as fc from "fast-check";
import { expect, test } from "vitest";
import { beginning, ending, SortedEntries } from "./sorted-entries.js";

/** Entries stand for themselves. */
const compare = (a: number, b: number): number => a - b;
const from = (value: number) => (entry: number) => entry - value;
const after = (entry: number) => (other: number) => (other > entry ? 1 : -1);

function all(entries: SortedEntries, low = beginning, high = ending): number[] {
  const found: number[] = [];
  const steps = entries.scan(low, high, after, (run, first, end) => found.push(...run.subarray(first, end)));
  while (steps.next().done !== true) continue;
  return found;
}

test("histories of insertions and removals give what a sorted array gives", () => {
  const step = fc.record({ remove: fc.boolean(), values: fc.array(fc.nat(20_000), { maxLength: 2_000, size: "max" }) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 8, size: "max" }), fc.nat(20_000), fc.nat(20_000), (steps, low, high) => {
      const entries = new SortedEntries(compare);
      const model = new Set<number>();
      for (const { remove, values } of steps) {
        for (const value of values) {
          if (remove === model.has(value)) {
            if (remove) entries.remove(value);
            else entries.insert(value);
            if (remove) model.delete(value);
            else model.add(value);
          }
        }
      }
      const sorted = [...model].sort(compare);
      expect(entries.size).toBe(sorted.length);
      expect([...entries.toArray()]).toEqual(sorted);
      expect(all(entries)).toEqual(sorted);
      expect(all(entries, from(low), from(high))).toEqual(sorted.filter((value) => value >= low && value < high));
      expect(entries.rank(from(low))).toBe(sorted.filter((value) => value < low).length);
      const some: number[] = [];
      entries.forward(from(low), (entry) => some.push(entry) < 700);
      expect(some).toEqual(sorted.filter((value) => value >= low).slice(0, 700));
      some.length = 0;
      entries.backward(from(high), (entry) => some.push(entry) < 700);
      expect(some).toEqual(
        sorted
          .filter((value) => value < high)
          .reverse()
          .slice(0, 700),
      );
      const loaded = new SortedEntries(compare);
      loaded.load(entries.toArray());
      expect(all(loaded)).toEqual(sorted);
    }),
    { numRuns: 40 },
  );
});

test.each([
  ["ascending", (i: number) => i, 4.6],
  ["descending", (i: number) => 100_000 - i, 8.6],
  ["in eight ascending runs", (i: number) => (i % 8) * 100_000 + i, 4.9],
  ["at random", (i: number) => (i * 7_919) % 100_003, 6.2],
])("entries that come %s take few bytes each", (_, value, bytes) => {
  const entries = new SortedEntries(compare);
  for (let i = 0; i < 100_000; i++) entries.insert(value(i));
  expect(entries.memoryBytes / entries.size).toBeLessThan(bytes);
});

test("blocks whose entries go are used again", () => {
  const entries = new SortedEntries(compare);
  for (let i = 0; i < 50_000; i++) entries.insert(i);
  const { memoryBytes } = entries;
  for (let i = 0; i < 50_000; i++) if (i % 100 !== 0) entries.remove(i);
  expect(all(entries)).toHaveLength(500);
  for (let i = 0; i < 50_000; i++) if (i % 100 !== 0) entries.insert(i);
  // All were full at first; now most are half full.
  expect(entries.memoryBytes).toBeLessThan(memoryBytes * 2);
  expect(all(entries)).toHaveLength(50_000);
});

test("a scan sees what stays while entries come and go between its steps", () => {
  const entries = new SortedEntries(compare);
  for (let i = 0; i < 200_000; i += 2) entries.insert(i);
  const seen = new Set<number>();
  let steps = 0;
  let twice = 0;
  const scan = entries.scan(beginning, ending, after, (run, first, end) => {
    for (let i = first; i < end; i++) {
      if (seen.has(run[i] as number)) twice++;
      seen.add(run[i] as number);
    }
  });
  while (scan.next().done !== true) {
    steps++;
    for (let i = 0; i < 3000; i++) {
      const odd = (steps * 3000 + i) * 2 + 1;
      if (odd < 200_000) entries.insert(odd);
      const gone = 100_000 + 4 * (steps * 3000 + i);
      if (gone < 200_000) entries.remove(gone);
    }
  }
  expect(steps).toBeGreaterThan(3);
  expect(twice).toBe(0);
  const staying = Array.from({ length: 100_000 }, (_, i) => 2 * i).filter((i) => i < 100_000 || i % 4 === 2);
  expect(staying.filter((i) => !seen.has(i))).toEqual([]);
});
