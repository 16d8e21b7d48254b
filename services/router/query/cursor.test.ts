import { expect, test } from "vitest";
import { parseFilter } from "../../../libs/filter/index.js";
import { idFromName, idFromNum, type OrderBy } from "../../../libs/model/index.js";
import { decodeIdCursor, decodePlaceCursor, encodeIdCursor, encodePlaceCursor, scrollMark } from "./cursor.js";

const order: OrderBy = { key: "year", direction: "ascending" };
const filter = parseFilter("year > 1990");

test("a cursor gives back its place, and is refused by any other scroll", () => {
  const print = scrollMark("c1", filter, order);
  const place = { value: -1.5, id: idFromName("x") };
  expect(decodePlaceCursor(encodePlaceCursor(print, place), print)).toEqual(place);
  expect(decodeIdCursor(encodeIdCursor(print, idFromNum(7)), print)).toEqual(idFromNum(7));
  expect(decodePlaceCursor(new Uint8Array(0), print)).toBeUndefined();
  expect(decodeIdCursor(new Uint8Array(0), print)).toBeUndefined();
  const others = [
    scrollMark("c1", undefined, order),
    scrollMark("c1", parseFilter("year > 1991"), order),
    scrollMark("c1", filter, { ...order, direction: "descending" }),
    scrollMark("c1", filter, { ...order, startFrom: 3 }),
    scrollMark("c1", filter, undefined),
  ];
  const refused = expect.objectContaining({ code: "INVALID_ARGUMENT", details: { path: "cursor" } }) as Error;
  const gone = expect.objectContaining({ code: "COLLECTION_NOT_FOUND" }) as Error;
  const anew = scrollMark("c2", filter, order);
  expect(() => decodePlaceCursor(encodePlaceCursor(print, place), anew)).toThrow(gone);
  expect(() => decodeIdCursor(encodeIdCursor(print, place.id), anew)).toThrow(gone);
  for (const other of others) {
    expect(() => decodePlaceCursor(encodePlaceCursor(print, place), other)).toThrow(refused);
    expect(() => decodeIdCursor(encodeIdCursor(print, place.id), other)).toThrow(refused);
  }
  expect(() => decodePlaceCursor(encodeIdCursor(print, place.id), print)).toThrow(refused);
  expect(() => decodeIdCursor(encodePlaceCursor(print, place), print)).toThrow(refused);
  for (const broken of [encodePlaceCursor(print, { ...place, value: Number.NaN }), Buffer.alloc(3), Buffer.alloc(30)]) {
    expect(() => decodePlaceCursor(broken, print)).toThrow(refused);
  }
});
