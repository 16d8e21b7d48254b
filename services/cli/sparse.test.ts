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
