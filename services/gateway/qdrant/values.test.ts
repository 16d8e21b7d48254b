import fc from "fast-check";
import { expect, test } from "vitest";
import { printReply, shortest } from "./values.js";

test("floats are printed with the digits that were written", () => {
  expect(printReply(Float32Array.of(0.05, -0.61, 4.358899, 1e-7, 16777216, 0.001, 0, 1))).toBe(
    "[0.05,-0.61,4.358899,1e-7,16777216,0.001,0,1]",
  );
  // Up to six digits come back, and whatever is printed is the same float.
  const digits = fc.integer({ min: -999_999, max: 999_999 });
  fc.assert(
    fc.property(digits, fc.integer({ min: -12, max: 6 }), (whole, power) => {
      const written = Number(`${whole}e${power}`);
      expect(shortest(Math.fround(written))).toBe(written === 0 ? 0 : written);
    }),
  );
  fc.assert(
    fc.property(fc.float({ noNaN: true }), (value) => {
      expect(Math.fround(shortest(value)) === value).toBe(true);
    }),
  );
  expect(shortest(0.1)).toBe(0.1);
});
