import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { SeededRandom } from "../../../libs/base/index.js";
import { connect, hybridQuery, type QueryInput } from "../../../libs/client/index.js";
import { idMapKey } from "../../../libs/model/index.js";
import { useNode } from "../testing/node.js";
import { idKeyOf, readJudged } from "./judged.js";
import { findWeight, type JudgedLists, ndcg, splitOf } from "./weights.js";

const hits = (...ids: number[]): { id: Uint8Array }[] => ids.map((id) => ({ id: idKeyOf(id) }));
const gradesOf = (grades: Record<number, number>): Map<string, number> =>
  new Map(Object.entries(grades).map(([id, grade]) => [idMapKey(idKeyOf(Number(id))), grade]));

describe("nDCG@10", () => {
  it("is the discounted gain over that of the best order, of ten points", () => {
    const grades = gradesOf({ 1: 3, 2: 1, 3: 2 });
    expect(ndcg(hits(1, 3, 2), grades)).toBe(1);
    expect(ndcg(hits(), grades)).toBe(0);
    const best = 3 + 2 / Math.log2(3) + 1 / 2;
    expect(ndcg(hits(2, 9, 1), grades)).toBeCloseTo((1 + 3 / 2) / best, 12);
    expect(ndcg(hits(11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 1), grades)).toBe(0);
    // More relevant points than places: ten of them are as good as it gets.
    const many = gradesOf(Object.fromEntries(Array.from({ length: 12 }, (_, id) => [id, 1])));
    expect(ndcg(hits(2, 3, 4, 5, 6, 7, 8, 9, 10, 11), many)).toBeCloseTo(1, 12);
  });
});

describe("weights", () => {
  const listOf = (...ids: number[]): JudgedLists["text"] =>
    ids.map((id, rank) => ({ id: idKeyOf(id), score: 1 - rank / 10, version: 1, payload: new Uint8Array() }));
  const { signal } = new AbortController();
  const metric = "cosine" as const;

  it("go to the list that is right, and stay in the middle where both are", async () => {
    const right = listOf(7, 8, 9);
    const wrong = listOf(1, 2, 3);
    const grades = gradesOf({ 7: 1 });
    for (const method of ["rrf", "relative"] as const) {
      // Of equal scores the lower id comes first, so that the middle does not do.
      const byText = await findWeight([{ grades, text: right, vector: wrong, metric }], method, signal);
      expect(byText).toEqual({ method, textWeight: 0.55, ndcg: 1 });
      const byVector = await findWeight([{ grades, text: wrong, vector: right, metric }], method, signal);
      expect(byVector).toEqual({ method, textWeight: 0.45, ndcg: 1 });
      expect((await findWeight([{ grades, text: right, vector: right, metric }], method, signal)).textWeight).toBe(0.5);
    }
  });

  it("end with the signal", async () => {
    const stopped = AbortSignal.abort(new Error("enough"));
    await expect(
      findWeight([{ grades: gradesOf({ 1: 1 }), text: [], vector: [], metric }], "rrf", stopped),
    ).rejects.toThrow("enough");
  });

  it("are found on a part by chance, and checked on the rest", () => {
    const items = Array.from({ length: 40 }, (_, i) => i);
    const [training, heldOut] = splitOf(items, 0.25, new SeededRandom(1));
    expect([training.length, heldOut.length]).toEqual([10, 30]);
    expect([...training, ...heldOut].sort((a, b) => a - b)).toEqual(items);
    expect(splitOf(items, 0.25, new SeededRandom(1))[0]).toEqual(training);
    expect(splitOf(items, 0.25, new SeededRandom(2))[0]).not.toEqual(training);
    expect(splitOf([1, 2], 0.99, new SeededRandom(1)).map(({ length }) => length)).toEqual([1, 1]);
  });
});

