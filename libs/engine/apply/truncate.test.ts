import { expect, test } from "vitest";
import { parseFilter } from "../../filter/index.js";
import {
  active,
  call,
  collectionOf,
  eventually,
  factories,
  operationOf,
  upsert,
  World,
} from "../testing/harness.fixture.js";

const truncation = (id?: Uint8Array) => operationOf({ $case: "truncate", value: {} }, id === undefined ? {} : { id });
const points = (from: number, count: number) =>
  Array.from({ length: count }, (_, i) => ({
    id: from + i,
    vector: [from + i, 1, 0, 0],
    payload: { genre: i % 2 === 0 ? "drama" : "crime" },
  }));

const genreIndex = { path: "genre", kind: "keyword" as const, isTenant: false, isPrincipal: false };

for (const [name, indexes] of factories) {
  test(`on the ${name}, a truncation empties store, graph and payload indexes at its place in the log, once for each key`, async () => {
    const collection = { ...collectionOf(), payloadIndexes: [genreIndex] };
    const world = await World.make({ collection, indexes });
    try {
      const replica = await active(await world.open());
      await world.append([upsert(points(0, 3_000))]);
      const before = await eventually("indexed", async () => {
        await replica.wait(1, [], call);
        await replica.waitIndexed(call);
        return replica.status();
      });
      await replica.checkpoint();
      const key = Buffer.alloc(16, 7);
      await world.append([truncation(key)]);
      await world.append([upsert(points(5, 2))]);
      // A retry is no second truncation.
      const last = await world.append([truncation(key)]);
      await replica.wait(last, [], call);
      expect(await replica.wait(last, [key], call)).toMatchObject([{ affected: 3_000 }]);
      const status = replica.status();
      expect(status).toMatchObject({ pointCount: 2 });
      if (name === "native index") expect(status.memoryBytes).toBeLessThan(before.memoryBytes / 2);
      const minSequence = last;
      const counted = async (text: string, of = replica): Promise<number> =>
        (await of.read("count", { filter: parseFilter(text), minSequence }, call)).count;
      expect([await counted('genre = "drama"'), await counted('genre = "crime"')]).toEqual([1, 1]);
      const query = { field: "", vector: Float32Array.of(0, 1, 0, 0), k: 10, ef: 64, exact: false };
      const { hits } = await replica.read(
        "query",
        { ...query, select: { payload: false, vectors: [] }, minSequence },
        call,
      );
      expect(hits).toHaveLength(2);
      await replica.close();
      const again = await active(await world.open());
      expect(again.status()).toMatchObject({ pointCount: 2, digest: status.digest });
      const other = await active(await world.open({ name: "b" }));
      expect(other.status().digest).toBe(status.digest);
      expect(await counted('genre = "drama"', other)).toBe(1);
      expect(world.alarms).toEqual([]);
    } finally {
      await world.end();
    }
  });

  test(`on the ${name}, what a record writes before its truncation is gone, and what it writes afterwards stays`, async () => {
    const world = await World.make({ indexes });
    try {
      const replica = await active(await world.open());
      await world.append([upsert(points(0, 10))]);
      const id = Buffer.alloc(16, 1);
      const sequence = await world.append([
        upsert(points(5, 10)),
        truncation(id),
        upsert(points(3, 4)),
        truncation(),
        upsert(points(4, 1)),
      ]);
      expect(await replica.wait(sequence, [id], call)).toMatchObject([{ affected: 15 }]);
      expect(replica.status().pointCount).toBe(1);
      await replica.close();
      expect((await active(await world.open())).status()).toMatchObject({ pointCount: 1 });
      expect(world.alarms).toEqual([]);
    } finally {
      await world.end();
    }
  });
}

test("a replica that is away meanwhile takes up the truncation, also from an index checkpoint of before", async () => {
  const world = await World.make();
  try {
    const replica = await active(await world.open());
    await world.append([upsert(points(0, 500))]);
    await replica.wait(1, [], call);
    await replica.checkpoint();
    await replica.close();
    await world.append([truncation()]);
    const sequence = await world.append([upsert(points(100, 3))]);
    const again = await active(await world.open());
    await again.wait(sequence, [], call);
    expect(again.status()).toMatchObject({ pointCount: 3, appliedSequence: sequence });
    await again.checkpoint();
    await again.close();
    expect((await active(await world.open())).status()).toMatchObject({ pointCount: 3 });
    expect(world.alarms).toEqual([]);
  } finally {
    await world.end();
  }
});
