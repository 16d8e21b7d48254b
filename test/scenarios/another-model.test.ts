/**
 * Another embedding model for a live collection: a field of its vectors beside the old one, filled while queries and writes go on, and the old one dropped. No query fails,
 * payloads are written once, and each point is found by its vector of either model.
 */
import { expect, test } from "vitest";
import { sleep, systemClock } from "../../libs/base/index.js";
import { useCluster } from "../cluster/cluster.js";
import { onBothDrivers } from "../cluster/drivers.js";
import { dimension, failureOf, range, vectorOf } from "../cluster/workload.js";

/** The vector of the second model: another length, and other neighbours. */
function ofSecond(id: number): Float32Array {
  return Float32Array.from([...vectorOf(id, 7), ...vectorOf(id, 8)]);
}

const size = { shardNodes: 2, replicas: 2 };
const latest = { consistency: "linearizable" } as const;

onBothDrivers({ processes: size, inProcess: size }, (start) => {
  const cluster = useCluster(start);

  test("vectors of another model come beside the old ones, and take their place", { timeout: 90_000 }, async () => {
    const client = await cluster().connect();
    const docs = client.collection("docs");
    await docs.create({ vectors: { first: { dimension, metric: "l2" } }, shards: 2 });
    const filled = 1_500;
    await docs.upsert(range(0, filled).map((id) => ({ id, vectors: { first: vectorOf(id, 1) }, payload: { id } })));

    let model: "first" | "second" = "first";
    let isBusy = true;
    let written = filled;
    const asked = { first: 0, second: 0 };
    const asking = (async (): Promise<void> => {
      for (let i = 0; isBusy; i++) {
        const id = (i * 7) % filled;
        const using = model;
        const vector = using === "first" ? vectorOf(id, 1) : ofSecond(id);
        const { points } = await docs.query({ vector, using, limit: 3, withPayload: true, ...latest });
        expect(points[0]).toMatchObject({ id, payload: { id } });
        asked[using]++;
        await sleep(systemClock, 5);
      }
    })();
    let hasBoth = false;
    const writing = (async (): Promise<void> => {
      while (isBusy) {
        const both = (id: number): Record<string, Float32Array> => ({ first: vectorOf(id, 1), second: ofSecond(id) });
        const ids = range(written, 5);
        await docs.upsert(
          ids.map((id) => ({ id, vectors: hasBoth ? both(id) : { first: vectorOf(id, 1) }, payload: { id } })),
        );
        written += ids.length;
        await sleep(systemClock, 20);
      }
    })();

    await docs.addVectorField("second", { dimension: 2 * dimension, metric: "l2", datatype: "f16" });
    hasBoth = true;
    // What was written before the application knew of the field is filled in with the rest.
    const old = { filter: 'not has_vector("second")', withPayload: false, batch: 200 } as const;
    for (let isWhole = false; !isWhole; ) {
      const missing: number[] = [];
      for await (const { id } of docs.scroll({ ...old, ...latest })) missing.push(Number(id));
      if (missing.length > 0)
        await docs.updateVectors(missing.map((id) => ({ id, vectors: { second: ofSecond(id) } })));
      isWhole = missing.length === 0;
    }
    expect(await docs.count({ filter: 'not has_vector("second")', ...latest })).toBe(0);
    model = "second";
    while (asked.second < 20) await sleep(systemClock, 10);
    isBusy = false;
    await Promise.all([asking, writing]);
    expect(asked.first).toBeGreaterThan(5);

    await docs.dropVectorField("first");
    expect(await failureOf(docs.query({ vector: vectorOf(1, 1), using: "first" }))).toMatchObject({
      code: "UNKNOWN_VECTOR",
    });
    expect(await docs.count(latest)).toBe(written);
    for (const id of [0, filled - 1, filled, written - 1]) {
      const { points } = await docs.query({
        vector: ofSecond(id),
        using: "second",
        limit: 1,
        withPayload: true,
        withVectors: true,
        ...latest,
      });
      expect(points).toMatchObject([{ id, payload: { id } }]);
      expect(Object.keys(points[0]?.vectors ?? {})).toEqual(["second"]);
    }
  });
});
