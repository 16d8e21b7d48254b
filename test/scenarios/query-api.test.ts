/**
 * The query API through the SDK, on several shards: trees of queries, groups, matrices, facets, orders that are paged while points
 * are written, parts of payloads, and how an answer came about.
 */
import { expect, test, vi } from "vitest";
import { SeededRandom, systemRuntime } from "../../libs/base/index.js";
import type { CollectionHandle, ExplainStep } from "../../libs/client/index.js";
import { createChannel, openStream } from "../../libs/rpc/client/index.js";
import { pb } from "../../libs/wire/index.js";
import { useCluster } from "../cluster/cluster.js";
import { onBothDrivers } from "../cluster/drivers.js";
import { rawCalls } from "../cluster/raw.js";

interface Film {
  year: number;
  director: string;
  genres: string[];
  crew: { name: string; age: number }[];
}

const directors = ["ann", "bob", "eve", "joe"];
const genres = ["drama", "crime", "noir"];

function filmOf(id: number, random: SeededRandom): { id: number; vector: number[]; payload: Film } {
  const payload: Film = {
    year: 1950 + random.below(70),
    director: directors[random.below(4)] as string,
    genres: genres.filter(() => random.float() < 0.5),
    crew: [{ name: `n${random.below(9)}`, age: 20 + random.below(40) }],
  };
  return { id, vector: [random.gaussian(), random.gaussian(), random.gaussian()], payload };
}

