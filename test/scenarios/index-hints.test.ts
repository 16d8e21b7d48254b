/**
 * What the statistics of a collection say of payload indexes: fields that are filtered without one, and indexes that nothing uses; and what reads tell of
 * points that expire.
 */
import { expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import { useCluster } from "../cluster/cluster.js";
import { onBothDrivers } from "../cluster/drivers.js";

onBothDrivers({ processes: { shardNodes: 2, replicas: 2 }, inProcess: {} }, (start) => {
  const cluster = useCluster(start);

  test("fields that filters lack an index of, and indexes that nothing uses, are told", {
    timeout: 60_000,
  }, async () => {
    const client = await cluster().connect();
    const films = client.collection("hinted");
    await films.create({ vectors: { dimension: 1 }, shards: 2 });
    for (const [path, kind] of [
      ["year", "integer"],
      ["title", "text"],
      ["genre", "keyword"],
    ] as const) {
      await films.createPayloadIndex(path, kind, { wait: true });
    }
    await films.upsert(
      [1, 2, 3].map((id) => ({ id, vector: [id], payload: { year: id, genre: "drama", place: "a" } })),
    );
    const before = await films.stats();
    expect(before.unindexedFields).toEqual([]);
    expect(before.unusedIndexes.map(({ path }) => path)).toEqual(["year", "title", "genre"]);
    for (const { since } of before.unusedIndexes) expect(Date.now() - since.getTime()).toBeLessThan(60_000);
    for (let i = 0; i < 3; i++) await films.query({ vector: [1], filter: "place = a and year > 0" });
    await films.count({ filter: "place = b" });
    await films.facet("genre");
    await films.scroll({ filter: 'title = "M"' }).next();
    await eventually(async () => {
      const { unindexedFields, unusedIndexes } = await films.stats();
      expect(unindexedFields).toMatchObject([
        { path: "place", kinds: ["keyword", "uuid"] },
        { path: "title", kinds: ["keyword", "uuid"] },
      ]);
      // A read that takes long is asked of another replica, too, which counts it as well.
      const [place, title] = unindexedFields.map(({ count }) => count);
      expect(place).toBeGreaterThanOrEqual(4);
      expect(title).toBeGreaterThanOrEqual(1);
      expect(unusedIndexes).toMatchObject([{ path: "title" }]);
    });
    // The index that was asked for ends the hint.
    await films.createPayloadIndex("place", "keyword", { wait: true });
    await films.count({ filter: "place = b" });
    expect((await films.stats()).unindexedFields).toEqual([]);
  });

  test("points that are read tell when they expire and which version they are, and can be written back", {
    timeout: 60_000,
  }, async () => {
    const client = await cluster().connect();
    const films = client.collection("expiring");
    await films.create({ vectors: { dimension: 1 }, shards: 2 });
    const expiresAt = new Date(Date.now() + 3_600_000);
    const { token } = await films.upsert([
      { id: 1, vector: [1], payload: { a: 1 }, expiresAt },
      { id: 2, vector: [2] },
    ]);
    const one = await films.get(1, { withVectors: true });
    expect(one).toMatchObject({ id: 1, payload: { a: 1 }, expiresAt });
    expect(Object.values(token.shards)).toContain(one?.version);
    expect(await films.get(2)).not.toHaveProperty("expiresAt");
    const scrolled = [];
    for await (const point of films.scroll()) scrolled.push([point.id, point.expiresAt]);
    expect(scrolled).toEqual([
      [1, expiresAt],
      [2, undefined],
    ]);
    const copy = client.collection("expiring-copy");
    await copy.create({ vectors: { dimension: 1 } });
    for await (const { id, payload, vector, expiresAt: at } of films.scroll({ withVectors: true })) {
      await copy.upsert({ id, payload, ...(vector && { vector }), expiresAt: at });
    }
    expect((await copy.get(1))?.expiresAt).toEqual(expiresAt);
    await films.setExpiry([1], null);
    expect(await films.get(1)).not.toHaveProperty("expiresAt");
  });
});
