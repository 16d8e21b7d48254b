import { expect, test } from "vitest";
import { compileFilter, filterSchemaOf, parseFilter } from "../../filter/index.js";
import { LiveMask } from "./live-mask.js";

const emptyMask = (): LiveMask => new LiveMask(compileFilter(parseFilter("a = 1"), filterSchemaOf([])), false);

test("what a search was given is not changed by what comes after it", () => {
  const mask = emptyMask();
  mask.put(3, true);
  const { bytes, words } = mask;
  mask.put(5, true);
  mask.put(3, false);
  expect([...bytes]).toEqual([8, 0, 0, 0]);
  expect([...words]).toEqual([8]);
  expect([...mask.words]).toEqual([32]);
  const before = mask.bytes;
  mask.setAll(Uint32Array.of(2));
  expect([...before]).toEqual([32, 0, 0, 0]);
  // The slots that changed while the mask was made are right already.
  expect([mask.has(1), mask.has(5), mask.has(3), mask.count]).toEqual([true, true, false, 2]);
  const last = mask.words;
  mask.empty(Uint32Array.of(34));
  expect([...last]).toEqual([34]);
  expect([mask.count, ...mask.words]).toEqual([0, 0]);
});

test("nothing is copied where nobody has the words", () => {
  const mask = emptyMask();
  mask.put(70, true);
  const { words } = mask;
  mask.put(1, true);
  const own = mask.words;
  expect(own).not.toBe(words);
  expect(mask.words).toBe(own);
  // Taken away or put where it is: no change, and no copy.
  mask.put(1, true);
  mask.put(2, false);
  expect(mask.words).toBe(own);
});
