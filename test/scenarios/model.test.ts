/** Random histories of operations through the public API, checked against a model in memory; with restarts in between. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { CollectionHandle, KithClient } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { onBothDrivers, restartShards } from "../cluster/drivers.js";
import { dimension, type Payload, pointOf, vectorOf } from "../cluster/workload.js";

type Step =
  | { kind: "upsert" | "insert" | "update"; ids: number[]; version: number }
  | { kind: "delete"; ids: number[] }
  | { kind: "query"; id: number; version: number; limit: number }
  | { kind: "restart" | "truncate" };

const ids = fc.uniqueArray(fc.nat(40), { minLength: 1, maxLength: 12 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom("upsert" as const, "insert" as const, "update" as const),
      ids,
      version: fc.nat(1000),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("delete" as const), ids }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("query" as const),
      id: fc.nat(40),
      version: fc.nat(1000),
      limit: fc.integer({ min: 1, max: 20 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom("restart" as const, "truncate" as const) }) },
);

async function run(
  handle: CollectionHandle<Payload>,
  model: Map<number, number>,
  action: Step,
  restart: () => Promise<void>,
): Promise<void> {
  switch (action.kind) {
    case "upsert":
    case "insert":
    case "update": {
      const { kind, version } = action;
      const allowed = action.ids.filter((id) => kind === "upsert" || model.has(id) === (kind === "update"));
      const result = await handle.upsert(
        action.ids.map((id) => pointOf(id, version)),
        { mode: kind },
      );
      expect(result.upserted).toBe(allowed.length);
      expect(result.errors).toHaveLength(action.ids.length - allowed.length);
      for (const id of allowed) model.set(id, version);
      return;
    }
    case "delete": {
      const { deleted } = await handle.delete(action.ids);
      expect(deleted).toBe(action.ids.filter((id) => model.delete(id)).length);
      return;
    }
    case "query": {
      const vector = vectorOf(action.id, action.version);
      const { points } = await handle.query({ vector, limit: action.limit });
      const distances = new Map(
        [...model].map(([id, version]) => [id, Math.sqrt(squares(vectorOf(id, version), vector))]),
      );
      const expected = [...distances.values()].sort((a, b) => a - b).slice(0, action.limit);
      expect(points).toHaveLength(expected.length);
      expect(new Set(points.map((point) => point.id)).size).toBe(points.length);
      for (const [i, { id, score }] of points.entries()) {
        // Of two distances that differ by less than f32 rounds, either may come first.
        expect(distances.get(Number(id)), `place ${i}`).toBeCloseTo(expected[i] as number, 5);
        expect(score).toBeCloseTo(expected[i] as number, 4);
      }
      return;
    }
    case "truncate":
      expect((await handle.truncate()).affected).toBe(model.size);
      model.clear();
      return;
    case "restart":
      await restart();
  }
}

function squares(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, value, i) => sum + (value - (b[i] as number)) ** 2, 0);
}

onBothDrivers({ processes: { shardNodes: 2, replicas: 2 }, inProcess: {} }, (start, driver) => {
  let client: KithClient;
  const cluster = useCluster(start, async (started) => {
    client = await started.connect();
  });
  const restart = (): Promise<void> => restartShards(cluster(), client);

  test("every history agrees with the model", { timeout: 120_000 }, async () => {
    let history = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 5, maxLength: 30 }),
        fc.integer({ min: 1, max: 4 }),
        async (steps, shards) => {
          const handle = client.collection<Payload>(`model-${history++}`);
          await handle.create({ vectors: { dimension, metric: "l2" }, shards });
          const model = new Map<number, number>();
          for (const action of steps) await run(handle, model, action, restart);
          const found = new Map<number, number>();
          for await (const point of handle.scroll({ batch: 7 }))
            found.set(Number(point.id), point.payload?.version ?? -1);
          expect(found).toEqual(new Map([...model].sort(([a], [b]) => a - b)));
          expect(await handle.count()).toBe(model.size);
          await handle.drop();
        },
      ),
      // A restart of real processes takes seconds.
      { numRuns: driver === "processes" ? 5 : 25 },
    );
  });
});
