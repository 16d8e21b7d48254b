import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { useNode } from "./testing/node.js";

const served = useNode();

it("sparse vectors are made, imported, searched, shown and exported", async () => {
  const { kith, folder } = served;
  const lines = [
    { id: 1, vector: [1, 0], vectors: { words: { indices: [42, 7], values: [1, 0.5] } }, payload: { n: 1 } },
    { id: 2, vector: [2, 0], vectors: { words: { indices: [42], values: [2.25] } }, payload: { n: 2 } },
    { id: 3, vector: [3, 0], payload: { n: 3 } },
  ];
  const file = join(folder, "docs.jsonl");
  writeFileSync(file, lines.map((line) => JSON.stringify(line)).join("\n"));
  const created = await kith(["collection", "create", "docs", "-d", "2", "-m", "l2", "--sparse", "words:idf"]);
  expect(created).toMatchObject({
    code: 0,
    out: "created docs (2 × f32, l2; words: sparse, idf; 1 shard × 1 replica)\n",
  });
  expect((await kith(["import", file, "-c", "docs"])).code).toBe(0);
  expect((await kith(["collection", "list"])).out).toContain("words:sparse/idf");
  expect((await kith(["collection", "describe", "docs"])).out).toMatch(/SPARSE +MODIFIER\nwords +idf/);

  const query = JSON.stringify({ indices: [42], values: [1] });
  const found = await kith(["search", "docs", "--sparse", query, "-o", "json"]);
  const { points } = JSON.parse(found.out) as { points: { id: number; payload: unknown }[] };
  expect(points.map(({ id, payload }) => [id, payload])).toEqual([
    [2, { n: 2 }],
    [1, { n: 1 }],
  ]);
  const shown = await kith(["get", "docs", "1", "--with-vectors", "-o", "json"]);
  expect(JSON.parse(shown.out)).toMatchObject([{ id: 1, sparse: { words: { indices: [7, 42], values: [0.5, 1] } } }]);
  expect((await kith(["search", "docs", "--sparse", "[1]"])).code).toBe(2);

  // What is exported makes the same collection again, whose fields are told by the file.
  const out = join(folder, "out.jsonl");
  expect((await kith(["export", "docs", out])).code).toBe(0);
  expect(readFileSync(out, "utf8").split("\n")[0]).toBe(
    '{"id":1,"vector":[1,0],"vectors":{"words":{"indices":[7,42],"values":[0.5,1]}},"payload":{"n":1}}',
  );
  expect((await kith(["import", out, "-c", "copy", "--create", "-m", "l2"])).code).toBe(0);
  const again = await kith(["search", "copy", "--sparse", query, "-o", "json"]);
  expect((JSON.parse(again.out) as { points: { id: number }[] }).points.map(({ id }) => id)).toEqual([2, 1]);
  const csv = await kith(["export", "docs", join(folder, "out.csv")]);
  expect([csv.code, csv.err]).toEqual([2, expect.stringContaining("JSON lines")]);

  const bad = join(folder, "bad.jsonl");
  writeFileSync(bad, '{"id": 9, "vectors": {"words": {"indices": [1, 1], "values": [1, 2]}}}\n');
  const refused = await kith(["import", bad, "-c", "docs"]);
  expect([refused.code, refused.err]).toEqual([1, expect.stringContaining("the index 1 twice")]);
  expect((await kith(["collection", "create", "alone", "--sparse", "words"])).code).toBe(0);
});

