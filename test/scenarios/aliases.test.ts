/**
 * Names of collections: aliases that are switched in one step while everything goes on, collections that get another name, and the same seen
 * through two routers and after restarts.
 */
import { expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import type { CollectionHandle, KithClient } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { onBothDrivers, restartShards } from "../cluster/drivers.js";

const vectors = { dimension: 2, metric: "l2" } as const;

async function filled(client: KithClient, name: string, count: number): Promise<CollectionHandle> {
  const handle = client.collection(name);
  await handle.create({ vectors });
  await handle.upsert(Array.from({ length: count }, (_, id) => ({ id, vector: [id, 1], payload: { n: id } })));
  return handle;
}

const codeOf = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => "OK",
    (error: { code: string }) => error.code,
  );

const size = { shardNodes: 2, replicas: 2, routers: 2 };

onBothDrivers({ processes: size, inProcess: size }, (start) => {
  let clients: [KithClient, KithClient];
  const cluster = useCluster(start, async (started) => {
    clients = [await started.connect({ router: 0 }), await started.connect({ router: 1 })];
  });

  test("an alias is good for reads, writes, lookups, schema and indexes", { timeout: 60_000 }, async () => {
    const [client] = clients;
    await filled(client, "real", 5);
    await client.aliases.create("also", "real");
    // The token of one write says nothing of the shards that it did not touch.
    const also = client.collection("also");
    const latest = { consistency: "linearizable" } as const;
    await also.upsert({ id: 10, vector: [10, 1], payload: { n: 10 } });
    expect(await also.count(latest)).toBe(6);
    expect((await also.query({ vector: [10, 1], limit: 1, ...latest })).points[0]?.id).toBe(10);
    expect((await also.get([3], latest)).length).toBe(1);
    await also.createPayloadIndex("n", "integer", { wait: true });
    expect((await also.listPayloadIndexes()).map(({ path }) => path)).toEqual(["n"]);
    await also.addVectorField("more", vectors);
    await also.dropVectorField("more");
    expect(await also.info()).toMatchObject({ name: "real", aliases: ["also"] });
    expect((await also.update({ labels: { a: "b" } })).labels).toEqual({ a: "b" });
    expect((await also.stats()).pointCount).toBe(6);
    expect(await also.exists()).toBe(true);
    const query = { recommend: { positive: [3] } } as const;
    const lookup = { collection: "also" };
    expect((await client.collection("real").query({ query, lookup, limit: 2 })).points).toHaveLength(2);
    expect((await client.collections.list()).map(({ name }) => name)).not.toContain("also");
    expect(await client.aliases.list({ collection: "real" })).toEqual([{ alias: "also", collection: "real" }]);
    // To delete and to rename, the collection itself is named.
    expect(await codeOf(also.drop())).toBe("INVALID_ARGUMENT");
    expect(await codeOf(also.rename("other"))).toBe("INVALID_ARGUMENT");
  });

  test("what cannot be is refused as a whole, with the name at fault", { timeout: 60_000 }, async () => {
    const [client] = clients;
    await filled(client, "first", 1);
    await filled(client, "second", 1);
    await client.aliases.create("alias-1", "first");
    const refusals: [string, string, () => Promise<unknown>][] = [
      ["COLLECTION_EXISTS", "second", () => client.aliases.create("second", "first")],
      ["ALREADY_EXISTS", "alias-1", () => client.aliases.create("alias-1", "second")],
      ["COLLECTION_NOT_FOUND", "nowhere", () => client.aliases.create("alias-2", "nowhere")],
      ["INVALID_ARGUMENT", "alias-1", () => client.aliases.create("alias-2", "alias-1")],
      ["INVALID_NAME", "a b", () => client.aliases.create("a b", "first")],
      ["NOT_FOUND", "alias-9", () => client.aliases.switch("alias-9", "first")],
      ["NOT_FOUND", "alias-9", () => client.aliases.delete("alias-9")],
      ["ALREADY_EXISTS", "alias-1", () => client.collection("alias-1").create({ vectors })],
      ["COLLECTION_EXISTS", "second", () => client.collection("first").rename("second")],
      ["ALREADY_EXISTS", "alias-1", () => client.collection("second").rename("alias-1")],
      ["COLLECTION_NOT_FOUND", "nowhere", () => client.collection("nowhere").rename("somewhere")],
      [
        "NOT_FOUND",
        "actions[1].delete.alias",
        () =>
          client.aliases.update([
            { create: { alias: "alias-3", collection: "first" } },
            { delete: { alias: "alias-9" } },
          ]),
      ],
    ];
    for (const [code, named, refused] of refusals) {
      await expect(refused(), named).rejects.toMatchObject({ code, message: expect.stringContaining(named) as string });
    }
    const mine = (await client.aliases.list()).filter(({ alias }) => alias.startsWith("alias-"));
    expect(mine).toEqual([{ alias: "alias-1", collection: "first" }]);
    // What is there already is no error.
    await client.aliases.create("alias-1", "first");
    await client.aliases.update([
      { rename: { alias: "alias-1", newAlias: "alias-4" } },
      { create: { alias: "alias-1", collection: "second" } },
    ]);
    expect((await client.aliases.list()).filter(({ alias }) => alias.startsWith("alias-"))).toEqual([
      { alias: "alias-1", collection: "second" },
      { alias: "alias-4", collection: "first" },
    ]);
    await client.collection("second").drop();
    expect(await codeOf(client.collection("alias-1").count())).toBe("COLLECTION_NOT_FOUND");
    expect((await client.aliases.list()).map(({ alias }) => alias)).not.toContain("alias-1");
  });

  test("a switch under load is never without a collection, on either router, and afterwards all meet the new one", {
    timeout: 90_000,
  }, async () => {
    const [one, two] = clients;
    await filled(one, "blue-0", 1);
    await one.aliases.create("live", "blue-0");
    await eventually(async () => expect(await two.collection("live").exists()).toBe(true));
    let isOver = false;
    const failures: unknown[] = [];
    let asked = 0;
    // A handle of another name knows nothing of what was written: any replica would do, and the second one may lag behind the switch.
    const latest = { consistency: "linearizable" } as const;
    const ask = async (client: KithClient): Promise<void> => {
      const live = client.collection("live");
      while (!isOver && failures.length === 0) {
        try {
          const { points } = await live.query({ vector: [0, 1], limit: 100, withPayload: true, ...latest });
          if (points.length === 0) failures.push("empty");
          asked++;
        } catch (error) {
          failures.push(error);
        }
      }
    };
    const loads = [one, two, one, two].map(ask);
    for (let round = 1; round <= 5; round++) {
      await filled(one, `blue-${round}`, round + 1);
      await one.aliases.switch("live", `blue-${round}`);
      expect(await one.collection("live").count(latest)).toBe(round + 1);
    }
    await eventually(async () => {
      expect(await two.collection("live").count(latest)).toBe(6);
    });
    isOver = true;
    await Promise.all(loads);
    expect(failures).toEqual([]);
    expect(asked).toBeGreaterThan(20);
  });

  test("a collection gets another name at once; the old one can be given again", { timeout: 90_000 }, async () => {
    const [one, two] = clients;
    // A handle of another name knows nothing of what was written.
    const latest = { consistency: "linearizable" } as const;
    await filled(one, "old", 3);
    await one.aliases.create("steady", "old");
    const { id } = await one.collection("old").info();
    expect(await one.collection("old").rename("new")).toMatchObject({ id, name: "new", aliases: ["steady"] });
    expect(await codeOf(one.collection("old").count(latest))).toBe("COLLECTION_NOT_FOUND");
    expect(await one.collection("new").count(latest)).toBe(3);
    expect(await one.collection("steady").count(latest)).toBe(3);
    await one.collection("new").upsert({ id: 7, vector: [7, 1] });
    await one.collection("new").createPayloadIndex("n", "integer", { wait: true });
    // Another one takes the old name.
    await filled(one, "old", 1);
    expect((await one.collection("old").info()).id).not.toBe(id);
    await eventually(async () => {
      expect(await two.collection("new").count(latest)).toBe(4);
      expect(await two.collection("old").count(latest)).toBe(1);
    });
    expect(await codeOf(two.collection("new").rename("old"))).toBe("COLLECTION_EXISTS");
    await restartShards(cluster(), one);
    const names = (await two.collections.list()).map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(["new", "old"]));
    expect(names.filter((name) => name.startsWith("_"))).toEqual([]);
    await eventually(async () => expect(await two.collection("new").count(latest)).toBe(4));
    await two.collection("old").drop();
    // And back.
    await eventually(async () =>
      expect(await codeOf(one.collection("old").count(latest))).toBe("COLLECTION_NOT_FOUND"),
    );
    await one.collection("new").rename("old");
    expect(await one.collection("old").info()).toMatchObject({ id, payloadIndexes: [{ path: "n" }] });
    await one.collection("old").drop();
    expect(await codeOf(one.collection("steady").count(latest))).toBe("COLLECTION_NOT_FOUND");
    await filled(one, "old", 2);
    expect(await one.collection("old").count(latest)).toBe(2);
  });

  test("of many who want one name, one gets it", { timeout: 90_000 }, async () => {
    await filled(clients[0], "base-a", 1);
    await filled(clients[0], "base-b", 1);
    await eventually(async () => expect(await clients[1].collection("base-b").exists()).toBe(true));
    for (let round = 0; round < 5; round++) {
      const name = `wanted-${round}`;
      const results = await Promise.all([
        codeOf(clients[0].collection(name).create({ vectors })),
        codeOf(clients[1].aliases.create(name, "base-a")),
        codeOf(clients[0].aliases.create(name, "base-b")),
        codeOf(clients[1].collection(name).create({ vectors })),
      ]);
      // All may be refused where each saw the other; two never get it.
      expect(results.filter((code) => code === "OK").length, results.join()).toBeLessThanOrEqual(1);
      for (const code of results) {
        expect(["OK", "ALREADY_EXISTS", "COLLECTION_EXISTS", "COLLECTION_NOT_READY"]).toContain(code);
      }
    }
  });

  test("a truncated collection is empty for both routers, and takes points afterwards", {
    timeout: 60_000,
  }, async () => {
    const [one, two] = clients;
    const handle = await filled(one, "emptied", 50);
    const idempotencyKey = "once";
    expect((await handle.truncate({ idempotencyKey })).affected).toBe(50);
    expect(await handle.count()).toBe(0);
    await handle.upsert({ id: 1, vector: [1, 1] });
    expect((await handle.truncate({ idempotencyKey })).affected).toBe(50);
    expect(await handle.count()).toBe(1);
    await eventually(async () => expect(await two.collection("emptied").count()).toBe(1));
    await restartShards(cluster(), one);
    await eventually(async () => expect(await handle.count()).toBe(1));
  });
});
