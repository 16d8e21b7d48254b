import { expect, test } from "vitest";
import { crc32c } from "./index.js";

const text = new TextEncoder().encode("123456789");

test("the checksum agrees with its published test vector, because it is part of the data format", () => {
  expect(crc32c(text)).toBe(0xe3069283);
});

test("a checksum can be continued over several pieces", () => {
  expect(crc32c(text.subarray(4), crc32c(text.subarray(0, 4)))).toBe(crc32c(text));
});

test("few bytes and many bytes are summed up alike", () => {
  const bytes = Uint8Array.from({ length: 200 }, (_, i) => (i * 167 + 13) & 255);
  for (let length = 0; length <= 48; length++) {
    const pieces = [0, length, 120].map((from, i, all) => bytes.subarray(from, all[i + 1]));
    expect(pieces.reduce((crc, piece) => crc32c(piece, crc), 0)).toBe(crc32c(bytes));
  }
});
