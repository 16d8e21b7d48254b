/**
 * Sparse vectors and matrices beside a dense vector, through whatever happens to a collection: a split and a merge of its shards under writes, a backup and its
 * restoration, another datatype of the dense field, and watching. Each time all that is read and found is what a model says.
 */
import { expect, test } from "vitest";
import { SeededRandom } from "../../libs/base/index.js";
import type { CollectionHandle, SparseInput } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { startInProcess } from "../cluster/in-process.js";
import { ended, shardsOf } from "../cluster/resharding.js";
import { range } from "../cluster/workload.js";

const cluster = useCluster(() => startInProcess());
const seed = 83;

interface Own {
  dense: Float32Array;
  tokens: Float32Array[];
  words: Map<number, number>;
}

const numbers = (random: SeededRandom, count: number): Float32Array =>
  Float32Array.from({ length: count }, () => random.float() * 2 - 1);

function ownOf(random: SeededRandom): Own {
  const words = new Map<number, number>();
  for (let i = 0; i < 6; i++) words.set(Math.floor(40 * random.float() ** 2), Math.fround(random.float() + 0.1));
  const tokens = Array.from({ length: 1 + random.below(4) }, () => numbers(random, 3));
  return { dense: numbers(random, 4), tokens, words };
}

function inputOf(words: ReadonlyMap<number, number>): SparseInput {
  return { indices: [...words.keys()], values: [...words.values()] };
}

function storedOf(words: ReadonlyMap<number, number>): { indices: Uint32Array; values: Float32Array } {
  const ascending = [...words].sort(([a], [b]) => a - b);
  return {
    indices: Uint32Array.from(ascending, ([index]) => index),
    values: Float32Array.from(ascending, ([, value]) => value),
  };
}

/** Dot product with IDF, by hand. */
function common(model: ReadonlyMap<number, Own>, query: ReadonlyMap<number, number>): Map<number, number> {
  const found = new Map<number, number>();
  for (const [index, value] of query) {
    const holding = [...model].filter(([, { words }]) => words.has(index));
    const idf = Math.log(1 + (model.size - holding.length + 0.5) / (holding.length + 0.5));
    for (const [id, { words }] of holding) found.set(id, (found.get(id) ?? 0) + value * idf * (words.get(index) ?? 0));
  }
  return found;
}

function maxSim(model: ReadonlyMap<number, Own>, query: readonly Float32Array[]): Map<number, number> {
  const dot = (a: Float32Array, b: Float32Array): number => a.reduce((sum, x, i) => sum + x * (b[i] as number), 0);
  return new Map(
    Array.from(model, ([id, { tokens }]) => {
      return [id, query.reduce((sum, row) => sum + Math.max(...tokens.map((other) => dot(row, other))), 0)];
    }),
  );
}

