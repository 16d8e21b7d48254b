/**
 * Sparse vectors through the public API: what a naive dot product gives, on one shard and on five alike, after writes of parts, deletions, a change
 * of the schema and restarts; with IDF, filters, prefetches, fusions, groups and examples.
 */
import { expect, test } from "vitest";
import { SeededRandom } from "../../libs/base/index.js";
import type { CollectionHandle, KithError, PointInput, QueryExpression, SparseInput } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { onBothDrivers, restartShards } from "../cluster/drivers.js";

interface Payload {
  group: string;
  year: number;
}

interface Doc {
  words: Map<number, number>;
  payload: Payload;
}

const seed = 59;
const indexCount = 60;

function vectorOf(random: SeededRandom, length: number): Map<number, number> {
  const vector = new Map<number, number>();
  // Low indices are in most vectors, high ones in few; the last is the largest there is.
  while (vector.size < length) {
    const index = Math.floor(indexCount * random.float() ** 2);
    vector.set(index === indexCount - 1 ? 4_294_967_295 : index, Math.fround(random.float() * 3 - 0.5));
  }
  return vector;
}

function docOf(random: SeededRandom): Doc {
  const payload = { group: `g${random.below(7)}`, year: 1960 + random.below(60) };
  return { words: vectorOf(random, 1 + random.below(12)), payload };
}

/** In no order: the server sorts. */
function inputOf(vector: ReadonlyMap<number, number>): SparseInput {
  return { indices: [...vector.keys()], values: [...vector.values()] };
}

/** By hand, over all that there is. */
function scores(
  docs: ReadonlyMap<number, Doc>,
  query: ReadonlyMap<number, number>,
  isWeighed: boolean,
): Map<number, number> {
  const all = [...docs].filter(([, { words }]) => words.size > 0);
  const found = new Map<number, number>();
  for (const [index, value] of query) {
    const holding = all.filter(([, { words }]) => words.has(index));
    const idf = Math.log(1 + (all.length - holding.length + 0.5) / (holding.length + 0.5));
    for (const [id, { words }] of holding) {
      const part = value * (isWeighed ? idf : 1) * (words.get(index) ?? 0);
      found.set(id, (found.get(id) ?? 0) + part);
    }
  }
  return found;
}

type Ranked = [id: number, score: number][];

function expectBest(found: Ranked, wanted: ReadonlyMap<number, number>, limit: number): void {
  const best = [...wanted.values()].sort((a, b) => b - a).slice(0, limit);
  expect(found.length).toBe(best.length);
  best.forEach((score, i) => {
    expect(found[i]?.[1]).toBeCloseTo(score, 4);
    expect(wanted.get(found[i]?.[0] ?? -1)).toBeCloseTo(score, 4);
  });
}

