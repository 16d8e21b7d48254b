import fc from "fast-check";
import { expect, test } from "vitest";
import { type Hit, idFromNum } from "../model/index.js";
import { compareHits, mergeHits, type Order } from "./index.js";

const hit = fc
  .record({ id: fc.integer({ min: 0, max: 50 }), score: fc.integer({ min: 0, max: 5 }) })
  .map(({ id, score }): Hit => ({ id: idFromNum(id), score, version: 1, payload: new Uint8Array() }));
const order = fc.constantFrom<Order>("higher", "lower");

test("merging sorted lists gives what sorting everything gives", () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(hit, { maxLength: 12 }), { minLength: 1, maxLength: 5 }),
      fc.nat(20),
      order,
      (lists, k, better) => {
        const compare = (a: Hit, b: Hit): number => compareHits(a, b, better);
        const sorted = lists.map((list) => [...list].sort(compare));
        const expected = lists.flat().sort(compare).slice(0, k);
        const plain = (hits: Hit[]) => hits.map(({ score, id }) => [score, Buffer.from(id).toString("hex")]);
        expect(plain(mergeHits(sorted, k, better))).toEqual(plain(expected));
        const scores = expected.map(({ score }) => score);
        expect(scores).toEqual([...scores].sort((a, b) => (better === "lower" ? a - b : b - a)));
      },
    ),
  );
});
