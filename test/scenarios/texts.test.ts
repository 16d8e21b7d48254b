/**
 * Ranking by BM25 through the public API: what a naive evaluation gives, on one shard and on five alike, after writes, deletions and restarts; with
 * filters, operators, phrases and fusions. The seed is printed with a failure.
 */
import { expect, test } from "vitest";
import { SeededRandom } from "../../libs/base/index.js";
import { type CollectionHandle, highlightOf, hybridQuery } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { onBothDrivers, restartShards } from "../cluster/drivers.js";

interface Doc {
  title: string;
  body?: string;
  year: number;
}

const seed = 53;
const words = Array.from({ length: 40 }, (_, i) => `w${"abcdefghij"[i % 10]}${"klmn"[Math.floor(i / 10)]}`);
const fields = [
  { path: "title", weight: 2.5, b: 0.4 },
  { path: "body", weight: 1, b: 0.8 },
];
const k1 = 1.1;

function textOf(random: SeededRandom, length: number): string {
  // Low words are in most texts, high ones in few.
  return Array.from({ length }, () => words[Math.floor(words.length * random.float() ** 2.5)]).join(" ");
}

function docOf(random: SeededRandom): Doc {
  const doc: Doc = { title: textOf(random, 1 + random.below(6)), year: 1960 + random.below(60) };
  if (random.float() < 0.9) doc.body = textOf(random, 5 + random.below(60));
  return doc;
}

/** BM25F by hand, over all that there is. */
function scores(docs: ReadonlyMap<number, Doc>, query: readonly string[]): Map<number, number> {
  const tokens = (doc: Doc): string[][] => [doc.title.split(" "), doc.body?.split(" ") ?? []];
  const all = Array.from(docs, ([id, doc]) => ({ id, tokens: tokens(doc) }));
  const averages = fields.map((_, f) => all.reduce((sum, each) => sum + (each.tokens[f] ?? []).length, 0) / all.length);
  const found = new Map<number, number>();
  for (const word of query) {
    const holding = all.filter((each) => each.tokens.flat().includes(word));
    const idf = Math.log(1 + (all.length - holding.length + 0.5) / (holding.length + 0.5));
    for (const each of holding) {
      const x = fields.reduce((sum, { weight, b }, f) => {
        const own = each.tokens[f] ?? [];
        const count = own.filter((token) => token === word).length;
        return sum + (count === 0 ? 0 : (weight * count) / (1 - b + (b * own.length) / (averages[f] ?? 1)));
      }, 0);
      found.set(each.id, (found.get(each.id) ?? 0) + (idf * (k1 + 1) * x) / (k1 + x));
    }
  }
  return found;
}

async function ranked(
  collection: CollectionHandle<Doc>,
  text: string,
  limit = 10,
  filter?: string,
): Promise<[number, number][]> {
  const { points } = await collection.query({
    ...{ query: { text }, using: "texts", limit, withPayload: false },
    ...(filter !== undefined && { filter }),
  });
  return points.map(({ id, score }) => [Number(id), score]);
}

function expectBest(found: readonly [number, number][], wanted: ReadonlyMap<number, number>, limit = 10): void {
  const best = [...wanted.values()].sort((a, b) => b - a).slice(0, limit);
  expect(found.length).toBe(best.length);
  best.forEach((score, i) => {
    expect(found[i]?.[1]).toBeCloseTo(score, 3);
    expect(wanted.get(found[i]?.[0] ?? -1)).toBeCloseTo(score, 3);
  });
}

