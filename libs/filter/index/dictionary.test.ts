import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Dictionary } from "./dictionary.js";

const text = fc.oneof(
  fc.string({ unit: fc.constantFrom("a", "b", "é", "東"), maxLength: 4 }),
  fc.string({ unit: "binary", maxLength: 300 }),
  fc.integer({ min: 0, max: 40 }).map((size) => "x".repeat(size * 700)),
  fc.constantFrom("", "\ud800", "\u00ff", "\u0100"),
);

function run(steps: Generator<undefined, void>): void {
  while (steps.next().done !== true) continue;
}

test("histories of uses and releases give what a Map gives", () => {
  const step = fc.record({ text, release: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300, size: "max" }), text, (steps, prefix) => {
      const dictionary = new Dictionary();
      const model = new Map<string, { number: number; count: number }>();
      for (const { text, release } of steps) {
        const known = model.get(text);
        if (!release) {
          const number = dictionary.use(text);
          if (known !== undefined) expect(number).toBe(known.number);
          model.set(text, { number, count: (known?.count ?? 0) + 1 });
        } else if (known !== undefined) {
          dictionary.release(known.number);
          known.count--;
          if (known.count === 0) model.delete(text);
        }
      }
      expect(dictionary.size).toBe(model.size);
      expect(new Set([...model.values()].map((each) => each.number)).size).toBe(model.size);
      for (const [known, { number, count }] of model) {
        expect(dictionary.find(known)).toBe(number);
        expect(dictionary.text(number)).toBe(known);
        expect(dictionary.count(number)).toBe(count);
      }
      expect(dictionary.find("not there")).toBeUndefined();
      const sorted = [...model.keys()].sort();
      const found: string[] = [];
      run(dictionary.all((number) => found.push(dictionary.text(number))));
      expect(found).toEqual(sorted);
      const begun: string[] = [];
      run(dictionary.withPrefix(prefix, (number) => begun.push(dictionary.text(number))));
      expect(begun).toEqual(sorted.filter((each) => each.startsWith(prefix)));
    }),
    { numRuns: 100 },
  );
});

test("memory of strings that are released is used again", () => {
  const dictionary = new Dictionary();
  const numbers: number[] = [];
  for (let i = 0; i < 20_000; i++) numbers.push(dictionary.use(`string ${i}`));
  const { memoryBytes } = dictionary;
  for (let round = 1; round < 6; round++) {
    for (let i = 0; i < 20_000; i++) {
      dictionary.release(numbers[i] as number);
      numbers[i] = dictionary.use(`string ${round} ${i}`);
    }
  }
  expect(dictionary.size).toBe(20_000);
  expect(dictionary.end).toBeLessThanOrEqual(20_001);
  expect(dictionary.memoryBytes).toBeLessThan(memoryBytes * 2.2);
  for (let i = 0; i < 20_000; i++) expect(dictionary.text(numbers[i] as number)).toBe(`string 5 ${i}`);
});