test(`sparse vectors and matrices stay what they were (seed ${seed})`, { timeout: 90_000 }, async () => {
  const random = new SeededRandom(seed);
  const client = await cluster().connect();
  const kinds = client.collection("kinds");
  await kinds.create({
    vectors: {
      dense: { dimension: 4, metric: "l2" },
      tokens: { dimension: 3, metric: "dot", multivector: "maxSim" },
    },
    sparse: { words: { modifier: "idf" } },
  });
  const model = new Map<number, Own>();
  const write = (ids: readonly number[]): Promise<unknown> => {
    for (const id of ids) model.set(id, ownOf(random));
    return kinds.upsert(
      ids.map((id) => {
        const { dense, tokens, words } = model.get(id) as Own;
        return { id, vectors: { dense, tokens }, sparse: { words: inputOf(words) } };
      }),
    );
  };
  const expectBest = (found: readonly { id: unknown; score: number }[], wanted: ReadonlyMap<number, number>): void => {
    const best = [...wanted.values()].sort((a, b) => b - a).slice(0, 10);
    expect(found.length).toBe(best.length);
    found.forEach(({ id, score }, i) => {
      expect(score).toBeCloseTo(best[i] as number, 4);
      expect(score).toBeCloseTo(wanted.get(Number(id)) as number, 4);
    });
  };
  const check = async (handle: CollectionHandle): Promise<void> => {
    const ids = [...model.keys()];
    const read = await handle.get(ids, { withVectors: true });
    expect(read.map(({ id, vectors, matrices, sparse }) => [id, vectors, matrices, sparse])).toEqual(
      ids.map((id) => {
        const { dense, tokens, words } = model.get(id) as Own;
        return [id, { dense }, { tokens }, { words: storedOf(words) }];
      }),
    );
    expect(await handle.count({ filter: 'has_vector("words")' })).toBe(model.size);
    for (let round = 0; round < 3; round++) {
      const { words, tokens } = ownOf(random);
      const sparse = { sparse: inputOf(words), using: "words", limit: 10 };
      expectBest((await handle.query(sparse)).points, common(model, words));
      const late = { vector: tokens, using: "tokens", limit: 10, exact: true };
      expectBest((await handle.query(late)).points, maxSim(model, tokens));
    }
  };
  await write(range(0, 100));
  await check(kinds);

  // What is written while a shard is split is cut to what the new shards own, and put together where they are merged.
  const splitting = await client.cluster.splitShard({ collection: "kinds", shard: 0, into: 2 });
  const [split] = await Promise.all([ended(client, splitting), write(range(100, 40)), write(range(0, 10))]);
  expect(split).toMatchObject({ state: "done" });
  expect(await shardsOf(client, "kinds")).toEqual([1, 2]);
  await check(kinds);
  const merging = await client.cluster.mergeShards({ collection: "kinds", shards: [1, 2] });
  const [merged] = await Promise.all([ended(client, merging), write(range(140, 40)), write(range(90, 20))]);
  expect(merged).toMatchObject({ state: "done" });
  expect(await shardsOf(client, "kinds")).toEqual([3]);
  await check(kinds);

  const backup = await client.backups.create("kinds");
  await client.backups.wait(backup.operation, { everyMs: 50 });
  const restoring = await client.backups.restore(backup.id, { collection: "restored", shards: 2 });
  await client.backups.wait(restoring.operation, { everyMs: 50 });
  await check(client.collection("restored"));

  // The other fields are not touched by a further build of one, and matrices have none.
  await kinds.alterVectorField("dense", { datatype: "f16", minRecall: 0, wait: true });
  expect((await kinds.info()).vectors.map(({ name, datatype }) => [name, datatype])).toEqual([
    ["dense", "f16"],
    ["tokens", "f32"],
  ]);
  await check(kinds);
  await expect(kinds.alterVectorField("tokens", { datatype: "f16" })).rejects.toMatchObject({
    code: "INVALID_SCHEMA",
    message: expect.stringContaining("matrices") as string,
  });
  await expect(kinds.alterVectorField("words", { datatype: "f16" })).rejects.toMatchObject({
    code: "UNKNOWN_VECTOR",
  });

  // A watch tells of all that each point has; of a part that goes, too.
  const from = kinds.token;
  await write(range(0, 8));
  await kinds.deleteVectors([5], "words");
  const told = new Map<number, { matrices: unknown; sparse: unknown }>();
  const isWithout = (parts?: { sparse: unknown }): boolean => parts !== undefined && parts.sparse === undefined;
  for await (const { id, after } of kinds.watch({ from, withVectors: true })) {
    // Without, where a later change tells of both.
    if (after !== undefined) told.set(Number(id), { matrices: after.matrices, sparse: after.sparse });
    if (told.size === 8 && isWithout(told.get(5))) break;
  }
  expect([...told.keys()].sort((a, b) => a - b)).toEqual(range(0, 8));
  for (const [id, parts] of told) {
    const { tokens, words } = model.get(id) as Own;
    expect(parts).toEqual({ matrices: { tokens }, sparse: id === 5 ? undefined : { words: storedOf(words) } });
  }
});
