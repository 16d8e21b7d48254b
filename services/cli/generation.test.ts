/** Generations from the command line: of an index by BM25, and what is said where there is nothing to compare or to pick by. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { SeededRandom, sleep, systemClock } from "../../libs/base/index.js";
import { eventually } from "../../libs/base/testing.js";
import { connect, type GenerationInfo } from "../../libs/client/index.js";
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

it("a build is compared on live queries, promoted, rolled back and dropped by commands while searches go on", async () => {
  const { kith, folder, node } = served;
  const random = new SeededRandom(3);
  const vectors = Array.from({ length: 2_000 }, () => Array.from({ length: 16 }, () => random.gaussian()));
  const file = join(folder, "live.jsonl");
  writeFileSync(file, vectors.map((vector, id) => JSON.stringify({ id, vector })).join("\n"));
  const made = await kith(["import", file, "-c", "live", "--create", "-m", "l2"]);
  expect(made.code, made.err).toBe(0);
  const client = await connect(node.address);
  const live = client.collection("live");
  let isOver = false;
  let searches = 0;
  const searching = (async (): Promise<void> => {
    for (; !isOver; searches++) {
      const id = (searches * 7) % vectors.length;
      const { points } = await live.query({ vector: vectors[id] ?? [], limit: 3 });
      expect(points[0]).toMatchObject({ id, score: 0 });
      await sleep(systemClock, 2);
    }
  })();
  const builds = async (): Promise<GenerationInfo[]> =>
    JSON.parse((await kith(["generation", "list", "live", "-o", "json"])).out) as GenerationInfo[];
  const states = async (): Promise<string[]> =>
    (await builds()).map(({ datatype, state }) => `${datatype} ${state}`).sort();
  /** Some searches of each state of things. */
  const searched = async (): Promise<void> => {
    const before = searches;
    await eventually(() => expect(searches).toBeGreaterThan(before + 20));
  };
  const command = async (...args: string[]): Promise<string> => {
    const { code, out, err } = await kith(args);
    expect(code, err).toBe(0);
    await searched();
    return out;
  };
  try {
    await searched();
    await command("collection", "alter", "live", "--datatype", "i8", "--originals", "--manual");
    await eventually(async () => expect(await states()).toEqual(["f32 answering", "i8 ready"]));
    const compared = await eventually(async () => {
      const told = await kith(["generation", "compare", "live"]);
      expect(told.out).toMatch(/generation 1 beside 0, \d+ queries: overlap@3 [01]\.\d{4}, recall [+-]0\.\d{4} ± \d/);
      return told.out;
    });
    expect(compared).toMatch(/\(unnamed\) +1 +ready +i8 \+ originals/);
    expect(await command("generation", "promote", "live")).toContain("generation 1");
    expect(await states()).toEqual(["f32 kept", "i8 answering"]);
    expect((await kith(["generation", "compare", "live"])).out).toMatch(/generation 0 beside 1|nothing was compared/);
    expect(await command("generation", "rollback", "live")).toContain("generation 0");
    expect(await states()).toEqual(["f32 answering", "i8 kept"]);
    await command("generation", "rollback", "live");
    expect(await states()).toEqual(["f32 kept", "i8 answering"]);
    await command("generation", "drop", "live");
    expect(await states()).toEqual(["i8 answering"]);
  } finally {
    isOver = true;
    await searching;
    client.close();
  }
});
