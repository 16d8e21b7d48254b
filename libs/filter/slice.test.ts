import { expect, test } from "vitest";
import { idFromName, idFromNum, idFromUuid } from "../model/index.js";
import { sliceOf } from "./slice.js";

const totals = [1, 2, 7, 1000, 2 ** 32 - 1];

// From qdrant-client's siphash.py, which was checked against the reference vectors and a server.
test.each([
  [idFromNum(0), [0, 1, 3, 119, 1481117219]],
  [idFromNum(1), [0, 0, 2, 398, 336930053]],
  [idFromNum(42), [0, 1, 1, 819, 388231954]],
  [idFromNum(2 ** 32), [0, 0, 3, 532, 1070379717]],
  [idFromNum(9007199254740993n), [0, 1, 2, 9, 2459916404]],
  [idFromNum(18446744073709551615n), [0, 0, 4, 430, 3944387305]],
  [idFromUuid("550e8400-e29b-41d4-a716-446655440000"), [0, 0, 0, 868, 2953158438]],
  [idFromName("order-7"), [0, 1, 5, 277, 3703952482]],
])("the slices of %o are Qdrant's", (id, slices) => {
  expect(totals.map((total) => sliceOf(id, total))).toEqual(slices);
});

test("slices are of about the same size, also for names", () => {
  const counts = new Map<number, number>();
  for (let i = 0; i < 8000; i++) {
    const slice = sliceOf(i % 2 === 0 ? idFromNum(i) : idFromName(`item ${i}`), 8);
    counts.set(slice, (counts.get(slice) ?? 0) + 1);
  }
  for (let slice = 0; slice < 8; slice++) expect(Math.abs((counts.get(slice) ?? 0) - 1000)).toBeLessThan(150);
});

test("an id is left as it is, also one in a Buffer, whose slices share its memory", () => {
  const id = Buffer.from(idFromNum(28));
  sliceOf(id, 3);
  expect(id).toEqual(Buffer.from(idFromNum(28)));
});
