import { expect, test } from "vitest";
import {
  idBefore,
  idFromKey,
  idFromName,
  idFromNum,
  idFromUuid,
  idInPartition,
  isIdKey,
  partitionedId,
  partitionOf,
} from "./index.js";

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

test("the id before one is the greatest below it, and UUIDs come after all numbers", () => {
  const before = (key: Uint8Array) => {
    const found = idBefore(key);
    return found && idFromKey(found).value;
  };
  expect(before(idFromNum(0))).toBeUndefined();
  expect(before(idFromNum(256))).toBe(255n);
  expect(before(idFromUuid("00000000-0000-0000-0000-000000000100"))).toBe("00000000-0000-0000-0000-0000000000ff");
  expect(before(idFromUuid("00000000-0000-0000-0000-000000000000"))).toBe(2n ** 64n - 1n);
  expect(() => before(idFromName("a"))).toThrow(expect.objectContaining({ code: "INVALID_ID" }));
});
