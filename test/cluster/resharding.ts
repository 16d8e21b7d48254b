/** What tests of splits and merges share: points that are used meanwhile, and how it is seen that all of them are there, once. */
import { expect } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import type { ChangeEvent, CollectionHandle, KithClient, OperationInfo, Token } from "../../libs/client/index.js";
import { dimension, Ledger, type Payload, range, vectorOf } from "./workload.js";

/** How many points a collection has. Those with ids below `steady` are not written again: each search finds what it looks for. */
export interface ReshardedSize {
  readonly pointCount: number;
  readonly steady: number;
}

/** The operation, when it has ended in one way or another. */
export function ended(client: KithClient, { id }: OperationInfo): Promise<OperationInfo> {
  return eventually(async () => {
    const operation = await client.cluster.operation(id);
    expect(["done", "failed", "cancelled"], JSON.stringify(operation)).toContain(operation.state);
    return operation;
  }, 60_000);
}

/** Ids of the shards that have slots. */
export async function shardsOf(client: KithClient, collection: string): Promise<number[]> {
  const { shards } = await client.cluster.describe();
  return shards
    .filter((shard) => shard.collection === collection && shard.state === "active")
    .map(({ shard }) => shard);
}

/** Users who write, search and scroll until `work` has ended. */
export async function underLoad<T>(
  ledger: Ledger,
  { pointCount, steady }: ReshardedSize,
  work: () => Promise<T>,
): Promise<T> {
  const load = { isOver: false, searches: 0, scrolls: 0, writes: 0 };
  const { handle } = ledger;
  const search = async (): Promise<void> => {
    while (!load.isOver) {
      const id = (load.searches++ * 37) % steady;
      const { points } = await handle.query({ vector: vectorOf(id, 1), limit: 5, deadlineMs: 10_000 });
      expect(points[0]?.id).toBe(id);
      expect(new Set(points.map((point) => point.id)).size).toBe(5);
      expect(await handle.count({ filter: "version >= 0" })).toBe(pointCount);
    }
  };
  const scroll = async (): Promise<void> => {
    while (!load.isOver) {
      const ids: number[] = [];
      for await (const point of handle.scroll({ batch: 500 })) ids.push(Number(point.id));
      expect(ids).toEqual(range(0, pointCount));
      load.scrolls++;
    }
  };
  const write = async (): Promise<void> => {
    const versions = new Map<number, number>();
    while (!load.isOver) {
      const ids = range(steady + ((load.writes++ * 50) % (pointCount - steady)), 50);
      expect(await ledger.write(ids)).toBe(true);
      for (const { id, version } of await handle.get(ids.slice(0, 5))) {
        expect(version).toBeGreaterThan(versions.get(Number(id)) ?? 0);
        versions.set(Number(id), version);
      }
    }
  };
  const running = Promise.all([search(), scroll(), write()]);
  try {
    return await Promise.race([work(), running.then(() => work())]);
  } finally {
    load.isOver = true;
    await running;
    expect(Math.min(load.searches, load.writes, load.scrolls)).toBeGreaterThan(1);
  }
}

/** A collection of these points, in so many shards. */
export async function resharded(
  client: KithClient,
  name: string,
  shards: number,
  { pointCount }: ReshardedSize,
): Promise<Ledger> {
  const handle = client.collection<Payload>(name);
  await handle.create({ vectors: { dimension, metric: "l2" }, shards });
  const ledger = new Ledger(handle);
  await ledger.fill(0, pointCount);
  return ledger;
}

/** Changes until `isLast`. */
export async function watched(
  handle: CollectionHandle<Payload>,
  from: Token,
  isLast: (change: ChangeEvent<Payload>) => boolean,
) {
  const changes: ChangeEvent<Payload>[] = [];
  for await (const change of handle.watch({ from })) {
    changes.push(change);
    if (isLast(change)) return changes;
  }
  return changes;
}