onBothDrivers({ processes: { shardNodes: 2, replicas: 2 }, inProcess: {} }, (start) => {
  const cluster = useCluster(start);

  test(`texts are ranked alike on 1 and 5 shards (seed ${seed})`, { timeout: 120_000 }, async () => {
    const random = new SeededRandom(seed);
    const client = await cluster().connect();
    const docs = new Map(Array.from({ length: 400 }, (_, id) => [id, docOf(random)]));
    const collections: CollectionHandle<Doc>[] = [];
    for (const shards of [1, 5]) {
      const collection = client.collection<Doc>(`docs${shards}`);
      await collection.create({ vectors: { dimension: 2, metric: "dot" }, shards });
      const toPoint = ([id, payload]: [number, Doc]): { id: number; vector: number[]; payload: Doc } => {
        return { id, vector: [id % 7, 1], payload };
      };
      // A half before the index is made, a half after.
      await collection.upsert([...docs].slice(0, 200).map(toPoint));
      const bm25 = { fields, k1, analyzer: { language: "english" } } as const;
      await collection.createPayloadIndex("texts", "bm25", { bm25, wait: true });
      await collection.upsert([...docs].slice(200).map(toPoint));
      collections.push(collection);
    }
    const [one, five] = collections as [CollectionHandle<Doc>, CollectionHandle<Doc>];
    const check = async (): Promise<void> => {
      for (let round = 0; round < 8; round++) {
        const query = [
          ...new Set(Array.from({ length: 1 + random.below(5) }, () => words[random.below(40)] as string)),
        ];
        const found = await ranked(one, query.join(" "));
        expectBest(found, scores(docs, query));
        expect(await ranked(five, query.join(" "))).toEqual(found);
        const recent = new Map([...scores(docs, query)].filter(([id]) => (docs.get(id)?.year ?? 0) > 1990));
        expectBest(await ranked(five, query.join(" "), 20, "year > 1990"), recent, 20);
      }
    };
    await check();

    // Deletions, new texts under old ids, and a payload without its text.
    const gone = [...docs.keys()].filter((id) => id % 9 === 0);
    for (const id of gone) docs.delete(id);
    for (const collection of collections) await collection.delete(gone);
    for (const id of [...docs.keys()].filter((each) => each % 5 === 1)) {
      const doc = docOf(random);
      docs.set(id, doc);
      for (const collection of collections) await collection.overwritePayload([id], doc);
    }
    await check();

    // Operators.
    const holds = (id: number, word: string): boolean =>
      `${docs.get(id)?.title} ${docs.get(id)?.body}`.split(" ").includes(word);
    const [common = "", second = "", third = ""] = words;
    const idsOf = async (text: string): Promise<number[]> =>
      (await ranked(five, text, 1_000)).map(([id]) => id).sort((a, b) => a - b);
    const among = (passes: (id: number) => boolean): number[] => [...docs.keys()].filter(passes).sort((a, b) => a - b);
    expect(await idsOf(`+${common} -${second}`)).toEqual(among((id) => holds(id, common) && !holds(id, second)));
    expect(await idsOf(`${common} AND (${second} OR ${third})`)).toEqual(
      among((id) => holds(id, common) && (holds(id, second) || holds(id, third))),
    );
    expect(await idsOf(`+"${common} ${second}"`)).toEqual(
      among((id) =>
        [docs.get(id)?.title, docs.get(id)?.body].some((text) => `  ${text} `.includes(` ${common} ${second} `)),
      ),
    );
    expect(await idsOf("waa* -wak")).toEqual([]);
    expect(await idsOf("wa*")).toEqual(among((id) => words.some((word) => word.startsWith("wa") && holds(id, word))));
    expect(await idsOf("wxk~1")).toEqual(among((id) => words.some((word) => word.endsWith("k") && holds(id, word))));
    expect(await idsOf("the")).toEqual([]);
    expect(await idsOf("")).toEqual([]);

    const spec = (await five.info()).payloadIndexes.find(({ path }) => path === "texts") ?? { path: "texts" };
    const marks = highlightOf({ title: `${second} ${common}`, body: second }, common, spec, {
      before: "[",
      after: "]",
    });
    expect(marks).toEqual({ title: [`${second} [${common}]`] });

    // The same from the server, wherever the text stands, with payloads or without.
    const limit = 3;
    const marking = { before: "[", after: "]", fields: ["title"] };
    const plainly = await five.query({ query: { text: common }, using: "texts", limit, highlight: true });
    for (const { payload, highlights } of plainly.points) {
      expect(highlights).toEqual(highlightOf(payload as never, common, spec));
      expect(Object.keys(highlights ?? {}).length).toBeGreaterThan(0);
    }
    const prefetched = hybridQuery({
      ...{ text: common, vector: [1, 1], limit },
      withPayload: false,
      highlight: marking,
    });
    const { points: fused } = await five.query(prefetched);
    for (const { id, payload, highlights = {} } of fused) {
      expect(payload).toBeUndefined();
      const { title = "" } = docs.get(Number(id)) ?? {};
      expect(highlights).toEqual(highlightOf({ title }, common, spec, marking));
    }
    const byVector = { vector: [1, 1], limit: 400, highlight: { text: `"${common} ${second}"` } };
    const { points: near } = await five.query(byVector);
    expect(near.length).toBe(docs.size);
    const marked = near.filter(({ highlights }) => highlights !== undefined).map(({ id }) => Number(id));
    expect(marked.sort((a, b) => a - b)).toEqual(await idsOf(`"${common} ${second}"`));
    const { groups } = await five.queryGroups({
      ...{ query: { text: common }, using: "texts", groupBy: "year", limit: 2, groupSize: 2, highlight: true },
    });
    for (const { points } of groups) for (const { highlights } of points) expect(highlights).toBeDefined();
    const many = `${common}~ `.repeat(20) + Array.from({ length: 40 }, (_, i) => `w${i}*`).join(" ");
    for (const [highlight, code, said] of [
      [true, "INVALID_ARGUMENT", "the query has no text"],
      [{ text: common, using: "nothing" }, "INVALID_ARGUMENT", 'no BM25 index "nothing"'],
      [
        { text: common, fields: ["year"] },
        "INVALID_ARGUMENT",
        '"year" is no field of the index; it has "title", "body"',
      ],
      [{ text: "(open" }, "INVALID_ARGUMENT", "parenthesis"],
      [{ text: many }, "LIMIT_OUT_OF_RANGE", "words with * or ~"],
      [{ text: common, before: "<".repeat(65) }, "LIMIT_OUT_OF_RANGE", "highlight.before is 65"],
      [{ text: common, fragmentLength: 10_001 }, "LIMIT_OUT_OF_RANGE", "fragment_length is 10001"],
      [{ text: common, fragmentCount: 101 }, "LIMIT_OUT_OF_RANGE", "fragment_count is 101"],
      [{ text: common, fragmentCount: 0 }, "LIMIT_OUT_OF_RANGE", "fragmentCount is 0"],
    ] as const) {
      const refused = five.query({ vector: [1, 1], highlight });
      await expect(refused, said).rejects.toMatchObject({ code, message: expect.stringContaining(said) as string });
    }
    await expect(five.query({ vector: [1, 1], limit: 1_001, highlight: { text: common } })).rejects.toMatchObject({
      code: "LIMIT_OUT_OF_RANGE",
    });

    // With vectors.
    const hybrid = await five.query(hybridQuery({ text: common, vector: [1, 1], limit: 5, textWeight: 0.7 }));
    expect(hybrid.points.length).toBe(5);
    const told = await five.query({ query: { text: common }, using: "texts", explain: true });
    expect(JSON.stringify(told.explain)).toContain("postings of the terms");
    const [info] = await five.listPayloadIndexes();
    expect(info).toMatchObject({ path: "texts", kind: "bm25", ready: true, pointCount: docs.size });

    await expect(five.query({ query: { text: common }, using: "nothing" })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    await expect(five.query({ query: { text: "(open" }, using: "texts" })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    const long = { query: { text: "x".repeat(1_000_000) }, using: "texts" };
    await expect(five.query(long)).rejects.toMatchObject({ code: "LIMIT_OUT_OF_RANGE" });
    const unknown = { bm25: { analyzer: { language: "klingon" as "english" } } };
    await expect(five.createPayloadIndex("body", "bm25", unknown)).rejects.toMatchObject({ code: "INVALID_SCHEMA" });

    const before = await ranked(five, common);
    await restartShards(cluster(), client);
    await expect.poll(() => ranked(five, common).catch(() => []), { timeout: 30_000 }).toEqual(before);
    await check();
  });

  test("an analyzer is changed beside queries and writes, and changed back", { timeout: 60_000 }, async () => {
    const client = await cluster().connect();
    const collection = client.collection<{ body: string }>("altered");
    await collection.create({ vectors: { dimension: 2, metric: "dot" }, shards: 2 });
    const forms = ["run", "runs", "running"] as const;
    const write = async (from: number, count: number): Promise<void> => {
      const ids = Array.from({ length: count }, (_, i) => from + i);
      await collection.upsert(ids.map((id) => ({ id, vector: [1, 1], payload: { body: forms[id % 3] ?? "" } })));
    };
    await write(0, 300);
    const english = { analyzer: { language: "english" } } as const;
    await collection.createPayloadIndex("body", "bm25", { bm25: english, wait: true });
    await collection.createPayloadIndex("n", "integer");
    // All forms with stems, one without. Tokens of one analyzer in the index of the other would find "run" alone.
    const found = async (): Promise<string> => {
      const { points } = await collection.query({ query: { text: "running" }, using: "body", limit: 9 });
      return [...new Set(points.map(({ id }) => forms[Number(id) % 3]))].sort().join(" ");
    };
    const [stems, words] = ["run running runs", "running"];
    let isBusy = true;
    let written = 300;
    const answers = new Set<string>();
    const asking = (async (): Promise<void> => {
      while (isBusy) answers.add(await found());
    })();
    const writing = (async (): Promise<void> => {
      for (; isBusy; written += 3) await write(written, 3);
    })();

    const plain = { bm25: {}, manual: true };
    expect(await collection.alterPayloadIndex("body", plain)).toMatchObject({ generation: 1 });
    expect(await collection.alterPayloadIndex("body", plain)).toMatchObject({ generation: 1 });
    await expect(collection.alterPayloadIndex("body", { bm25: { k1: 2 } })).rejects.toMatchObject({
      code: "FAILED_PRECONDITION",
      message: expect.stringContaining("is being built") as string,
    });
    await expect(collection.alterPayloadIndex("n", plain)).rejects.toMatchObject({ code: "INVALID_SCHEMA" });
    await expect(collection.alterPayloadIndex("title", plain)).rejects.toMatchObject({ code: "INVALID_SCHEMA" });
    await expect(collection.rollbackGeneration("", { index: "body" })).rejects.toMatchObject({
      code: "FAILED_PRECONDITION",
    });
    const states = async (): Promise<string[]> => (await collection.listTextGenerations()).map(({ state }) => state);
    await expect.poll(states, { timeout: 30_000 }).toEqual(["answering", "ready"]);
    expect(await found()).toBe(stems);
    await collection.promoteGeneration("", { index: "body" });
    expect(await found()).toBe(words);
    expect((await collection.info()).payloadIndexes[0]?.bm25?.analyzer).not.toHaveProperty("language");
    await collection.rollbackGeneration("", { index: "body" });
    expect(await found()).toBe(stems);
    await collection.dropGeneration("", { index: "body" });
    expect(await collection.listTextGenerations()).toEqual([]);
    expect(await collection.alterPayloadIndex("body", { bm25: {}, wait: true })).toMatchObject({ generation: 2 });
    expect(await found()).toBe(words);
    isBusy = false;
    await Promise.all([asking, writing]);
    expect([...answers].sort()).toEqual([stems, words]);
    const [answering, kept] = await collection.listTextGenerations();
    expect(answering).toMatchObject({ index: "body", number: 2, state: "answering", rowCount: written });
    expect(kept).toMatchObject({ number: 0, state: "kept", rowCount: written, bm25: english });

    await restartShards(cluster(), client);
    await expect.poll(() => found().catch(() => ""), { timeout: 30_000 }).toBe(words);
    await collection.rollbackGeneration("", { index: "body" });
    expect(await found()).toBe(stems);
  });
});
