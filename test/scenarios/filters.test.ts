/**
 * Filters and query trees through the public API, on several shards: reads find the points that pass and no others, while points
 * are overwritten, and what the tree of a query says is what a naive evaluation gives.
 */
import { expect, test } from "vitest";
import { parseFilter } from "../../libs/filter/index.js";
import { SeededRandom } from "../../libs/base/index.js";
import { filterToWire, pb } from "../../libs/wire/index.js";
import { useCluster } from "../cluster/cluster.js";
import { onBothDrivers } from "../cluster/drivers.js";
import { rawCalls } from "../cluster/raw.js";

interface Film {
  year: number;
  genres: string[];
  seen?: boolean;
}

const genres = ["drama", "crime", "comedy", "noir"];
const seed = 20;

function filmOf(id: number, random: SeededRandom): { id: number; vector: number[]; payload: Film } {
  const payload: Film = { year: 1950 + random.below(70), genres: genres.filter(() => random.float() < 0.4) };
  if (random.float() < 0.3) payload.seen = true;
  return { id, vector: [random.gaussian(), random.gaussian(), random.gaussian(), 1], payload };
}

const passes = ({ year, genres: own, seen }: Film): boolean =>
  year > 1990 && own.some((genre) => genre === "drama" || genre === "crime") && seen === undefined;
const filter = "year > 1990 and genres in (drama, crime) and not exists(seen)";

function distance(a: readonly number[], b: readonly number[]): number {
  return Math.hypot(...a.map((x, i) => x - (b[i] as number)));
}

