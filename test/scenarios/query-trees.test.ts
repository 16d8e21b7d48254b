/**
 * Random filters and trees of queries give what a naive evaluation gives: on one shard and on five shards of two replicas, while other
 * points are written and deleted, and again after a restart. The seed is printed with a failure.
 */
import { expect, test } from "vitest";
import { SeededRandom } from "../../libs/base/index.js";
import { matches, parseFilter } from "../../libs/filter/index.js";
import type { CollectionHandle, PrefetchInput, QueryExpression } from "../../libs/client/index.js";
import { idFromNum } from "../../libs/model/index.js";
import { useCluster } from "../cluster/cluster.js";
import { onBothDrivers, restartShards } from "../cluster/drivers.js";

interface Film {
  year?: number;
  genres: string[];
  rating: number;
  crew: { name: string; age: number }[];
}
interface Row {
  id: number;
  vector: number[];
  payload: Film;
}
type Scored = [id: number, score: number][];

const seed = 41;
const pointCount = 150;
const genres = ["drama", "crime", "noir", "comedy"];
/** What is written meanwhile has this, and no query is about it. */
const quiet = "not exists(noise)";

function pick<T>(random: SeededRandom, values: readonly T[]): T {
  return values[random.below(values.length)] as T;
}

function rowOf(id: number, random: SeededRandom): Row {
  const payload: Film = {
    genres: genres.filter(() => random.float() < 0.4),
    rating: random.below(100) / 10,
    crew: Array.from({ length: random.below(3) }, () => ({ name: `n${random.below(4)}`, age: 20 + random.below(20) })),
  };
  if (random.float() < 0.8) payload.year = 1960 + random.below(60);
  return { id, vector: Array.from({ length: 4 }, () => Math.fround(random.gaussian())), payload };
}

function conditionOf(random: SeededRandom, depth: number): string {
  if (depth > 0 && random.float() < 0.4) {
    const [a, b] = [conditionOf(random, depth - 1), conditionOf(random, depth - 1)];
    return pick(random, [`(${a} and ${b})`, `(${a} or ${b})`, `not ${a}`, `at_least(1, ${a}, ${b})`]);
  }
  const year = 1960 + random.below(60);
  return pick(random, [
    `year > ${year}`,
    `year between ${year} and ${year + 15}`,
    `rating <= ${random.below(10)}`,
    `genres = ${pick(random, genres)}`,
    `genres in (${pick(random, genres)}, ${pick(random, genres)})`,
    "genres is empty",
    "exists(year)",
    `count(genres) >= ${random.below(4)}`,
    `crew[any: name = n${random.below(4)} and age > ${20 + random.below(20)}]`,
    `slice(${random.below(3)}, 3)`,
    `has_id(${Array.from({ length: 30 }, () => random.below(pointCount)).join(", ")})`,
  ]);
}

/** The same questions, answered by looking at every row. */
class Naive {
  constructor(readonly rows: readonly Row[]) {}

  passing(filter: string): Row[] {
    const tree = parseFilter(filter);
    return this.rows.filter(({ id, payload }) =>
      matches(tree, { id: idFromNum(id), payload: payload as never, hasVector: () => true }),
    );
  }

  nearest(rows: readonly Row[], vector: readonly number[], limit: number): Scored {
    return rows
      .map((row): [number, number] => [row.id, Math.hypot(...row.vector.map((x, i) => x - (vector[i] as number)))])
      .sort((a, b) => a[1] - b[1])
      .slice(0, limit);
  }

  byRating(rows: readonly Row[], limit: number): Scored {
    return rows
      .map(({ id, payload }): [number, number] => [id, payload.rating])
      .sort((a, b) => b[1] - a[1] || a[0] - b[0])
      .slice(0, limit);
  }
}

function fused(lists: readonly Scored[], limit: number): Scored {
  const scores = new Map<number, number>();
  for (const list of lists) list.forEach(([id], rank) => scores.set(id, (scores.get(id) ?? 0) + 1 / (rank + 2)));
  return [...scores].sort((a, b) => Math.fround(b[1]) - Math.fround(a[1]) || a[0] - b[0]).slice(0, limit);
}

