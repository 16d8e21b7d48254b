/**
 * Fields of matrices through the public API: late interaction gives what its definition does, on one shard and on five alike, as a search of its own and over
 * what prefetches find; through partial writes, deletions, fields that come and go, restarts and copies. The seed is printed with a failure.
 */
import { expect, test } from "vitest";
import { SeededRandom } from "../../libs/base/index.js";
import type { CollectionHandle, QueryExpression } from "../../libs/client/index.js";
import type { Metric } from "../../libs/model/index.js";
import { useCluster } from "../cluster/cluster.js";
import { eventually } from "../../libs/base/testing.js";
import { onBothDrivers, restartShards } from "../cluster/drivers.js";

const seed = 71;
const dimension = 8;

type Matrix = Float32Array[];

function vectorOf(random: SeededRandom): Float32Array {
  return Float32Array.from({ length: dimension }, () => random.float() * 2 - 1);
}

function matrixOf(random: SeededRandom, rowsMax = 6): Matrix {
  return Array.from({ length: 1 + random.below(rowsMax) }, () => vectorOf(random));
}

function similarity(metric: Metric, a: Float32Array, b: Float32Array): number {
  const sum = (of: (x: number, y: number) => number): number =>
    a.reduce((total, x, i) => total + of(x, b[i] as number), 0);
  if (metric === "l2") return -sum((x, y) => (x - y) ** 2);
  const dot = sum((x, y) => x * y);
  return metric === "dot" ? dot : dot / Math.sqrt(sum((x) => x * x) * sum((_, y) => y * y));
}

function maxSim(metric: Metric, query: Matrix, matrix: Matrix): number {
  const sum = query.reduce(
    (total, row) => total + Math.max(...matrix.map((other) => similarity(metric, row, other))),
    0,
  );
  return metric === "l2" ? Math.sqrt(-sum) : sum;
}

interface Wanted {
  metric: Metric;
  matrices: ReadonlyMap<number, Matrix>;
}

function expectBest(
  found: readonly { id: unknown; score: number }[],
  { metric, matrices }: Wanted,
  query: Matrix,
): void {
  const scores = Array.from(matrices, ([id, matrix]): [number, number] => [id, maxSim(metric, query, matrix)]);
  scores.sort((a, b) => (metric === "l2" ? a[1] - b[1] : b[1] - a[1]));
  const byId = new Map(scores);
  expect(found.length).toBe(Math.min(10, scores.length));
  found.forEach(({ id, score }, i) => {
    expect(score).toBeCloseTo((scores[i] as [number, number])[1], 4);
    expect(score).toBeCloseTo(byId.get(Number(id)) as number, 4);
  });
}

