/**
 * What readers may rely on with two replicas and two routers: a client reads its own writes, another client reads them with
 * its token, a linearizable read sees every acknowledged write, and nobody who carries a token goes back in time.
 */
import { expect, test } from "vitest";
import type { CollectionHandle, Token } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { randomFrom } from "../cluster/damage.js";
import { onBothDrivers } from "../cluster/drivers.js";
import { dimension, type Payload, pointOf, vectorOf } from "../cluster/workload.js";

const seed = Number(process.env["KITH_SEED"] ?? 1);
const size = { shardNodes: 2, replicas: 2, routers: 2 };

async function versionOf(
  handle: CollectionHandle<Payload>,
  id: number,
  consistency: "session" | "linearizable" | { atLeast: Token },
): Promise<number> {
  const [point] = await handle.get([id], { consistency });
  return point?.payload?.version ?? 0;
}

/** What both have seen, of a collection with one shard. */
function joined(a: Token, b: Token): Token {
  return { collectionId: a.collectionId, shards: { 0: Math.max(a.shards[0] ?? 0, b.shards[0] ?? 0) } };
}

onBothDrivers({ processes: size, inProcess: size }, (start) => {
  const cluster = useCluster(start);

  test("a client reads its own writes at once, by get, query, count and scroll", { timeout: 60_000 }, async () => {
    const client = await cluster().connect();
    const handle = client.collection<Payload>("own");
    await handle.create({ vectors: { dimension, metric: "l2" }, shards: 2 });
    for (let id = 0; id < 50; id++) {
      await handle.upsert(pointOf(id, 1));
      const { points } = await handle.query({ vector: vectorOf(id, 1), limit: 1 });
      expect(points[0]?.id).toBe(id);
      expect(await handle.count()).toBe(id + 1);
      expect(await versionOf(handle, id, "session")).toBe(1);
    }
    // Also what was acknowledged before any replica had it.
    for (let id = 50; id < 100; id++) {
      await handle.upsert(pointOf(id, 1), { ack: "log" });
      expect(await versionOf(handle, id, "session")).toBe(1);
    }
    await handle.delete([3]);
    expect(await versionOf(handle, 3, "session")).toBe(0);
  });

  test(`another client reads them through a token, also by another router; linearizable reads need none (seed ${seed})`, {
    timeout: 60_000,
  }, async () => {
    const random = randomFrom(seed);
    const writer = (await cluster().connect({ router: 0 })).collection<Payload>("shared");
    await writer.create({ vectors: { dimension, metric: "l2" }, shards: 3 });
    const other = await cluster().connect({ router: 1 });
    const reader = other.collection<Payload>("shared");
    // The other router hears of the collection by its own watch.
    await expect.poll(() => reader.exists(), { timeout: 10_000 }).toBe(true);
    await expect.poll(() => reader.count().catch(() => -1), { timeout: 10_000 }).toBe(0);
    const newest = new Map<number, number>();
    for (let i = 0; i < 150; i++) {
      const id = random(20);
      const version = (newest.get(id) ?? 0) + 1;
      const { token } = await writer.upsert(pointOf(id, version), { ack: random(2) === 0 ? "log" : "applied" });
      newest.set(id, version);
      // The token crosses processes as JSON.
      const carried = JSON.parse(JSON.stringify(token)) as Token;
      if (random(2) === 0) expect(await versionOf(reader, id, { atLeast: carried })).toBe(version);
      else expect(await versionOf(reader, id, "linearizable")).toBe(version);
      const { points } = await reader.query({
        vector: vectorOf(id, version),
        limit: 1,
        consistency: { atLeast: writer.token },
      });
      expect(points[0]).toMatchObject({ id, payload: { version } });
    }
  });

  test(`readers that carry a token never go back, whichever replica answers (seed ${seed})`, {
    timeout: 60_000,
  }, async () => {
    const handle = (await cluster().connect({ router: 0 })).collection<Payload>("monotonic");
    await handle.create({ vectors: { dimension, metric: "l2" } });
    let version = 0;
    let token: Token = { collectionId: "", shards: {} };
    let acknowledged = 0;
    let writing = true;
    const writer = (async () => {
      while (writing) {
        version++;
        token = (await handle.upsert(pointOf(1, version))).token;
        acknowledged = version;
      }
    })();
    const readers = [0, 1, 0, 1].map(async (router) => {
      const mine = (await cluster().connect({ router })).collection<Payload>("monotonic");
      await expect.poll(() => mine.count().catch(() => -1), { timeout: 10_000 }).toBeGreaterThan(0);
      let seen = 0;
      for (let i = 0; i < 150; i++) {
        const floor = acknowledged;
        // A linearizable read may have seen more than the writer has been told of.
        const found = await versionOf(mine, 1, { atLeast: joined(token, mine.token) });
        expect(found, "a read at a token").toBeGreaterThanOrEqual(Math.max(floor, seen));
        seen = found;
        const atOnce = acknowledged;
        const fresh = await versionOf(mine, 1, "linearizable");
        expect(fresh, "a linearizable read").toBeGreaterThanOrEqual(Math.max(atOnce, seen));
        seen = fresh;
      }
    });
    await Promise.all(readers).finally(() => {
      writing = false;
    });
    await writer;
  });

  test("a token of a collection that was deleted is refused at once, and its client goes on with the one made anew", {
    timeout: 60_000,
  }, async () => {
    const mine = (await cluster().connect({ router: 0 })).collection<Payload>("anew");
    const theirs = (await cluster().connect({ router: 0 })).collection<Payload>("anew");
    const vectors = { dimension, metric: "l2" } as const;
    await mine.create({ vectors });
    for (let version = 1; version <= 5; version++) await mine.upsert(pointOf(1, version));
    const before = mine.token;
    await theirs.drop();
    await theirs.create({ vectors });
    // The log of the new one is shorter than the token says: a wait for it would not end before the deadline.
    await expect(mine.count({ deadlineMs: 30_000 })).rejects.toMatchObject({ code: "INVALID_TOKEN" });
    expect(await mine.count()).toBe(0);
    await expect(theirs.count({ consistency: { atLeast: before } })).rejects.toMatchObject({ code: "INVALID_TOKEN" });
  });
});
