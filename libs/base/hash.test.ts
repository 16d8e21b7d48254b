import { expect, test } from "vitest";
import { crc32c, xxh32, xxh64 } from "./index.js";

const text = new TextEncoder().encode("123456789");

test("hashes agree with their published test vectors, because they are part of the data format", () => {
  expect(crc32c(text)).toBe(0xe3069283);
  expect(xxh32(new Uint8Array())).toBe(0x02cc5d05);
  expect(xxh64(new Uint8Array())).toBe(0xef46db3751d8e999n);
  expect(xxh32(text)).toBe(0x937bad67);
  expect(xxh64(text)).toBe(0x8cb841db40e6ae83n);
});

test("a checksum can be continued over several pieces", () => {
  expect(crc32c(text.subarray(4), crc32c(text.subarray(0, 4)))).toBe(crc32c(text));
});