describe("judged queries", () => {
  const one = '{"text":"a","relevant":{"1":1}}';

  it("are read with ids of every kind; grades of 0 count as none", () => {
    const uuid = "7d444840-9dc0-11d1-b245-5ffdce74fad2";
    const relevant = { 7: 2, '"7"': 1, [uuid.toUpperCase()]: 0.5, "doc-1": 3, 9: 0 };
    const [query] = readJudged(
      `${JSON.stringify({ text: "x", vector: [1, 2], relevant })}\n\n${JSON.stringify({ text: "y", vector: [1, 2], relevant })}\n`,
      "f",
    );
    expect(query?.vector).toEqual(Float32Array.of(1, 2));
    const expected = new Map(
      [[7, 2] as const, [uuid, 0.5] as const, ["doc-1", 3] as const].map(([id, grade]) => [
        idMapKey(idKeyOf(id)),
        grade,
      ]),
    );
    for (const [key, grade] of expected) expect(query?.grades.get(key)).toBe(grade);
    expect(query?.grades.size).toBe(4);
  });

  it.each([
    ["not JSON", "{", /^line 2 of f: /],
    ["a list", "[]", /^line 2 of f: it is no object/],
    ["an unknown key", '{"text":"a","relevant":{"1":1},"id":3}', /^line 2 of f: the key "id"/],
    ["no text", '{"text":" ","relevant":{"1":1}}', /^line 2 of f: "text"/],
    ["a vector of texts", '{"text":"a","vector":["1"],"relevant":{"1":1}}', /^line 2 of f: "vector"/],
    ["no grades", '{"text":"a"}', /^line 2 of f: "relevant" must be an object/],
    ["a negative grade", '{"text":"a","relevant":{"1":-1}}', /^line 2 of f: the grade of 1 is -1/],
    ["nothing relevant", '{"text":"a","relevant":{"1":0}}', /^line 2 of f: "relevant" has no grade above 0/],
    ["an id that is none", '{"text":"a","relevant":{"":1}}', /^line 2 of f: .*empty/],
    [
      "a vector where others have none",
      '{"text":"a","vector":[1],"relevant":{"1":1}}',
      /^line 2 of f has a vector, line 1 has none/,
    ],
    ["nothing else", "", /^f has one judged query/],
  ])("are refused: %s", (_, line, message) => {
    expect(() => readJudged(`${one}\n${line}`, "f")).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringMatching(message) as string }) as Error,
    );
  });
});

