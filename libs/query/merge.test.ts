import fc from "fast-check";
import { expect, test } from "vitest";
import { type Hit, idFromNum } from "../model/index.js";
import { compareHits, mergeHits } from "./index.js";

const hit = fc
  .record({ id: fc.integer({ min: 0, max: 50 }), distance: fc.integer({ min: 0, max: 5 }) })
  .map(({ id, distance }): Hit => ({ id: idFromNum(id), distance, version: 1, payload: new Uint8Array() }));

test("merging sorted lists gives what sorting everything gives", () => {
  fc.assert(
    fc.property(fc.array(fc.array(hit, { maxLength: 12 }), { minLength: 1, maxLength: 5 }), fc.nat(20), (lists, k) => {
      const sorted = lists.map((list) => [...list].sort(compareHits));
      const expected = lists.flat().sort(compareHits).slice(0, k);
      const plain = (hits: Hit[]) => hits.map(({ distance, id }) => [distance, Buffer.from(id).toString("hex")]);
      expect(plain(mergeHits(sorted, k))).toEqual(plain(expected));
    }),
  );
});