onBothDrivers({ processes: { shardNodes: 2, replicas: 2 }, inProcess: {} }, (start, driver) => {
  const cluster = useCluster(start);

  test(`matrices are compared alike on 1 and 5 shards (seed ${seed})`, { timeout: 120_000 }, async () => {
    const random = new SeededRandom(seed);
    const client = await cluster().connect();
    const points = Array.from({ length: 160 }, (_, id) => ({
      id,
      vectors: { dense: vectorOf(random), tokens: matrixOf(random), others: matrixOf(random, 3) },
      payload: { kind: id % 4 },
    }));
    const tokens = new Map(points.map(({ id, vectors }) => [id, vectors.tokens]));
    const others = new Map(points.map(({ id, vectors }) => [id, vectors.others]));
    const dense = new Map(points.map(({ id, vectors }) => [id, vectors.dense]));
    const collections: CollectionHandle<{ kind: number }>[] = [];
    for (const shards of [1, 5]) {
      const collection = client.collection<{ kind: number }>(`matrices${shards}`);
      const info = await collection.create({
        vectors: {
          dense: { dimension, metric: "l2" },
          tokens: { dimension, metric: "cosine", multivector: "maxSim" },
          others: { dimension, metric: "l2", multivector: "maxSim" },
        },
        shards,
      });
      expect(info.vectors.map(({ multivector }) => multivector)).toEqual([undefined, "maxSim", "maxSim"]);
      await collection.upsert(points);
      collections.push(collection);
    }
    const ofTokens: Wanted = { metric: "cosine", matrices: tokens };
    const check = async (): Promise<void> => {
      for (let round = 0; round < 4; round++) {
        const query = matrixOf(random);
        const near = vectorOf(random);
        const answers = await Promise.all(
          collections.map((each) => each.query({ vector: query, using: "tokens", limit: 10, withPayload: false })),
        );
        for (const { points: found } of answers) expectBest(found, ofTokens, query);
        expect(answers[1]?.points).toEqual(
          answers[0]?.points.map((point, i) => ({ ...point, version: answers[1]?.points[i]?.version })),
        );
        for (const collection of collections) {
          const by = await collection.query({ vector: query, using: "others", limit: 10, withPayload: false });
          expectBest(by.points, { metric: "l2", matrices: others }, query);
          const filtered = await collection.query({ vector: query, using: "tokens", filter: "kind = 1", limit: 10 });
          expectBest(
            filtered.points,
            { metric: "cosine", matrices: new Map([...tokens].filter(([id]) => id % 4 === 1)) },
            query,
          );
          // As a reranker: the nearest by the dense field, ordered by late interaction.
          const prefetch = [{ query: { nearest: near }, using: "dense", limit: 30 }];
          const reranked = await collection.query({ prefetch, query: { nearest: query }, using: "tokens", limit: 10 });
          const nearest = [...dense]
            .sort((a, b) => similarity("l2", near, b[1]) - similarity("l2", near, a[1]))
            .slice(0, 30)
            .filter(([id]) => tokens.has(id));
          const candidates = new Map(nearest.map(([id]) => [id, tokens.get(id) as Matrix]));
          expectBest(reranked.points, { metric: "cosine", matrices: candidates }, query);
        }
      }
    };
    await check();

    // What was read is what was written, and can be written back.
    for (const collection of collections) {
      const [read] = await collection.get([3], { withVectors: true });
      expect(read?.matrices?.["tokens"]).toEqual(tokens.get(3));
      expect(read?.vectors?.["dense"]).toEqual(dense.get(3));
      if (read !== undefined) await collection.upsert({ ...read, id: 1_003 });
      const [copy] = await collection.get([1_003], { withVectors: ["others"] });
      expect(copy?.matrices).toEqual({ others: others.get(3) });
      await collection.delete([1_003]);
    }

    // One matrix of a point changes, one goes, points go, and one comes without.
    for (const id of [2, 7, 40]) tokens.set(id, matrixOf(random, 9));
    tokens.delete(11);
    for (const id of [0, 5, 80]) for (const each of [tokens, others, dense]) each.delete(id);
    for (const collection of collections) {
      await collection.updateVectors([2, 7, 40].map((id) => ({ id, vectors: { tokens: tokens.get(id) as Matrix } })));
      await collection.deleteVectors([11], "tokens");
      await collection.delete([0, 5, 80]);
      const [kept] = await collection.get([7], { withVectors: true });
      expect(kept?.matrices).toEqual({ tokens: tokens.get(7), others: others.get(7) });
      const [without] = await collection.get([11], { withVectors: true });
      expect(without?.matrices).toEqual({ others: others.get(11) });
      expect(await collection.count({ filter: 'has_vector("tokens")' })).toBe(tokens.size);
    }
    await check();

    // A stored matrix as the query, and scores of several.
    for (const collection of collections) {
      const like = await collection.query({ point: 9, using: "tokens", limit: 10 });
      const rest = new Map([...tokens].filter(([id]) => id !== 9));
      expectBest(like.points, { metric: "cosine", matrices: rest }, tokens.get(9) as Matrix);
      const best = await collection.query({
        query: { recommend: { positive: [9], strategy: "sumScores" } },
        using: "tokens",
      });
      expect(best.points.map(({ id }) => id)).toEqual(like.points.map(({ id }) => id));
    }

    // A field that comes and goes while the others stay.
    for (const collection of collections) {
      await collection.addVectorField("late", { dimension, metric: "dot", multivector: "maxSim", datatype: "f16" });
      await collection.updateVectors([{ id: 20, vectors: { late: [vectorOf(random), vectorOf(random)] } }]);
      const { points: found } = await collection.query({ vector: [vectorOf(random)], using: "late" });
      expect(found.map(({ id }) => id)).toEqual([20]);
      await collection.dropVectorField("late");
      const [after] = await collection.get([20], { withVectors: true });
      expect(Object.keys(after?.matrices ?? {}).sort()).toEqual(["others", "tokens"]);
    }
    await restartShards(cluster(), client);
    await check();
  });

  test("matrices live through a split, a backup and its restoration, and are told to watchers", {
    timeout: 90_000,
  }, async ({ skip }) => {
    skip(driver !== "in-process", "what it goes through is the same with real processes, which other scenarios have");
    const random = new SeededRandom(seed + 1);
    const client = await cluster().connect();
    const collection = client.collection("kept-matrices");
    const tokens = { dimension, metric: "dot", multivector: "maxSim", datatype: "i8" } as const;
    await collection.create({ vectors: { tokens, plain: { dimension } } });
    const matrices = new Map(Array.from({ length: 120 }, (_, id) => [id, matrixOf(random)]));
    const write = (ids: number[]): Promise<unknown> =>
      collection.upsert(
        ids.map((id) => ({ id, vectors: { tokens: matrices.get(id) as Matrix, plain: vectorOf(random) } })),
      );
    await write([...matrices.keys()].slice(0, 60));
    const from = collection.token;
    // What is written while the shard is split is cut to what the new shards own.
    const splitting = client.cluster.splitShard({ collection: "kept-matrices", shard: 0, into: 3 });
    await Promise.all([splitting, write([...matrices.keys()].slice(60, 100))]);
    await eventually(async () => {
      const { shards } = await client.cluster.describe();
      const own = shards.filter((shard) => shard.collection === "kept-matrices" && shard.state === "active");
      expect(own).toHaveLength(3);
    }, 20_000);
    await write([...matrices.keys()].slice(100));
    const check = async (of: CollectionHandle): Promise<void> => {
      const read = await of.get([...matrices.keys()], { withVectors: ["tokens"] });
      expect(read.map(({ id, matrices: own }) => [id, own?.["tokens"]])).toEqual([...matrices]);
      const query = matrixOf(random);
      const { points } = await of.query({ vector: query, using: "tokens", limit: 5, exactScores: true });
      const best = Math.max(...Array.from(matrices.values(), (matrix) => maxSim("dot", query, matrix)));
      // As written, not as i8 holds them.
      expect(points[0]?.score).toBeCloseTo(maxSim("dot", query, matrices.get(Number(points[0]?.id)) as Matrix), 4);
      expect(points[0]?.score).toBeGreaterThan(best - 0.2);
    };
    await check(collection);
    const made = await client.backups.create("kept-matrices");
    await client.backups.wait(made.operation, { everyMs: 50 });
    const restoring = await client.backups.restore(made.id, { collection: "restored-matrices", shards: 2 });
    await client.backups.wait(restoring.operation, { everyMs: 50 });
    await check(client.collection("restored-matrices"));

    const target = [vectorOf(random), vectorOf(random)];
    const near = { vector: target, using: "tokens", threshold: maxSim("dot", target, target) - 1e-3 };
    const watching = (async () => {
      for await (const change of collection.watch({ from, near, withVectors: ["tokens"] })) return change;
      return undefined;
    })();
    await collection.upsert({ id: 500, vectors: { tokens: target, plain: vectorOf(random) } });
    const change = await watching;
    expect(change?.id).toBe(500);
    expect(change?.after?.matrices?.["tokens"]).toEqual(target);
    expect(change?.score).toBeCloseTo(maxSim("dot", target, target), 4);
  });

  test("what is no matrix of the field is refused, and named", { timeout: 60_000 }, async () => {
    const client = await cluster().connect();
    const collection = client.collection("bad-matrices");
    await collection.create({
      vectors: { tokens: { dimension: 2, multivector: "maxSim" }, plain: { dimension: 2 } },
    });
    const write = (tokens: number[][] | number[]): Promise<unknown> =>
      collection.upsert([
        { id: 1, vectors: { tokens: [[1, 2]] } },
        { id: 2, vectors: { tokens } },
      ]);
    await expect(write([[1, 2], [3]])).rejects.toMatchObject({
      code: "DIMENSION_MISMATCH",
      message: expect.stringMatching(/points\[1\].*row 1/) as string,
    });
    await expect(write([])).rejects.toMatchObject({ code: "DIMENSION_MISMATCH" });
    await expect(write([[1, 2, 3]])).rejects.toMatchObject({ code: "DIMENSION_MISMATCH" });
    await expect(
      write([
        [0, 1],
        [0, 0],
      ]),
    ).rejects.toMatchObject({ code: "ZERO_VECTOR", message: expect.stringMatching(/points\[1\]|row 1/) as string });
    await expect(
      write([
        [1, 2],
        [Number.NaN, 1],
      ]),
    ).rejects.toMatchObject({ code: "VECTOR_NOT_FINITE", message: expect.stringContaining("row 1") as string });
    await expect(write(Array.from({ length: 2_049 }, () => [1, 2]))).rejects.toMatchObject({
      code: "LIMIT_OUT_OF_RANGE",
    });
    await expect(
      collection.upsert({
        id: 1,
        vectors: {
          plain: [
            [1, 2],
            [3, 4],
          ],
        },
      }),
    ).rejects.toMatchObject({ code: "DIMENSION_MISMATCH" });
    await collection.upsert({ id: 1, vectors: { tokens: [1, 2] } });
    expect((await collection.get([1], { withVectors: true }))[0]?.matrices).toEqual({
      tokens: [Float32Array.of(1, 2)],
    });
    const query = (vector: number[][] | number[], using = "tokens"): Promise<unknown> =>
      collection.query({ vector, using });
    await expect(query([1, 2, 3])).rejects.toMatchObject({ code: "DIMENSION_MISMATCH" });
    await expect(query([[1, 2], [3]])).rejects.toMatchObject({ code: "DIMENSION_MISMATCH" });
    await expect(
      query(
        [
          [1, 2],
          [3, 4],
        ],
        "plain",
      ),
    ).rejects.toMatchObject({ code: "DIMENSION_MISMATCH" });
    await expect(query([[0, 0]])).rejects.toMatchObject({
      code: "ZERO_VECTOR",
      message: expect.stringContaining("row 0") as string,
    });
    // An average of matrices has the rows of all of them, those of negative examples turned round; MMR picks among what is unlike.
    const others = [
      [
        [3, 0],
        [0, 3],
      ],
      [
        [3, 0.1],
        [0.1, 3],
      ],
      [
        [-3, 0],
        [0, -3],
      ],
    ];
    await collection.upsert(others.map((tokens, i) => ({ id: i + 2, vectors: { tokens } })));
    const foundBy = async (query: QueryExpression): Promise<unknown[]> => {
      return (await collection.query({ query, using: "tokens", limit: 2 })).points.map(({ id }) => id);
    };
    const average = { positive: [2], negative: [4], strategy: "average" } as const;
    expect(await foundBy({ recommend: average })).toEqual([3, 1]);
    const nearest = [
      [1, 0],
      [0, 1],
    ];
    expect(await foundBy({ nearest })).toEqual([2, 3]);
    expect(await foundBy({ nearest, mmr: { diversity: 0.9, candidates: 4 } })).toEqual([2, 4]);
    await expect(
      client.collection("never").create({ vectors: { dimension: 2, multivector: "sum" as "maxSim" } }),
    ).rejects.toMatchObject({ code: "INVALID_SCHEMA" });
  });
});
