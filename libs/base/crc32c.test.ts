import { expect, test } from "vitest";
import { crc32c } from "./index.js";

const text = new TextEncoder().encode("123456789");

test("the checksum agrees with its published test vector, because it is part of the data format", () => {
  expect(crc32c(text)).toBe(0xe3069283);
});

test("a checksum can be continued over several pieces", () => {
  expect(crc32c(text.subarray(4), crc32c(text.subarray(0, 4)))).toBe(crc32c(text));
});
