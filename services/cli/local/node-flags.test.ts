import { expect, it } from "vitest";
import { serverFlags } from "./node-flags.js";

const gib = 1024 ** 3;

it("bounds the heaps of all processes to half of the memory, and each to what Node can use", () => {
  expect(serverFlags(3, 12 * gib, [])).toEqual(["--max-old-space-size=2048"]);
  expect(serverFlags(2, 64 * gib, [])).toEqual(["--max-old-space-size=4096"]);
  expect(serverFlags(33, 4 * gib, [])).toEqual(["--max-old-space-size=256"]);
});

it("leaves a limit alone that somebody has chosen", () => {
  for (const given of [["--cpu-prof --max_old_space_size=900"], ["--max-old-space-size=900", "main.js"]]) {
    expect(serverFlags(3, 12 * gib, given)).toEqual([]);
  }
});
