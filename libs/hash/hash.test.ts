import { expect, test } from "vitest";
import { murmur32, xxh32, xxh64 } from "./index.js";

const text = new TextEncoder().encode("123456789");

test("hashes agree with their published test vectors, because they are part of the data format", () => {
  expect(xxh32(new Uint8Array())).toBe(0x02cc5d05);
  expect(xxh64(new Uint8Array())).toBe(0xef46db3751d8e999n);
  expect(xxh32(text)).toBe(0x937bad67);
  expect(xxh64(text)).toBe(0x8cb841db40e6ae83n);
});

test("MurmurHash3 agrees with its published test vectors", () => {
  const of = (each: string): number => murmur32(new TextEncoder().encode(each));
  expect(of("")).toBe(0);
  expect(of("test")).toBe(0xba6bd213);
  expect(of("hello")).toBe(0x248bfa47);
  expect(of("Hello, world!")).toBe(0xc0363e43);
  expect(of("The quick brown fox jumps over the lazy dog")).toBe(0x2e4ff723);
});
