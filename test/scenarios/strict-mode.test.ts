/**
 * The limits that a collection sets for requests: each is kept, by the name that its error gives, and can be changed and taken away.
 */
import { expect, test } from "vitest";
import type { StrictMode } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { onBothDrivers } from "../cluster/drivers.js";

onBothDrivers({ processes: { shardNodes: 2, replicas: 1 }, inProcess: {} }, (start) => {
  const cluster = useCluster(start);

  test("each limit refuses what goes beyond it, with its name", { timeout: 60_000 }, async () => {
    const client = await cluster().connect();
    const films = client.collection("strict");
    const strictMode: StrictMode = {
      maxLimit: 20,
      maxEf: 100,
      maxFilterConditions: 3,
      maxFilterDepth: 2,
      maxPrefetchDepth: 1,
      maxBatchQueries: 2,
      maxBatchPoints: 50,
      maxPayloadBytes: 100,
      refuseExact: true,
    };
    expect((await films.create({ vectors: { dimension: 2 }, shards: 2, strictMode })).strictMode).toEqual(strictMode);
    const points = Array.from({ length: 40 }, (_, id) => ({ id, vector: [1, id], payload: { n: id } }));
    await films.upsert(points);
    const vector = [1, 1];
    const nearest = { nearest: vector };
    const refusals: [string, () => Promise<unknown>][] = [
      ["max_limit", () => films.query({ vector, limit: 21 })],
      ["max_limit", () => films.query({ vector, limit: 15, offset: 6 })],
      ["max_limit", () => films.query({ prefetch: [{ query: nearest, limit: 21 }], query: { fusion: "rrf" } })],
      ["max_limit", () => films.queryGroups({ vector, groupBy: "n", limit: 7, groupSize: 3 })],
      ["max_limit", () => films.facet("n", { limit: 21 })],
      ["max_limit", () => films.matrix({ sample: 21 })],
      ["max_limit", () => films.scroll({ batch: 21 }).next()],
      ["max_ef", () => films.query({ vector, ef: 101 })],
      ["max_ef", () => films.query({ prefetch: [{ query: nearest, ef: 101 }], query: { fusion: "rrf" } })],
      ["refuse_exact", () => films.query({ vector, exact: true })],
      ["refuse_exact", () => films.query({ prefetch: [{ query: nearest, exact: true }], query: { fusion: "rrf" } })],
      ["max_filter_conditions", () => films.query({ vector, filter: "n = 1 or n = 2 or n = 3 or n = 4" })],
      ["max_filter_conditions", () => films.count({ filter: "n = 1 or n = 2 or n = 3 or n = 4" })],
      [
        "max_filter_depth",
        () => films.scroll({ filter: { must: [{ must: [{ must: [{ is_empty: { key: "n" } }] }] }] }, batch: 5 }).next(),
      ],
      [
        "max_filter_conditions",
        () =>
          films.query({
            prefetch: [{ query: nearest }],
            query: { formula: { condition: "n = 1 or n = 2 or n = 3 or n = 4" } },
          }),
      ],
      [
        "max_prefetch_depth",
        () =>
          films.query({
            prefetch: [{ prefetch: [{ query: nearest }], query: { fusion: "rrf" } }],
            query: { fusion: "rrf" },
          }),
      ],
      ["max_batch_queries", () => films.queryBatch([{ vector }, { vector }, { vector }])],
      ["max_batch_points", () => films.upsert(Array.from({ length: 51 }, (_, id) => ({ id, vector })))],
      ["max_batch_points", () => films.get(Array.from({ length: 51 }, (_, id) => id))],
      ["max_batch_points", () => films.delete(Array.from({ length: 51 }, (_, id) => id))],
      ["max_payload_bytes", () => films.upsert({ id: 1, vector, payload: { text: "x".repeat(100) } })],
    ];
    for (const [limit, refused] of refusals) {
      const details = expect.objectContaining({ limit }) as unknown;
      await expect(refused(), limit).rejects.toMatchObject({ code: "COLLECTION_LIMIT", details });
    }
    // What keeps to them is answered, and nothing of what was refused was written.
    expect(
      (await films.query({ vector, limit: 15, offset: 5, ef: 100, filter: "n < 30 or n = 35" })).points,
    ).toHaveLength(15);
    expect(await films.count()).toBe(40);
    // @ts-expect-error -- a program without types may misspell a limit
    await expect(films.update({ strictMode: { maxLimits: 3 } })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    expect((await films.update({ labels: { a: "b" } })).strictMode).toEqual(strictMode);
    expect((await films.update({ strictMode: {} })).strictMode).toEqual({});
    await expect(films.query({ vector, limit: 30, exact: true })).resolves.toMatchObject({ points: { length: 30 } });
  });

  test("conditions that need an index and have none are refused by name, and conditions of writes are bounded too", {
    timeout: 60_000,
  }, async () => {
    const client = await cluster().connect();
    const films = client.collection("indexed");
    const strictMode: StrictMode = { refuseUnindexed: true, maxFilterConditions: 3, maxFilterDepth: 2 };
    await films.create({ vectors: { dimension: 1 }, strictMode });
    await films.createPayloadIndex("year", "integer", { wait: true });
    await films.createPayloadIndex("cast[].name", "keyword", { wait: true });
    const payload = { year: 1999, genre: "drama", cast: [{ name: "Ann", role: "Eve" }] };
    await films.upsert({ id: 1, vector: [1], payload });
    const vector = [1];
    const nearest = { nearest: vector };
    const unindexed: [string, string, () => Promise<unknown>][] = [
      ["filter.must[0]", "genre", () => films.query({ vector, filter: "genre = drama" })],
      ["filter.must[0]", "genre", () => films.count({ filter: "genre = drama" })],
      ["filter.must[0]", "genre", () => films.facet("year", { filter: "genre = drama" })],
      ["filter.must[0]", "genre", () => films.matrix({ filter: "genre = drama" })],
      ["filter.must[0]", "genre", () => films.scroll({ filter: "genre = drama" }).next()],
      ["query.filter.must[0]", "genre", () => films.queryGroups({ vector, filter: "genre = drama", groupBy: "year" })],
      [
        "prefetch[0].filter.must[0]",
        "genre",
        () => films.query({ prefetch: [{ query: nearest, filter: "genre = drama" }], query: { fusion: "rrf" } }),
      ],
      // An index of another kind does not answer it.
      ["filter.must[0]", "year", () => films.count({ filter: 'year ~ "1999"' })],
      ["filter.must[0].nested.filter.must[0]", "cast[].role", () => films.count({ filter: 'cast[any: role = "Eve"]' })],
      ["filter.must_not[0]", "genre", () => films.count({ filter: "year > 1990 and genre != drama" })],
      ["filter.must[0]", "genre", () => films.delete({ filter: "genre = drama" })],
      ["target.filter.must[0]", "genre", () => films.setPayload({ filter: "genre = drama" }, { a: 1 })],
      ["operations[0].clear_payload.target.filter.must[0]", "genre", () => clearAll("genre = drama")],
    ];
    const clearAll = async (filter: string): Promise<void> => {
      const { results } = await films.writeBatch([{ op: "clearPayload", target: { filter } }]);
      if (results[0]?.ok === false) throw results[0].error;
    };
    for (const [path, field, refused] of unindexed) {
      const details = expect.objectContaining({ limit: "refuse_unindexed", path, field }) as unknown;
      await expect(refused(), path).rejects.toMatchObject({ code: "COLLECTION_LIMIT", details });
    }
    const tooMany = "year = 1 or year = 2 or year = 3 or year = 4";
    const bounded: [string, () => Promise<unknown>][] = [
      ["only_if", () => films.upsert({ id: 1, vector }, { onlyIf: tooMany })],
      ["target.only_if", () => films.setPayload([1], { a: 1 }, { onlyIf: tooMany })],
      ["target.filter", () => films.clearPayload({ filter: tooMany })],
      ["filter", () => films.delete({ filter: tooMany })],
    ];
    for (const [path, refused] of bounded) {
      const details = expect.objectContaining({ limit: "max_filter_conditions", value: "4", max: "3" }) as unknown;
      const message = expect.stringContaining(`conditions of ${path} is`) as unknown;
      await expect(refused(), path).rejects.toMatchObject({ code: "COLLECTION_LIMIT", details, message });
    }
    // What needs no index, or has one.
    const allowed = [
      "year > 1990",
      'cast[any: name = "Ann"]',
      "has_id(1)",
      'has_vector("")',
      "slice(0, 1)",
      "count(year) >= 1",
    ];
    for (const filter of allowed) expect(await films.count({ filter }), filter).toBe(1);
    await films.setPayload([1], { seen: true }, { onlyIf: "genre = drama" });
    expect((await films.get(1))?.payload).toEqual({ ...payload, seen: true });
  });

  test("a full collection takes no more points, but deletions; rates say when to come again", {
    timeout: 60_000,
  }, async () => {
    const client = await cluster().connect({ retry: { attempts: 1 } });
    const full = client.collection("full");
    await full.create({ vectors: { dimension: 1 }, strictMode: { maxPoints: 3 } });
    await full.upsert([1, 2, 3].map((id) => ({ id, vector: [1] })));
    await expect
      .poll(
        () =>
          full.upsert({ id: 9, vector: [1] }).then(
            () => "",
            (error: { code: string }) => error.code,
          ),
        { timeout: 10_000 },
      )
      .toBe("RESOURCE_EXHAUSTED");
    const before = await full.count();
    const several = [10, 11, 12].map((id) => ({ id, vector: [1] }));
    await expect(full.upsert(several)).rejects.toMatchObject({
      message: expect.stringContaining(`it has ${before} points, and 3 are allowed (max_points)`) as unknown,
      details: { limit: "max_points", value: String(before), max: "3" },
    });
    // Nothing of it was written.
    expect(await full.count()).toBe(before);
    await full.delete([1, 2, 3, 9]);
    await expect
      .poll(
        () =>
          full.upsert({ id: 4, vector: [1] }).then(
            () => "",
            (error: { code: string }) => error.code,
          ),
        { timeout: 10_000 },
      )
      .toBe("");
    await full.update({ strictMode: { maxBytes: 1 } });
    await expect
      .poll(() => full.upsert({ id: 5, vector: [1] }).then(String, (error: { details: object }) => error.details), {
        timeout: 10_000,
      })
      .toMatchObject({ limit: "max_bytes", max: "1" });
    await full.setPayload([4], { adds: "no point" });
    await full.update({ strictMode: { maxReadsPerSecond: 1, maxWritesPerSecond: 1 } });
    const codes = async (calls: readonly (() => Promise<unknown>)[]): Promise<unknown[]> =>
      Promise.all(
        calls.map((call) =>
          call().then(
            () => "OK",
            (error: { code: string }) => error.code,
          ),
        ),
      );
    await expect
      .poll(() => codes(Array.from({ length: 9 }, () => () => full.count())), { timeout: 10_000 })
      .toContain("RESOURCE_EXHAUSTED");
    await expect
      .poll(() => codes(Array.from({ length: 9 }, () => () => full.delete([77]))), { timeout: 10_000 })
      .toContain("RESOURCE_EXHAUSTED");
  });
});