/** Asks one random question, and compares. */
async function ask(handle: CollectionHandle, naive: Naive, random: SeededRandom): Promise<void> {
  const filter = `${conditionOf(random, 2)} and ${quiet}`;
  const inner = conditionOf(random, 1);
  const vector = Array.from({ length: 4 }, () => Math.fround(random.gaussian()));
  const limit = 1 + random.below(15);
  const rows = naive.passing(filter);
  const both = naive.passing(`(${filter}) and ${inner}`);
  const nearest: PrefetchInput = { query: { nearest: vector }, exact: true, limit: 20 };
  const rated: PrefetchInput = { query: { orderBy: { key: "rating", direction: "desc" } }, limit: 20, filter: inner };
  const query = async (expression: QueryExpression, prefetch: PrefetchInput[], size = limit): Promise<Scored> => {
    const { points } = await handle.query({ query: expression, prefetch, filter, limit: size, exact: true });
    return points.map(({ id, score, order }) => [Number(id), order ?? score]);
  };
  const near = naive.nearest(rows, vector, 20);
  const best = naive.byRating(both, 20);
  const expectScores = (found: Scored, expected: Scored): void => {
    expect(
      found.map(([id]) => id),
      filter,
    ).toEqual(expected.map(([id]) => id));
    found.forEach(([, score], i) => expect(score).toBeCloseTo(expected[i]?.[1] as number, 4));
  };
  switch (random.below(9)) {
    case 0:
      return expectScores(await query({ nearest: vector }, []), near.slice(0, limit));
    case 1:
      return expectScores(
        await query({ orderBy: { key: "rating", direction: "desc" } }, []),
        naive.byRating(rows, limit),
      );
    case 2:
      return expectScores(await query({ fusion: "rrf" }, [nearest, rated]), fused([near, best], limit));
    case 3: {
      const formula = { sum: [{ product: ["$score[0]", -1] }, { condition: "year > 1990" }] };
      const found = await query({ formula }, [nearest], 20);
      const yearOf = (id: number): number => naive.rows[id]?.payload.year ?? 0;
      const scored = near.map(([id, score]): [number, number] => [id, (yearOf(id) > 1990 ? 1 : 0) - score]);
      return expectScores(
        found,
        scored.sort((a, b) => b[1] - a[1]),
      );
    }
    case 4: {
      const among = new Set(best.map(([id]) => id));
      const found = await query({ nearest: vector }, [rated]);
      const rescored = rows.filter(({ id }) => among.has(id));
      return expectScores(found, naive.nearest(rescored, vector, limit));
    }
    case 5: {
      const found: number[] = [];
      const order = { key: "rating", direction: "desc" as const };
      for await (const { id } of handle.scroll({ filter, orderBy: order, batch: 13 })) found.push(Number(id));
      expect(found, filter).toEqual(naive.byRating(rows, pointCount).map(([id]) => id));
      return;
    }
    case 6: {
      const { groups } = await handle.queryGroups({
        vector,
        exact: true,
        filter,
        groupBy: "genres",
        limit: 4,
        groupSize: 3,
      });
      const expected = new Map<string, number[]>();
      for (const [id] of naive.nearest(rows, vector, pointCount)) {
        for (const genre of naive.rows[id]?.payload.genres ?? [])
          expected.set(genre, [...(expected.get(genre) ?? []), id]);
      }
      const found = new Map(groups.map(({ value, points }) => [value, points.map(({ id }) => id)]));
      expect(found, filter).toEqual(new Map([...expected].map(([genre, ids]) => [genre, ids.slice(0, 3)])));
      return;
    }
    case 7: {
      const { hits } = await handle.facet("genres", { filter });
      const expected = genres
        .map((value) => ({ value, count: rows.filter(({ payload }) => payload.genres.includes(value)).length }))
        .filter(({ count }) => count > 0)
        .sort((a, b) => b.count - a.count || (a.value < b.value ? -1 : 1));
      expect(hits, filter).toEqual(expected);
      return;
    }
    default: {
      const found: number[] = [];
      for await (const { id } of handle.scroll({ filter, batch: 20 })) found.push(Number(id));
      expect(found, filter).toEqual(rows.map(({ id }) => id));
      expect(await handle.count({ filter }), filter).toBe(rows.length);
    }
  }
}

onBothDrivers({ processes: { shardNodes: 2, replicas: 2 }, inProcess: {} }, (start, driver) => {
  const cluster = useCluster(start);

  test("random trees equal a naive evaluation, beside writes and after a restart", { timeout: 240_000 }, async () => {
    const client = await cluster().connect();
    const random = new SeededRandom(seed);
    const naive = new Naive(Array.from({ length: pointCount }, (_, id) => rowOf(id, random)));
    const handles = [client.collection("one-shard"), client.collection("five-shards")];
    for (const [i, handle] of handles.entries()) {
      const replicas = driver === "processes" ? 2 : 1;
      await handle.create({ vectors: { dimension: 4, metric: "l2" }, shards: i === 0 ? 1 : 5, replicas });
      await handle.upsert(
        naive.rows.map((row) => ({ ...row, payload: { ...row.payload } })),
        { ack: "all" },
      );
    }
    const round = async (count: number): Promise<void> => {
      let writing = true;
      const writes = handles.map(async (handle, i) => {
        const own = new SeededRandom(seed + i + 1);
        while (writing) {
          const ids = Array.from({ length: 20 }, (_, n) => 10_000 + n + own.below(3) * 20);
          await handle.upsert(
            ids.map((id) => ({ ...rowOf(id, own), payload: { ...rowOf(id, own).payload, noise: true } })),
          );
          await handle.delete(ids.slice(0, 10));
        }
      });
      try {
        for (let n = 0; n < count; n++) await ask(pick(random, handles), naive, random);
      } finally {
        writing = false;
        await Promise.all(writes);
      }
    };
    // On processes it is the way to the shards that is tried, not the questions.
    const share = driver === "processes" ? 0.4 : 0.8;
    await round(150 * share);
    await restartShards(cluster(), client);
    await round(60 * share);
  });
});
