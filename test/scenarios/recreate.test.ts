/**
 * A collection is dropped and made anew under the same name while writers and queries are busy with it: they get typed
 * errors and nothing else, and a point of the old collection is never seen in the new one.
 */
import { expect, test } from "vitest";
import { deferred } from "../../libs/base/index.js";
import { type KithClient, KithError, type PointInput } from "../../libs/client/index.js";
import { type Cluster, useCluster } from "../cluster/cluster.js";
import { onBothDrivers } from "../cluster/drivers.js";
import { dimension, failureOf, vectorOf } from "../cluster/workload.js";

const generations = 6;
/** What a call may end with while its collection goes and comes. */
const expected = [
  "COLLECTION_NOT_FOUND",
  "COLLECTION_NOT_READY",
  "SHARD_UNAVAILABLE",
  "SERVER_UNREACHABLE",
  "INVALID_TOKEN",
];

interface Tag extends Record<string, unknown> {
  serial: number;
}

async function scenario(cluster: Cluster): Promise<void> {
  const client = await cluster.connect();
  const handle = client.collection<Tag>("phoenix");
  const create = () => handle.create({ vectors: { dimension, metric: "l2" }, shards: 2 });
  await create();
  let serial = 0;
  /** Serials acknowledged by now; those from before the last drop must never be seen again. */
  let acknowledged: number[] = [];
  let old = new Set<number>();
  let running = true;
  const codes = new Map<string, number>();
  const fail = (error: unknown): void => {
    if (!(error instanceof KithError)) throw error;
    codes.set(error.code, (codes.get(error.code) ?? 0) + 1);
  };
  // Clients of their own: they hold tokens of a collection that is gone, and are told of nothing.
  const writer = async (other: KithClient): Promise<void> => {
    while (running) {
      const mine = serial++;
      const point = { id: mine, vector: vectorOf(mine, 1), payload: { serial: mine } };
      try {
        await other.collection<Tag>("phoenix").upsert(point, { deadlineMs: 15_000 });
        acknowledged.push(mine);
      } catch (error) {
        fail(error);
      }
    }
  };
  const reader = async (other: KithClient): Promise<void> => {
    while (running) {
      const before = old;
      try {
        const { points } = await other
          .collection<Tag>("phoenix")
          .query({ vector: vectorOf(serial, 1), limit: 100, deadlineMs: 15_000 });
        const risen = points.filter((point) => before.has(point.payload?.serial ?? -1));
        expect(risen, "points of a dropped collection").toEqual([]);
      } catch (error) {
        fail(error);
      }
    }
  };
  const work = [
    ...(await Promise.all([cluster.connect(), cluster.connect()])).map(writer),
    ...(await Promise.all([cluster.connect(), cluster.connect()])).map(reader),
  ];
  // A failure of one ends all, and the test.
  const guarded = Promise.all(work).finally(() => {
    running = false;
  });
  guarded.catch(() => undefined);
  for (let generation = 1; generation < generations && running; generation++) {
    const from = acknowledged.length;
    for (let tries = 0; acknowledged.length < from + 20 && tries < 1_200 && running; tries++) {
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    expect(acknowledged.length, `writes in generation ${generation}`).toBeGreaterThanOrEqual(from + 20);
    const gone = acknowledged;
    acknowledged = [];
    const dropped = new Set(gone);
    await handle.drop();
    await create();
    old = dropped;
    for (const id of gone.slice(0, 50)) expect(await handle.get([id])).toEqual([]);
  }
  running = false;
  await guarded;
  for (const code of codes.keys()) expect(expected).toContain(code);
  await handle.drop();
  expect((await failureOf(handle.count()))?.code).toBe("COLLECTION_NOT_FOUND");
}

onBothDrivers({ processes: { shardNodes: 2, replicas: 2 }, inProcess: {} }, (start) => {
  const cluster = useCluster(start);

  test("writers and readers go on through drops and creations", { timeout: 90_000 }, () => scenario(cluster()));

  test("a batch of queries starts afresh after a refusal of the client's token", async () => {
    const [client, other] = [await cluster().connect(), await cluster().connect()];
    const handle = client.collection("batched");
    const vectors = { dimension: 2, metric: "l2" } as const;
    await handle.create({ vectors });
    await handle.upsert({ id: 1, vector: [1, 1] });
    await other.collection("batched").drop();
    await other.collection("batched").create({ vectors });
    const codes = [];
    for (let i = 0; i < 2; i++) {
      for (const item of await handle.queryBatch([{ vector: [1, 1] }])) codes.push(item.ok ? "ok" : item.error.code);
    }
    expect(codes).toEqual(["INVALID_TOKEN", "ok"]);
  });

  test("a scroll and an import end where their collection is made anew", async () => {
    const client = await cluster().connect();
    const handle = client.collection("spanned");
    const vectors = { dimension: 2, metric: "l2" } as const;
    const points = Array.from({ length: 4 }, (_, id) => ({ id, vector: [id, 1] }));
    const remake = async (): Promise<void> => {
      await handle.drop();
      await handle.create({ vectors });
      await handle.upsert(points);
    };
    await handle.create({ vectors });
    await handle.upsert(points);
    const seen: unknown[] = [];
    const scroll = async (): Promise<void> => {
      for await (const { id } of handle.scroll({ batch: 2 })) if (seen.push(id) === 2) await remake();
    };
    expect((await failureOf(scroll()))?.code).toBe("COLLECTION_NOT_FOUND");
    expect(seen).toEqual([0, 1]);
    const settled = deferred<void>();
    async function* source(): AsyncGenerator<PointInput> {
      yield* points.slice(0, 2);
      await settled.promise;
      await remake();
      yield* points.slice(2);
    }
    const failure = await failureOf(handle.upsertMany(source(), { batchPoints: 2, onBatch: () => settled.resolve() }));
    expect(failure).toMatchObject({ code: "COLLECTION_NOT_FOUND", details: { resumeIndex: 2 } });
  });
});