it("texts, vectors and sparse vectors are looked for at once", async () => {
  const { kith, folder } = served;
  const file = join(folder, "mixed.jsonl");
  const lines = [
    { id: 1, vector: [1, 0], vectors: { words: { indices: [1], values: [1] } }, payload: { title: "boundary layer" } },
    { id: 2, vector: [0, 1], vectors: { words: { indices: [2], values: [1] } }, payload: { title: "layer" } },
    { id: 3, vector: [1, 1], vectors: { words: { indices: [1, 2], values: [1, 3] } }, payload: { title: "other" } },
  ];
  writeFileSync(file, lines.map((line) => JSON.stringify(line)).join("\n"));
  expect((await kith(["collection", "create", "mixed", "-d", "2", "--sparse", "words"])).code).toBe(0);
  expect((await kith(["index", "create", "mixed", "title", "bm25"])).code).toBe(0);
  expect((await kith(["import", file, "-c", "mixed", "--wait"])).code).toBe(0);
  const idsOf = async (...args: string[]): Promise<number[]> => {
    const found = await kith(["search", "mixed", "--hybrid", "-o", "json", ...args]);
    expect([found.code, found.err]).toEqual([0, expect.any(String)]);
    return (JSON.parse(found.out) as { points: { id: number }[] }).points.map(({ id }) => id);
  };
  const sparse = ["--sparse", '{"indices": [2], "values": [1]}'];
  const text = ["--text", "boundary"];
  const vector = ["--vector", "[0, 1]"];
  // 3 and 2 by the sparse vector; 1 by the text; 2, 3 and 1 by the vector.
  const relative = ["--fusion", "relative", "--weights"];
  expect(await idsOf(...sparse, ...vector, ...relative, '{"vector": 9}')).toEqual([2, 3, 1]);
  expect(await idsOf(...sparse, ...vector, ...relative, '{"sparse": 2}')).toEqual([3, 2, 1]);
  expect(await idsOf(...text, ...sparse, "--weights", '{"text": 9}', "--sparse-field", "words")).toEqual([1, 3, 2]);
  expect((await idsOf(...text, ...sparse, ...vector, "--weights", '{"text": 9}'))[0]).toBe(1);
  for (const [args, message] of [
    [[...sparse, ...vector], "add --hybrid"],
    [["--hybrid", ...sparse], "two of --text, --vector and --sparse"],
    [["--hybrid", ...text, "--id", "1"], "takes --text, --vector and --sparse"],
    [[...sparse, "--weights", "{}"], "--weights goes with --hybrid"],
    [["--hybrid", ...sparse, ...vector, "--weights", "7"], "--weights"],
  ] as const) {
    const refused = await kith(["search", "mixed", ...args]);
    expect([refused.code, refused.err]).toEqual([2, expect.stringContaining(message)]);
  }
});

it("matrices are made, imported, searched, shown and exported", async () => {
  const { kith, folder } = served;
  const created = await kith(["collection", "create", "pages", "-d", "2", "-m", "dot", "--multi"]);
  expect([created.code, created.out]).toEqual([0, expect.stringMatching(/^created pages \(2 × f32.*dot/)]);
  const lines = [
    {
      id: 1,
      vector: [
        [1, 0],
        [0, 1],
      ],
    },
    { id: 2, vector: [[2, 0]] },
    {
      id: 3,
      vector: [
        [0, 3],
        [0, 1],
        [1, 1],
      ],
    },
  ];
  const file = join(folder, "pages.jsonl");
  writeFileSync(file, lines.map((line) => JSON.stringify(line)).join("\n"));
  expect((await kith(["import", file, "-c", "pages"])).code).toBe(0);
  const found = await kith(["search", "pages", "--query", `{"query": {"nearest": [[1, 0], [0, 1]]}}`, "-o", "json"]);
  const { points } = JSON.parse(found.out) as { points: { id: number; score: number }[] };
  expect(points.map(({ id, score }) => [id, score])).toEqual([
    [3, 4],
    [1, 2],
    [2, 2],
  ]);
  const shown = await kith(["get", "pages", "3", "--with-vectors", "-o", "json"]);
  expect(shown.out).toContain("[[0,3],[0,1],[1,1]]");
  const out = join(folder, "pages-out.jsonl");
  expect((await kith(["export", "pages", out])).code).toBe(0);
  expect(readFileSync(out, "utf8").split("\n")[1]).toBe('{"id":2,"vector":[[2,0]]}');
  const bad = join(folder, "bad-pages.jsonl");
  writeFileSync(bad, '{"id": 9, "vector": [[1, 2], [3]]}\n');
  const refused = await kith(["import", bad, "-c", "pages"]);
  expect([refused.code, refused.err]).toEqual([1, expect.stringMatching(/row 1|ragged|rows/)]);
});