onBothDrivers({ processes: { shardNodes: 2, replicas: 1 }, inProcess: {} }, (start) => {
  const cluster = useCluster(start);
  const all = Array.from({ length: 400 }, (_, id) => filmOf(id, new SeededRandom(id + 1)));
  const yearOf = (id: unknown): number => (all[id as number] as (typeof all)[number]).payload.year;

  async function films(name: string): Promise<CollectionHandle<Film>> {
    const handle = (await cluster().connect()).collection<Film>(name);
    await handle.create({ vectors: { dimension: 3, metric: "l2" }, shards: 3 });
    await handle.upsert(all);
    return handle;
  }

  test("groups have the best points of each value, with points of another collection", async () => {
    const handle = await films("grouped");
    const people = (await cluster().connect()).collection("people");
    await people.create({ vectors: { dimension: 1 } });
    await people.upsert(directors.slice(1).map((id) => ({ id, vector: [1], payload: { born: id.length } })));
    const vector = [0, 0, 0];
    const { groups } = await handle.queryGroups({
      vector,
      exact: true,
      groupBy: "director",
      limit: 3,
      groupSize: 5,
      filter: "year > 1960",
      withLookup: { collection: "people" },
      withPayload: { include: ["year"] },
    });
    const ranked = all
      .filter(({ payload }) => payload.year > 1960)
      .sort((a, b) => Math.hypot(...a.vector) - Math.hypot(...b.vector));
    const expected = new Map<string, number[]>();
    for (const { id, payload } of ranked)
      expected.set(payload.director, [...(expected.get(payload.director) ?? []), id]);
    expect(groups.map(({ value, points }) => [value, points.map(({ id }) => id)])).toEqual(
      [...expected].slice(0, 3).map(([value, ids]) => [value, ids.slice(0, 5)]),
    );
    for (const { value, points, lookup } of groups) {
      expect(
        points.every(({ id, payload }) => Object.keys(payload ?? {}).join() === "year" && payload?.year === yearOf(id)),
      ).toBe(true);
      expect(lookup?.payload).toEqual(value === "ann" ? undefined : { born: 3 });
    }
  });

  test("a tree by the SDK, a matrix, facets and counts", async () => {
    const handle = await films("treed");
    const { points } = await handle.query({
      prefetch: [
        { query: { nearest: [0, 0, 0] }, exact: true, limit: 50 },
        { query: { orderBy: { key: "year", direction: "desc" } }, limit: 50 },
      ],
      query: {
        formula: {
          sum: [{ product: [2, { condition: "year >= 2000" }] }, { divide: { left: "year", right: 10_000 } }],
        },
      },
      limit: 400,
      withPayload: { exclude: ["crew[].name", "genres"] },
    });
    const near = [...all].sort((a, b) => Math.hypot(...a.vector) - Math.hypot(...b.vector)).slice(0, 50);
    const late = [...all].sort((a, b) => b.payload.year - a.payload.year || a.id - b.id).slice(0, 50);
    const scoreOf = (id: unknown): number => Math.fround((yearOf(id) >= 2000 ? 2 : 0) + yearOf(id) / 10_000);
    const expected = [...new Set([...near, ...late].map(({ id }) => id))].sort(
      (a, b) => scoreOf(b) - scoreOf(a) || a - b,
    );
    expect(points.map(({ id }) => id)).toEqual(expected);
    expect(points.map(({ score }) => score)).toEqual(expected.map(scoreOf));
    const [first] = points;
    expect(Object.keys(first?.payload ?? {}).sort()).toEqual(["crew", "director", "year"]);
    expect(first?.payload?.crew).toEqual([{ age: all[first?.id as number]?.payload.crew[0]?.age }]);

    const { ids, pairs } = await handle.matrix({ sample: 20, limit: 2, filter: "director = bob" });
    expect(ids).toHaveLength(20);
    expect(pairs).toHaveLength(40);
    const vectorOf = (id: unknown): number[] => (all[id as number] as (typeof all)[number]).vector;
    const distance = (a: unknown, b: unknown): number =>
      Math.hypot(...vectorOf(a).map((x, i) => x - (vectorOf(b)[i] as number)));
    for (const a of ids) {
      const near = ids.filter((id) => id !== a).sort((x, y) => distance(a, x) - distance(a, y));
      expect(pairs.filter((pair) => pair.a === a).map(({ b }) => b)).toEqual(near.slice(0, 2));
    }

    // A filter without a condition is none, wherever it stands.
    expect((await handle.matrix({ sample: 5, filter: {} })).ids).toHaveLength(5);
    const empty = { query: { nearest: [0, 0, 0] }, filter: "year < 1980", limit: 5 };
    expect((await handle.query({ prefetch: [empty], query: { fusion: "rrf" }, filter: {} })).points).toHaveLength(5);

    const { hits } = await handle.facet("genres", { filter: "year < 1980" });
    const counted = genres.map((value) => ({
      value,
      count: all.filter(({ payload }) => payload.year < 1980 && payload.genres.includes(value)).length,
    }));
    expect(hits).toEqual(counted.sort((a, b) => b.count - a.count || (a.value < b.value ? -1 : 1)));
    const exact = await handle.count({ filter: "year < 1980" });
    expect(exact).toBe(all.filter(({ payload }) => payload.year < 1980).length);
    const about = await handle.count({ filter: "year < 1980", approximate: true });
    expect(Math.abs(about - exact)).toBeLessThanOrEqual(exact * 0.5);
  });

  test("pages in an order have each point once, while other points are written", { timeout: 60_000 }, async () => {
    const handle = await films("paged");
    const random = new SeededRandom(5);
    for (const direction of ["asc", "desc"] as const) {
      const seen: number[] = [];
      let page = 0;
      for await (const { id } of handle.scroll({ orderBy: { key: "year", direction }, batch: 37 })) {
        if (typeof id === "number" && id < 400) seen.push(id);
        // Points of other ids come and go around the place where the scroll is.
        if (seen.length % 37 === 1) {
          const others = Array.from({ length: 10 }, (_, i) => ({ ...filmOf(1_000 + i, random), id: 1_000 + i }));
          await handle.upsert(others);
          await handle.delete([1_000 + (page++ % 10)]);
        }
      }
      const sign = direction === "asc" ? 1 : -1;
      const expected = all.map(({ id }) => id).sort((a, b) => sign * (yearOf(a) - yearOf(b)) || a - b);
      expect(seen).toEqual(expected);
    }
  });

  test("a cursor of another scroll is refused", async () => {
    await films("cursors");
    const raw = rawCalls(cluster().target);
    try {
      const orderBy = pb.OrderBy.fromPartial({ key: "year" });
      const { nextCursor: cursor } = await raw.scroll({ collection: "cursors", limit: 5, orderBy });
      const refused = { code: "INVALID_ARGUMENT", details: expect.objectContaining({ path: "cursor" }) as unknown };
      await expect(raw.scroll({ collection: "cursors", limit: 5, cursor })).rejects.toMatchObject(refused);
      const other = pb.OrderBy.fromPartial({ key: "age" });
      await expect(raw.scroll({ collection: "cursors", cursor, orderBy: other })).rejects.toMatchObject(refused);
      await expect(raw.scroll({ collection: "cursors", cursor, orderBy, limit: 7 })).resolves.toMatchObject({
        orders: expect.arrayContaining([expect.any(Number)]) as unknown,
      });
    } finally {
      raw.close();
    }
  });

  test("explain tells of each stage and shard what it did, and its steps make up the time", async () => {
    const handle = await films("explained");
    const query = {
      prefetch: [
        { query: { nearest: [0, 0, 1] }, filter: "director in (bob, eve)", limit: 30 },
        { query: { nearest: [1, 0, 0] }, limit: 30 },
      ],
      query: { fusion: "rrf" as const },
      explain: true,
    };
    const { explain } = await handle.query(query);
    expect((await handle.query({ ...query, explain: false })).explain).toBeUndefined();
    if (explain === undefined) throw new Error("nothing was explained");
    const names = (step: ExplainStep): string[] => [step.name, ...step.steps.flatMap(names)];
    const known = names(explain);
    for (const name of [
      "answer",
      "prepare",
      "query",
      "prefetch[0]",
      "prefetch[1]",
      "search",
      "shard 0",
      "shard 2",
      "fuse",
      "fetch",
    ]) {
      expect(known).toContain(name);
    }
    for (const name of ["search", "mask"]) expect(known.some((each) => each.startsWith(name))).toBe(true);
    const shardFacts = (step: ExplainStep): Record<string, unknown>[] => [
      ...(step.name.startsWith("shard") ? [{ ...step.facts, steps: step.steps.map((each) => each.facts) }] : []),
      ...step.steps.flatMap(shardFacts),
    ];
    expect(shardFacts(explain)).toContainEqual(
      expect.objectContaining({
        plan: "search",
        engine_us: expect.any(Number) as number,
        steps: expect.arrayContaining([expect.objectContaining({ computed: expect.any(Number) as number })]) as unknown,
      }),
    );
    expect(shardFacts(explain)).toContainEqual(
      expect.objectContaining({
        steps: expect.arrayContaining([
          expect.objectContaining({ datatype: "f32", generation: 0, rescored: "no", originals: "memory" }),
        ]) as unknown,
      }),
    );
    const root = explain.steps.find(({ name }) => name === "query");
    expect(root?.facts["kind"]).toBe("fusion");
    // Over many queries: a single one may have waited for its turn between two steps.
    let tookUs = 0;
    let covered = 0;
    let own = 0;
    let shardUs = 0;
    let stagesUs = 0;
    for (let round = 0; round < 100; round++) {
      const vector = [round % 7, 1, round % 5];
      const filter = `year > ${1900 + round}`;
      const asked = round % 2 === 0 ? query : { vector, filter, limit: 20, withPayload: true, explain: true };
      const { explain: told } = await handle.query(asked);
      tookUs += told?.durationUs ?? 0;
      const leaves = leavesOf(told?.steps ?? []);
      covered += coveredUs(leaves);
      own += (told?.steps ?? []).reduce((sum, step) => sum + ownUs(step), 0);
      for (const { name, durationUs, steps } of leaves) {
        if (!name.startsWith("shard") || steps.length === 0) continue;
        shardUs += durationUs;
        for (const stage of steps) stagesUs += stage.durationUs;
      }
    }
    expect((covered + own) / tookUs).toBeGreaterThanOrEqual(0.95);
    expect(covered / tookUs).toBeGreaterThanOrEqual(0.75);
    // Of the time that the router waited for a shard, the way there and back and the stages of the replica tell everything.
    expect(stagesUs / shardUs).toBeGreaterThanOrEqual(0.95);
    expect(stagesUs / shardUs).toBeLessThanOrEqual(1.01);
    const { explain: faceted } = await handle.facet("genres", { explain: true });
    expect(names(faceted as ExplainStep)).toEqual(expect.arrayContaining(["facet", "shard 1", "merge"]));
    const told: ExplainStep[] = [];
    const onExplain = (step: ExplainStep): void => void told.push(step);
    const count = await handle.count({ filter: "year > 1999", onExplain });
    for (const orderBy of [undefined, "year"]) {
      let scrolled = 0;
      const options = { filter: "year > 1999", batch: 1_000, onExplain, ...(orderBy !== undefined && { orderBy }) };
      for await (const point of handle.scroll(options)) scrolled += point.version > 0 ? 1 : 0;
      expect(scrolled).toBe(count);
    }
    expect(told.map(({ steps }) => steps.map(({ name }) => name))).toEqual([
      ["prepare", "count"],
      ["prepare", "scroll", "merge", "encode"],
      ["prepare", "order", "merge", "fetch", "encode"],
    ]);
    for (const answer of told) {
      const shards = answer.steps.flatMap(({ steps }) => steps);
      expect(shards.map(({ name }) => name).sort()).toEqual(["shard 0", "shard 1", "shard 2"]);
      for (const { durationUs, steps } of shards) {
        const sumUs = steps.reduce((sum, step) => sum + step.durationUs, 0);
        // Each stage is rounded to a microsecond.
        expect(Math.abs(sumUs - durationUs)).toBeLessThanOrEqual(steps.length + 1);
        const bytes = steps.reduce(
          (sum, step) => sum + Number(step.facts["tested_bytes"] ?? step.facts["bytes"] ?? 0),
          0,
        );
        expect(bytes).toBeGreaterThan(0);
      }
    }
  });

  test("a stream carries groups, facets, pages, counts and matrices too", async () => {
    await films("mixed");
    const channel = createChannel(cluster().target, systemRuntime);
    const answers = new Map<unknown, pb.QueryStreamResponse>();
    const stream = openStream(channel, pb.PointsService.queryStream, {
      onMessage: (answer) => void answers.set(answer.requestId, answer),
      onEnd: () => undefined,
    });
    try {
      const collection = "mixed";
      const query = pb.QueryRequest.fromPartial({ collection, vector: [0, 0, 0] as never });
      const others: NonNullable<pb.QueryStreamRequest["other"]>[] = [
        { $case: "groups", value: pb.QueryGroupsRequest.fromPartial({ query, groupBy: "director" }) },
        { $case: "matrix", value: pb.SearchMatrixRequest.fromPartial({ collection }) },
        { $case: "facet", value: pb.FacetRequest.fromPartial({ collection, key: "director" }) },
        { $case: "scroll", value: pb.ScrollRequest.fromPartial({ collection, limit: 3 }) },
        { $case: "count", value: pb.CountRequest.fromPartial({ collection }) },
        { $case: "count", value: pb.CountRequest.fromPartial({ collection: "nowhere" }) },
      ];
      for (const [i, other] of others.entries()) {
        stream.write(pb.QueryStreamRequest.fromPartial({ requestId: i + 1, other }));
      }
      stream.write(pb.QueryStreamRequest.fromPartial({ requestId: 9, query, other: others[4] as never }));
      await vi.waitFor(() => expect(answers.size).toBe(7), 10_000);
      const outcome = (id: number): unknown => answers.get(id)?.outcome;
      expect(outcome(1)).toMatchObject({ $case: "groups", value: { groups: { length: 4 } } });
      expect(outcome(2)).toMatchObject({ $case: "matrix", value: { ids: { length: 10 } } });
      expect(outcome(3)).toMatchObject({ $case: "facet", value: { hits: { length: 4 } } });
      expect(outcome(4)).toMatchObject({ $case: "scroll", value: { points: { length: 3 } } });
      expect(outcome(5)).toMatchObject({ $case: "count", value: { count: 400 } });
      expect(outcome(6)).toMatchObject({ $case: "failure", value: { code: "COLLECTION_NOT_FOUND" } });
      expect(outcome(9)).toMatchObject({ $case: "failure", value: { code: "INVALID_ARGUMENT" } });
    } finally {
      stream.cancel();
      channel.close();
    }
  });
});

/** The steps that are made of no others, in the router; what a shard did counts from another beginning. */
function leavesOf(steps: readonly ExplainStep[]): ExplainStep[] {
  return steps.flatMap((step) =>
    step.steps.length === 0 || step.name.startsWith("shard") ? [step] : leavesOf(step.steps),
  );
}

/** What steps tell of their own time, between the steps within them; such that go on at once count each. */
function ownUs({ facts, steps }: ExplainStep): number {
  return Number(facts["own_us"] ?? 0) + steps.reduce((sum, step) => sum + ownUs(step), 0);
}

/** How long at least one of the steps was going on. */
function coveredUs(steps: readonly ExplainStep[]): number {
  let covered = 0;
  let endUs = 0;
  for (const { startUs, durationUs } of [...steps].sort((a, b) => a.startUs - b.startUs)) {
    const from = Math.max(startUs, endUs);
    covered += Math.max(0, startUs + durationUs - from);
    endUs = Math.max(endUs, startUs + durationUs);
  }
  return covered;
}