onBothDrivers({ processes: { shardNodes: 2, replicas: 2 }, inProcess: {} }, (start) => {
  const cluster = useCluster(start);

  test(`sparse vectors are ranked alike on 1 and 5 shards (seed ${seed})`, { timeout: 120_000 }, async () => {
    const random = new SeededRandom(seed);
    const client = await cluster().connect();
    const docs = new Map(Array.from({ length: 300 }, (_, id) => [id, docOf(random)]));
    const toPoint = ([id, { words, payload }]: [number, Doc]): PointInput<Payload> => {
      const sparse = words.size === 0 ? {} : { sparse: { plain: inputOf(words), rare: inputOf(words) } };
      return { id, vector: [id % 7, 1], payload, ...sparse };
    };
    const collections: CollectionHandle<Payload>[] = [];
    for (const shards of [1, 5]) {
      const collection = client.collection<Payload>(`sparse${shards}`);
      const vectors = { dimension: 2, metric: "dot" } as const;
      const info = await collection.create({ vectors, sparse: { plain: {} }, shards });
      expect(info.sparse).toEqual([{ name: "plain" }]);
      // The other field comes to a collection that is there.
      const after = await collection.addSparseField("rare", { modifier: "idf" });
      expect(after.sparse).toEqual([{ name: "plain" }, { name: "rare", modifier: "idf" }]);
      await collection.upsert([...docs].slice(0, 150).map(toPoint));
      await collection.upsertMany([...docs].slice(150).map(toPoint));
      collections.push(collection);
    }
    const [one, five] = collections as [CollectionHandle<Payload>, CollectionHandle<Payload>];
    const ranked = async (
      collection: CollectionHandle<Payload>,
      query: ReadonlyMap<number, number>,
      using: string,
      options: { limit?: number; filter?: string; scoreThreshold?: number } = {},
    ): Promise<Ranked> => {
      const asked = { sparse: inputOf(query), using, withPayload: false, ...options };
      return (await collection.query(asked)).points.map(({ id, score }) => [Number(id), score]);
    };
    const check = async (): Promise<void> => {
      for (let round = 0; round < 6; round++) {
        const query = vectorOf(random, 1 + random.below(8));
        const using = round % 2 === 0 ? "plain" : "rare";
        const wanted = scores(docs, query, using === "rare");
        const found = await ranked(one, query, using);
        expectBest(found, wanted, 10);
        expect(await ranked(five, query, using)).toEqual(found);
        const recent = new Map([...wanted].filter(([id]) => (docs.get(id)?.payload.year ?? 0) > 1990));
        expectBest(await ranked(five, query, using, { limit: 20, filter: "year > 1990" }), recent, 20);
        const high = new Map([...wanted].filter(([, score]) => score >= 1));
        expectBest(await ranked(five, query, using, { limit: 400, scoreThreshold: 1 }), high, 400);
      }
    };
    await check();

    // Deletions, other vectors under old ids, vectors that are gone, and what comes back with points.
    const gone = [...docs.keys()].filter((id) => id % 9 === 0);
    for (const id of gone) docs.delete(id);
    for (const collection of collections) await collection.delete(gone);
    const changed = [...docs.keys()].filter((id) => id % 5 === 1);
    for (const id of changed) docs.set(id, { ...(docs.get(id) as Doc), words: vectorOf(random, 3) });
    const updates = changed.map((id) => {
      const words = inputOf((docs.get(id) as Doc).words);
      return { id, sparse: { plain: words, rare: words } };
    });
    for (const collection of collections) await collection.updateVectors(updates);
    const without = [...docs.keys()].filter((id) => id % 5 === 2);
    for (const id of without) docs.set(id, { ...(docs.get(id) as Doc), words: new Map() });
    for (const collection of collections) await collection.deleteVectors(without, ["plain", "rare"]);
    await check();
    expect(await five.count({ filter: 'has_vector("rare")' })).toBe(docs.size - without.length);
    const id = changed[0] as number;
    const stored = [...(docs.get(id) as Doc).words].sort(([a], [b]) => a - b);
    const plain = {
      indices: Uint32Array.from(stored, ([index]) => index),
      values: Float32Array.from(stored, ([, value]) => value),
    };
    expect((await five.get(id, { withVectors: ["plain"] }))?.sparse).toEqual({ plain });
    const whole = (await five.get(id, { withVectors: true })) as PointInput<Payload>;
    expect(whole).toMatchObject({ vector: Float32Array.of(id % 7, 1), sparse: { plain, rare: plain } });
    for await (const point of one.scroll({ withVectors: true })) {
      expect(point.sparse?.["plain"]?.indices.length ?? 0).toBe(docs.get(Number(point.id))?.words.size);
    }

    // What was read can be written again, with other points beside it.
    await five.upsert([whole, { id: 5_000, sparse: { plain: { indices: [3], values: [1] } } }]);
    await five.delete(5_000);
    await check();

    // As a prefetch, in a fusion, as what reorders, in groups, by points, in batches, explained.
    const query = vectorOf(random, 5);
    const sparse = inputOf(query);
    const best = await ranked(five, query, "plain", { limit: 40 });
    const fused = await five.query({
      prefetch: [
        { query: { nearest: sparse }, using: "plain", limit: 40 },
        { query: { nearest: [1, 1] }, limit: 40 },
      ],
      query: { fusion: "rrf" },
      limit: 15,
    });
    expect(fused.points.length).toBe(15);
    const within = await five.query({
      prefetch: [{ query: { nearest: [1, 1] }, limit: 400 }],
      ...{ query: { nearest: sparse }, using: "plain", limit: 40, withPayload: false },
    });
    expect(within.points.map(({ id: each, score }) => [each, score])).toEqual(best);
    const [first] = best;
    const groups = await five.queryGroups({ sparse, using: "plain", groupBy: "group", limit: 3, groupSize: 2 });
    expect(groups.groups[0]?.points[0]?.id).toBe(first?.[0]);
    const byPoint = await five.query({ point: id, using: "rare", limit: 400, withPayload: false });
    const own = scores(docs, (docs.get(id) as Doc).words, true);
    own.delete(id);
    expectBest(
      byPoint.points.map(({ id: each, score }) => [Number(each), score]),
      own,
      400,
    );
    const [a, b] = changed.slice(1, 3) as [number, number];
    const toward = await five.query({
      ...{ query: { recommend: { positive: [a], negative: [b] } }, using: "plain", limit: 400, withPayload: false },
    });
    const wanted = new Map<number, number>();
    for (const [each, weight] of [
      [a, 2],
      [b, -1],
    ] as const) {
      for (const [other, score] of scores(docs, (docs.get(each) as Doc).words, false)) {
        if (other !== a && other !== b) wanted.set(other, (wanted.get(other) ?? 0) + weight * score);
      }
    }
    expectBest(
      toward.points.map(({ id: each, score }) => [Number(each), score]),
      wanted,
      400,
    );

    // By several examples: of all that have a vector, also those without an index in common with one of them.
    const wordsOf = (each: number): ReadonlyMap<number, number> => (docs.get(each) as Doc).words;
    const others = [...docs.keys()].filter((each) => each !== a && each !== b && wordsOf(each).size > 0);
    const products = (each: ReadonlyMap<number, number>): ReadonlyMap<number, number> => scores(docs, each, false);
    const [toA, toB, toQuery] = [products(wordsOf(a)), products(wordsOf(b)), products(query)];
    const byExamples = async (expression: QueryExpression, score: (id: number) => number): Promise<void> => {
      const found = await five.query({ query: expression, using: "plain", limit: 400, withPayload: false });
      expect(found.points.length).toBe(others.length);
      expectBest(
        found.points.map(({ id: each, score: own }) => [Number(each), own]),
        new Map(others.map((each) => [each, score(each)])),
        400,
      );
    };
    const of = (to: ReadonlyMap<number, number>, each: number): number => to.get(each) ?? 0;
    const half = (x: number): number => 0.5 * (x / (1 + Math.abs(x)) + 1);
    const rank = (each: number): number => Math.sign(of(toA, each) - of(toB, each));
    const pair = { positive: a, negative: b };
    const sum = { positive: [a, sparse], negative: [b] };
    await byExamples({ recommend: { ...sum, strategy: "sumScores" } }, (each) => {
      return of(toA, each) + of(toQuery, each) - of(toB, each);
    });
    await byExamples({ recommend: { positive: [a], negative: [b], strategy: "bestScore" } }, (each) => {
      const [good, bad] = [of(toA, each), of(toB, each)];
      return good > bad ? half(good) : -half(bad);
    });
    await byExamples({ discover: { target: sparse, context: [pair] } }, (each) => rank(each) + half(of(toQuery, each)));
    await byExamples({ context: [pair] }, (each) => {
      const short = Math.min(0, of(toA, each) - of(toB, each) - 2 ** -23);
      return short / (1 + Math.abs(short));
    });
    const judged = [
      { example: a, score: 0.9 },
      { example: b, score: 0.4 },
    ];
    await byExamples({ feedback: { target: sparse, judged, a: 0.5, b: 2, c: 3 } }, (each) => {
      return 0.5 * of(toQuery, each) + 3 * 0.5 ** 2 * (of(toA, each) - of(toB, each));
    });
    const diverse = await five.query({
      ...{ query: { nearest: sparse, mmr: { diversity: 0, candidates: 40 } }, using: "plain", limit: 5 },
      withPayload: false,
    });
    expect(diverse.points.map(({ id: each, score }) => [each, score])).toEqual(best.slice(0, 5));

    const batch = await five.queryBatch([
      { sparse, using: "plain", limit: 40, withPayload: false },
      { sparse: { indices: [77_777], values: [1] }, using: "rare" },
      { sparse, using: "nothing" },
    ]);
    expect(batch.map((item) => (item.ok ? item.result.points.length : item.error.code))).toEqual([
      best.length,
      0,
      "UNKNOWN_VECTOR",
    ]);
    const told = await five.query({ sparse, using: "plain", explain: true, filter: "year > 1990" });
    expect(JSON.stringify(told.explain)).toContain("postings of the terms");

    // What is refused, each with its code.
    const codeOf = (call: Promise<unknown>): Promise<string> =>
      call.then(
        () => "",
        (error: KithError) => error.code,
      );
    const put = (words: SparseInput): Promise<string> => codeOf(five.upsert({ id: 1, sparse: { plain: words } }));
    expect(await put({ indices: [1, 1], values: [1, 2] })).toBe("INVALID_ARGUMENT");
    expect(await put({ indices: [1], values: [1, 2] })).toBe("DIMENSION_MISMATCH");
    expect(await put({ indices: [], values: [] })).toBe("INVALID_ARGUMENT");
    expect(await put({ indices: [1], values: [Number.NaN] })).toBe("VECTOR_NOT_FINITE");
    const many = Array.from({ length: 20_000 }, (_, i) => i);
    expect(await put({ indices: many, values: many })).toBe("LIMIT_OUT_OF_RANGE");
    expect(await codeOf(five.upsert({ id: 1, vectors: { plain: [1, 2] } }))).toBe("UNKNOWN_VECTOR");
    expect(await codeOf(five.upsert({ id: 1, sparse: { nothing: sparse } }))).toBe("UNKNOWN_VECTOR");
    expect(await codeOf(five.query({ vector: [1, 1], using: "plain" }))).toBe("INVALID_ARGUMENT");
    expect(await codeOf(five.query({ query: { nearest: sparse } }))).toBe("INVALID_ARGUMENT");
    expect(await codeOf(five.addSparseField("plain"))).toBe("INVALID_SCHEMA");
    expect(await codeOf(five.addVectorField("rare", { dimension: 2 }))).toBe("INVALID_SCHEMA");

    await restartShards(cluster(), client);
    await expect
      .poll(() => ranked(five, query, "plain", { limit: 40 }).catch(() => []), { timeout: 30_000 })
      .toEqual(best);
    await check();

    // A field that is dropped is gone, and comes back empty.
    const rest = await five.dropVectorField("rare");
    expect(rest.sparse).toEqual([{ name: "plain" }]);
    expect((await five.get(id, { withVectors: true }))?.sparse).toEqual({ plain });
    await five.addSparseField("rare");
    expect(await ranked(five, query, "rare")).toEqual([]);
    await five.updateVectors({ id, sparse: { rare: { indices: [2], values: [4] } } });
    expect(await ranked(five, new Map([[2, 0.5]]), "rare")).toEqual([[id, 2]]);
  });
});
