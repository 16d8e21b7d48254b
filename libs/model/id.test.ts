import { expect, test } from "vitest";
import { idFromKey, idFromName, idFromNum, idInPartition, isIdKey, partitionedId, partitionOf } from "./index.js";

test.each(["\uFEFF", "\uFEFFa", "a\uFEFF", "ä"])("the string id %j comes back as it was given", (value) => {
  expect(idFromKey(idFromName(value))).toEqual({ kind: "name", value });
});

test("an id within a partition keeps both, and is no key form once it is cut", () => {
  const id = idFromNum(42);
  const key = partitionedId("mü", id);
  expect(Buffer.from(partitionOf(key) ?? []).toString()).toBe("mü");
  expect(idInPartition(key)).toEqual(id);
  expect(idFromKey(key)).toEqual({ kind: "num", value: 42n });
  expect(isIdKey(key)).toBe(true);
  for (let length = 1; length < key.length; length++) expect(isIdKey(key.subarray(0, length))).toBe(false);
  expect(isIdKey(Uint8Array.from([4, 0, ...id]))).toBe(false);
  expect(isIdKey(Uint8Array.from([4, 1, 97, ...key]))).toBe(false);
  expect(() => partitionedId("", id)).toThrow();
  expect(() => partitionedId("a", key)).toThrow();
  expect(partitionOf(id)).toBeUndefined();
  expect(idInPartition(id)).toBe(id);
});