describe("kith tune", () => {
  const served = useNode();
  const { kith } = served;
  const kinds = 5;
  const perCell = 6;
  const random = new SeededRandom(11);
  const near = (kind: number): number[] =>
    Array.from({ length: kinds }, (_, i) => (i === kind ? 1 : 0) + 0.25 * random.gaussian());
  const idOf = (word: number, place: number, n: number): number => (word * kinds + place) * perCell + n;
  // Texts know one half of what is asked, vectors the other.
  const points = Array.from({ length: kinds * kinds * perCell }, (_, id) => {
    const place = Math.floor(id / perCell) % kinds;
    const noise = Array.from({ length: 1 + random.below(12) }, () => `n${random.below(40)}`);
    return { id, vector: near(place), body: [`word${Math.floor(id / perCell / kinds)}`, ...noise].join(" ") };
  });
  const judged = Array.from({ length: 40 }, () => {
    const [word, place] = [random.below(kinds), random.below(kinds)];
    const relevant = Object.fromEntries(Array.from({ length: perCell }, (_, n) => [idOf(word, place, n), 1 + (n % 2)]));
    return { text: `word${word} n${random.below(40)}`, vector: near(place), relevant };
  });
  const linesOf = (rows: readonly object[]): string => rows.map((row) => JSON.stringify(row)).join("\n");
  interface Quality {
    training: number;
    heldOut: number;
  }
  interface Report {
    training: number;
    heldOut: number;
    vectors: Quality;
    text: Quality;
    fusions: (Quality & { method: string; textWeight?: number })[];
    best: Quality & { method: string; textWeight: number; alone: "vectors" | "text"; gain: number; gainError: number };
    hybrid: { fusion: "rrf" | "relative"; textWeight: number; candidates: number };
    fusion: object;
  }
  const tune = async (...args: string[]): Promise<Report> => {
    const { code, out, err } = await kith(["tune", "docs", "judged.jsonl", "--output", "json", ...args]);
    expect(code, err).toBe(0);
    return JSON.parse(out) as Report;
  };

  beforeAll(async () => {
    writeFileSync(join(served.folder, "judged.jsonl"), linesOf(judged));
    const imported = await kith(["import", "-", "-f", "jsonl", "-c", "docs", "--create", "--metric", "l2"], {
      input: linesOf(points),
    });
    expect(imported.code, imported.err).toBe(0);
    const index = await kith(["index", "create", "docs", "body", "bm25", "--wait"]);
    expect(index.code, index.err).toBe(0);
  });

  /** Mean nDCG@10 of all judged queries by what the server finds. */
  async function served10(queryOf: (query: (typeof judged)[number]) => QueryInput): Promise<number> {
    const client = await connect(served.node.address);
    try {
      const each = await Promise.all(
        judged.map(async (query) => {
          const found = await client.collection("docs").query({ ...queryOf(query), limit: 10 });
          return ndcg(
            found.points.map(({ id }) => ({ id: idKeyOf(id) })),
            gradesOf(query.relevant),
          );
        }),
      );
      return each.reduce((sum, value) => sum + value, 0) / each.length;
    } finally {
      client.close();
    }
  }

  it("finds a weight, and the server finds as much with it as was said", async () => {
    const report = await tune("--exact");
    expect([report.training, report.heldOut]).toEqual([20, 20]);
    const overall = ({ training, heldOut }: Quality): number =>
      (training * report.training + heldOut * report.heldOut) / judged.length;
    const { hybrid, best } = report;
    expect(hybrid.candidates).toBe(100);
    const served = {
      text: await served10(({ text }) => ({ query: { text } })),
      vectors: await served10(({ vector }) => ({ vector, exact: true })),
      best: await served10(({ text, vector }) => hybridQuery({ text, vector, exact: true, ...hybrid })),
    };
    expect(overall(report.text)).toBeCloseTo(served.text, 9);
    expect(overall(report.vectors)).toBeCloseTo(served.vectors, 9);
    expect(overall(best)).toBeCloseTo(served.best, 9);
    for (const { method, textWeight, training, heldOut } of report.fusions) {
      const weight = textWeight === undefined ? {} : { textWeight };
      const input = { candidates: 100, exact: true, fusion: method as "rrf" | "relative", ...weight };
      const found = await served10(({ text, vector }) => hybridQuery({ text, vector, ...input }));
      expect(overall({ training, heldOut }), `${method} ${textWeight}`).toBeCloseTo(found, 9);
    }
    // Both halves of what is asked are needed.
    expect(best.heldOut).toBeGreaterThan(1.3 * Math.max(report.text.heldOut, report.vectors.heldOut));
    expect(best.training).toBe(
      Math.max(...report.fusions.filter(({ textWeight }) => textWeight !== undefined).map(({ training }) => training)),
    );
    expect(best.gain).toBeCloseTo(best.heldOut - report[best.alone].heldOut, 9);
    expect(best.gainError).toBeGreaterThan(0);
    // Of distances, too, the nearest point is the best.
    const relative = report.fusions.find(({ method, textWeight }) => method === "relative" && textWeight !== undefined);
    expect(relative?.heldOut).toBeGreaterThan(Math.max(report.text.heldOut, report.vectors.heldOut));
  });

  it("names options of kith search that find the same as the SDK", async () => {
    const { hybrid } = await tune("--exact", "--candidates", "30");
    expect(hybrid.candidates).toBe(30);
    const client = await connect(served.node.address);
    try {
      for (const { text, vector } of judged.slice(0, 3)) {
        const query = hybridQuery({ text, vector, exact: true, ...hybrid });
        const { points: expected } = await client.collection("docs").query({ ...query, limit: 10 });
        const { fusion, textWeight, candidates } = hybrid;
        const options = ["--fusion", fusion, "--text-weight", String(textWeight), "--candidates", String(candidates)];
        const search = ["search", "docs", "--text", text, "--hybrid", "--vector", JSON.stringify(vector), "--exact"];
        const { code, out, err } = await kith([...search, ...options, "--output", "json"]);
        expect(code, err).toBe(0);
        const found = JSON.parse(out) as { points: { id: number; score: number }[] };
        expect(found.points.map(({ id, score }) => [id, score])).toEqual(expected.map(({ id, score }) => [id, score]));
      }
    } finally {
      client.close();
    }
  });

  it("splits by --seed and --split, says what to use, and does without vectors", async () => {
    const first = await tune();
    expect(await tune("--seed", "1")).toEqual(first);
    expect((await tune("--seed", "2")).text).not.toEqual(first.text);
    expect(await tune("--split", "0.2")).toMatchObject({ training: 8, heldOut: 32 });

    const shown = await kith(["tune", "docs", "-"], {
      input: linesOf(judged.map(({ text, relevant }) => ({ text, relevant }))),
    });
    expect(shown.code, shown.err).toBe(0);
    expect(shown.out).toMatch(
      /^LISTS +TEXT WEIGHT +NDCG@10 TRAINING +NDCG@10 HELD OUT *\nvectors alone +0\.\d{4} +0\.\d{4}/,
    );
    expect(shown.out).toMatch(
      /hybridQuery\(\{ text, like: the 3 best by text, fusion: "\w+", textWeight: [\d.]+, candidates: 100 \}\)/,
    );
    expect(shown.out).toMatch(
      /kith search docs --text '\.\.\.' --hybrid --fusion \w+ --text-weight [\d.]+ --candidates 100/,
    );
    expect(shown.err).toMatch(/found on 20 queries and checked on 20 others \(seed 1\)/);
  });

  it("says what is wrong", async () => {
    const failing = async (args: string[], input?: string): Promise<[unknown, string]> => {
      const { code, err } = await kith(["tune", ...args], input === undefined ? {} : { input });
      return [code, err];
    };
    expect(await failing(["docs", "nowhere.jsonl"])).toEqual([
      3,
      expect.stringContaining("nowhere.jsonl: there is no such file; check the path"),
    ]);
    expect(await failing(["docs", tmpdir()])).toEqual([1, expect.stringContaining("is a directory; name a file")]);
    expect(await failing(["docs", "-"], '{"text":1}')).toEqual([
      1,
      expect.stringContaining("line 1 of standard input"),
    ]);
    expect(await failing(["nothing", "judged.jsonl"])).toEqual([3, expect.stringContaining("COLLECTION_NOT_FOUND")]);
    expect(await failing(["docs", "judged.jsonl", "--text-index", "title"])).toEqual([
      1,
      expect.stringContaining("title"),
    ]);
    expect(await failing(["docs", "judged.jsonl", "--using", "x"])).toEqual([
      1,
      expect.stringContaining("UNKNOWN_VECTOR"),
    ]);
    expect(await failing(["docs", "judged.jsonl", "--split", "1"])).toEqual([
      2,
      expect.stringContaining("between 0 and 1"),
    ]);
    expect(await failing(["docs", "judged.jsonl", "--candidates", "9"])).toEqual([
      2,
      expect.stringContaining("10..10000"),
    ]);
    const wrong = linesOf([judged[0] ?? {}, { ...judged[1], vector: [1, 2] }]);
    expect(await failing(["docs", "-"], wrong)).toEqual([
      1,
      expect.stringMatching(/query of line 2: .*DIMENSION_MISMATCH/s),
    ]);
  });
});