onBothDrivers({ processes: { shardNodes: 2, replicas: 1 }, inProcess: {} }, (start) => {
  const cluster = useCluster(start);

  test("query, scroll, count and facet see the points that pass, while others are overwritten", {
    timeout: 120_000,
  }, async () => {
    const random = new SeededRandom(seed);
    const client = await cluster().connect();
    const films = client.collection<Film>("films");
    await films.create({ vectors: { dimension: 4, metric: "l2" }, shards: 3 });
    const all = new Map(Array.from({ length: 1_500 }, (_, id) => [id, filmOf(id, random)]));
    await films.upsert([...all.values()]);
    for (let round = 0; round < 5; round++) {
      const changed = Array.from({ length: 40 }, () => filmOf(random.below(1_500), random));
      const distinct = [...new Map(changed.map((film) => [film.id, film])).values()];
      await films.upsert(distinct);
      for (const film of distinct) all.set(film.id, film);
      const vector = [random.gaussian(), random.gaussian(), random.gaussian(), 1];
      const expected = [...all.values()]
        .filter(({ payload }) => passes(payload))
        .sort((a, b) => distance(a.vector, vector) - distance(b.vector, vector));
      const { points } = await films.query({ vector, filter, limit: 20, exact: true });
      expect(points.map(({ id }) => id)).toEqual(expected.slice(0, 20).map(({ id }) => id));
      const later = await films.query({ vector, filter, limit: 5, offset: 3, exact: true });
      expect(later.points.map(({ id }) => id)).toEqual(expected.slice(3, 8).map(({ id }) => id));
      expect(await films.count({ filter })).toBe(expected.length);
      const scrolled: unknown[] = [];
      for await (const point of films.scroll({ filter, batch: 70 })) scrolled.push(point.id);
      expect(scrolled).toEqual(expected.map(({ id }) => id).sort((a, b) => a - b));
    }
    const raw = rawCalls(cluster().target);
    try {
      const { hits } = await raw.facet({
        collection: "films",
        key: "genres",
        filter: filterToWire(parseFilter("year > 1990")),
      });
      const counts = new Map<string, number>();
      for (const { payload } of all.values()) {
        if (payload.year > 1990) for (const genre of payload.genres) counts.set(genre, (counts.get(genre) ?? 0) + 1);
      }
      const sorted = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
      expect(hits.map(({ value, count }) => [value?.value, count])).toEqual(sorted);
    } finally {
      raw.close();
    }
  });

  test("trees of prefetches, fusion, order, recommendation and formula over shards", { timeout: 120_000 }, async () => {
    const random = new SeededRandom(seed + 1);
    const client = await cluster().connect();
    const films = client.collection<Film>("trees");
    await films.create({ vectors: { dimension: 4, metric: "cosine" }, shards: 3 });
    const all = Array.from({ length: 300 }, (_, id) => filmOf(id, random));
    await films.upsert(all);
    const raw = rawCalls(cluster().target);
    try {
      const idsOf = ({ points }: pb.QueryResponse): number[] =>
        points.map(({ id }) => Number(id?.id?.$case === "num" ? id.id.value : -1));
      const query = (value: NonNullable<pb.Query["query"]>): pb.Query => ({ query: value });
      const year = (id: number): number => (all[id] as (typeof all)[number]).payload.year;
      // By payload: descending years, ties by id.
      const orderBy = pb.OrderBy.fromPartial({ key: "year", direction: pb.Direction.DESCENDING });
      const newest = await raw.query({
        collection: "trees",
        query: query({ $case: "orderBy", value: orderBy }),
        limit: 30,
      });
      const byYear = all.map(({ id }) => id).sort((a, b) => year(b) - year(a) || a - b);
      expect(idsOf(newest)).toEqual(byYear.slice(0, 30));
      expect(newest.points.map(({ order }) => order)).toEqual(byYear.slice(0, 30).map(year));
      // A fusion of two prefetches is the fusion of their results.
      const example = pb.Example.fromPartial({
        example: { $case: "point", value: { id: { $case: "num", value: 7n } } },
      });
      const nearest = query({ $case: "nearest", value: { example, mmr: undefined } });
      const prefetch = [
        pb.Prefetch.fromPartial({ query: nearest, limit: 20, exact: true }),
        pb.Prefetch.fromPartial({ query: query({ $case: "orderBy", value: orderBy }), limit: 20 }),
      ];
      const alone = await raw.query({ collection: "trees", query: nearest, limit: 20, exact: true });
      expect(idsOf(alone)).not.toContain(7);
      const scores = new Map<number, number>();
      for (const list of [idsOf(alone), byYear.slice(0, 20)]) {
        list.forEach((id, rank) => scores.set(id, (scores.get(id) ?? 0) + 1 / (rank + 2)));
      }
      const rrf = pb.Fusion.fromPartial({ method: { $case: "reciprocalRank", value: {} } });
      const fused = await raw.query({
        collection: "trees",
        prefetch,
        query: query({ $case: "fusion", value: rrf }),
        limit: 15,
      });
      const expected = [...scores].sort((a, b) => Math.fround(b[1]) - Math.fround(a[1]) || a[0] - b[0]).slice(0, 15);
      expect(idsOf(fused)).toEqual(expected.map(([id]) => id));
      // A formula over the payload of what a prefetch found.
      const formula = pb.Formula.fromPartial({ expression: { expression: { $case: "variable", value: "year" } } });
      const scored = await raw.query({
        collection: "trees",
        prefetch: prefetch.slice(0, 1),
        query: query({ $case: "formula", value: formula }),
        limit: 5,
      });
      expect(scored.points.map(({ score }) => score)).toEqual(
        idsOf(alone)
          .map(year)
          .sort((a, b) => b - a)
          .slice(0, 5),
      );
      // Recommendations leave their examples out and keep to the filter.
      const recommend = pb.Recommend.fromPartial({
        positive: [example],
        strategy: pb.RecommendStrategy.BEST_SCORE,
      });
      const like = await raw.query({
        collection: "trees",
        query: query({ $case: "recommend", value: recommend }),
        filter: filterToWire(parseFilter("year > 1990")),
        limit: 10,
      });
      expect(idsOf(like)).not.toContain(7);
      expect(idsOf(like).every((id) => year(id) > 1990)).toBe(true);
      expect(idsOf(like)).toHaveLength(10);
    } finally {
      raw.close();
    }
  });

  test("stored examples of a cosine field count alike, and datetimes without a zone have their place in an order", async () => {
    const client = await cluster().connect();
    const points = client.collection("examples");
    await points.create({ vectors: { dimension: 2, metric: "cosine" }, shards: 2 });
    const at = ["2024-03-01", "2024-01-01T00:00:00Z", "2024-02-01T00:00:00", "2024-01-15T00:00:00+02:00"];
    const vectors = [
      [100, 0],
      [0, 1],
      [1, 1],
      [1, -0.2],
    ];
    await points.upsert(vectors.map((vector, i) => ({ id: i + 1, vector, payload: { at: at[i] } })));
    const raw = rawCalls(cluster().target);
    try {
      const positive = [1n, 2n].map((value) => ({
        example: { $case: "point" as const, value: { id: { $case: "num" as const, value } } },
      }));
      const recommend = pb.Recommend.fromPartial({ positive });
      const like = await raw.query({
        collection: "examples",
        query: { query: { $case: "recommend", value: recommend } },
      });
      // Halfway between both, whatever their lengths.
      expect(like.points[0]?.id).toEqual({ id: { $case: "num", value: 3n } });
      expect(like.points[0]?.score).toBeCloseTo(1, 5);
      const orderBy = pb.OrderBy.fromPartial({ key: "at" });
      const byTime = await raw.query({
        collection: "examples",
        query: { query: { $case: "orderBy", value: orderBy } },
      });
      expect(byTime.points.map(({ id }) => id?.id?.value)).toEqual([2n, 4n, 3n, 1n]);
    } finally {
      raw.close();
    }
  });

  test("what is wrong with a filter or a tree is refused with the node at fault", async () => {
    const client = await cluster().connect();
    const films = client.collection<Film>("wrong");
    await films.create({ vectors: { dimension: 2, metric: "l2" } });
    await expect(films.query({ vector: [1, 1], filter: "year >" })).rejects.toMatchObject({ code: "INVALID_FILTER" });
    await expect(films.query({ vector: [1, 1], filter: { must: [{ key: "a", match: {} }] } })).rejects.toMatchObject({
      code: "INVALID_FILTER",
      message: expect.stringContaining("filter.must[0]") as string,
    });
    const raw = rawCalls(cluster().target);
    try {
      const fusion = pb.Query.fromPartial({ query: { $case: "fusion", value: {} } });
      await expect(raw.query({ collection: "wrong", query: fusion })).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
      });
      await expect(raw.query({ collection: "wrong", offset: 2 })).rejects.toMatchObject({
        message: expect.stringContaining("none of vector, point and query") as string,
      });
      await expect(
        raw.query({
          collection: "wrong",
          filter: pb.Filter.fromPartial({ must: [{}] }),
          vector: Float32Array.of(1, 1),
        }),
      ).rejects.toMatchObject({ code: "INVALID_FILTER" });
    } finally {
      raw.close();
    }
  });
});
