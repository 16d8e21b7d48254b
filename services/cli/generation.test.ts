/** Generations from the command line: of an index by BM25, and what is said where there is nothing to compare or to pick by. */
import { expect, it } from "vitest";
import { useNode } from "./testing/node.js";

const served = useNode();

it("an index by bm25 is altered, listed, rolled back and dropped, and keeps what is not named", async () => {
  const { kith } = served;
  expect((await kith(["collection", "create", "docs", "-d", "2"])).code).toBe(0);
  const made = ["index", "create", "docs", "body", "bm25", "--language", "english", "--k1", "1.5", "--wait"];
  expect((await kith(made)).code).toBe(0);
  const altered = await kith(["index", "alter", "docs", "body", "--b", "0.5", "--fold-accents", "--wait"]);
  expect(altered).toMatchObject({ code: 0, out: "generation 1 of the index body answers\n" });
  const listed = await kith(["generation", "list", "docs", "-o", "json"]);
  const analyzer = { language: "english", foldAccents: true };
  expect(JSON.parse(listed.out)).toMatchObject([
    { field: "", number: 0, state: "answering" },
    { index: "body", number: 1, state: "answering", bm25: { k1: 1.5, fields: [{ path: "body", b: 0.5 }], analyzer } },
    { index: "body", number: 0, state: "kept", bm25: { k1: 1.5, fields: [{ b: 0.75 }] } },
  ]);
  expect((await kith(["generation", "list", "docs"])).out).toMatch(/body +1 +answering +body +word english +1\.5/);
  const back = await kith(["generation", "rollback", "docs", "--index", "body"]);
  expect(back.out).toBe("generation 0 of the index body of docs answers\n");
  const dropped = await kith(["generation", "drop", "docs", "--index", "body"]);
  expect(dropped.out).toBe("dropped the other generation of the index body of docs\n");
  const none = await kith(["generation", "rollback", "docs", "--index", "body"]);
  expect([none.code, none.err]).toEqual([1, expect.stringContaining("FAILED_PRECONDITION")]);
});

it("nothing to compare, nothing to change, and too little to pick by are told", async () => {
  const { kith } = served;
  const single = await kith(["generation", "compare", "docs"]);
  expect([single.code, single.err]).toEqual([2, expect.stringContaining("one build of its index")]);
  const nothing = await kith(["collection", "alter", "docs"]);
  expect([nothing.code, nothing.err]).toEqual([2, expect.stringContaining("--auto")]);
  const few = await kith(["collection", "alter", "docs", "--auto", "0.95"]);
  expect([few.code, few.err]).toEqual([1, expect.stringContaining("too few to choose a datatype by")]);
  const waiting = await kith(["collection", "alter", "docs", "--m", "8", "--manual"]);
  expect(waiting.code).toBe(0);
  expect((await kith(["generation", "compare", "docs"])).out).toMatch(/\(unnamed\): nothing was compared/);
});
