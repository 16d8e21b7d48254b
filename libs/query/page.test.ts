import { expect, test } from "vitest";
import { limits } from "../base/index.js";
import { idFromNum, type ShardPage, type StoredPoint } from "../model/index.js";
import { mergePages } from "./index.js";

function page(ids: readonly number[], end: boolean, payloadBytes = 0): ShardPage {
  const payload = new Uint8Array(payloadBytes);
  return { points: ids.map((id) => ({ id: idFromNum(id), version: 1, payload })), end, sequence: 1 };
}

const idsOf = (points: readonly StoredPoint[]): bigint[] => points.map(({ id }) => Buffer.from(id).readBigUInt64BE(1));
const merged = (limit: number, ...pages: ShardPage[]): { ids: bigint[]; end: boolean } => {
  const { points, end } = mergePages(pages, limit);
  return { ids: idsOf(points), end };
};

test("a merged page holds the first of all pages, up to the limit", () => {
  expect(merged(3, page([1, 4, 6], false), page([2, 3], true))).toEqual({ ids: [1n, 2n, 3n], end: false });
  expect(merged(5, page([1, 4], true), page([2, 3], true))).toEqual({ ids: [1n, 2n, 3n, 4n], end: true });
  expect(merged(4, page([1, 4], true), page([2, 3], true))).toEqual({ ids: [1n, 2n, 3n, 4n], end: true });
  expect(merged(3, page([], true), page([], true))).toEqual({ ids: [], end: true });
});

test("it skips no point of a shard that ended its page early", () => {
  expect(merged(10, page([1, 4], false), page([2, 3, 5, 7], true))).toEqual({ ids: [1n, 2n, 3n, 4n], end: false });
  expect(merged(10, page([5], false), page([1, 3], false))).toEqual({ ids: [1n, 3n], end: false });
  expect(merged(10, page([1, 2], false), page([], true))).toEqual({ ids: [1n, 2n], end: false });
});

test("it ends early where it would hold too much, but holds one point", () => {
  const half = limits.scrollBytes / 2;
  expect(merged(10, page([1, 3], true, half), page([2], true, half))).toEqual({ ids: [1n, 2n], end: false });
  expect(merged(10, page([1], true, 2 * limits.scrollBytes))).toEqual({ ids: [1n], end: true });
});
