import { expect, test } from "vitest";
import { systemClock } from "../../../libs/base/index.js";
import { NodesView } from "../../../libs/cluster/index.js";
import type { ShardPlacement } from "../../../libs/model/index.js";
import { Cluster } from "./cluster.js";
import { call, FakeNode, routed } from "../testing/router.js";

const clusterOf = ({ log, catalog, routingTable }: Awaited<ReturnType<typeof routed>>) =>
  new Cluster({
    name: "kith",
    version: "test",
    logKind: "jetstream",
    log,
    catalog,
    nodes: new NodesView(catalog, systemClock),
    routingTable,
    clock: systemClock,
  });

test("shards are described by their ids, with those that own no slots, and replicas with their placements", async () => {
  const router = await routed([new FakeNode("a"), new FakeNode("b")], [3, 7]);
  const [kept, grown] = router.record.shards as [ShardPlacement, ShardPlacement];
  const shards = [
    kept,
    { ...grown, epoch: 2, replicas: grown.replicas.map((each) => ({ ...each, state: "joining", sinceMs: 9 })) },
    { ...grown, shard: 8, epoch: 2, state: "preparing", replicas: [] },
  ];
  await router.catalog.put("collections.c", JSON.stringify({ ...router.record, epoch: 2, nextShard: 9, shards }));
  const slots = { first: 8_192, last: 16_383 };
  const joining = (node: string) => ({ node, placement: "joining", placedAt: new Date(9), state: "active" });
  expect((await clusterOf(router).describe(call)).shards).toMatchObject([
    { shard: 3, state: "active", epoch: 1, slots: { first: 0, last: 8_191 }, replicas: [{ placement: "active" }, {}] },
    { shard: 7, state: "active", epoch: 2, slots, replicas: [joining("a"), joining("b")] },
    { shard: 8, state: "preparing", epoch: 2, slots, replicas: [] },
  ]);
  router.close();
});

test("how far replicas are behind is unknown while the log cannot be reached, and not nothing", async () => {
  const near = new FakeNode("near");
  const far = new FakeNode("far");
  const router = await routed([near, far]);
  const { log, close } = router;
  near.applied = 9;
  far.applied = 4;
  await log.fill({ collectionId: router.record.id, shard: 0 }, 9);
  const cluster = clusterOf(router);
  const seen = async () => {
    const [shard] = (await cluster.describe(call)).shards;
    return { logSequence: shard?.logSequence, lags: shard?.replicas.map(({ lag }) => lag) };
  };
  expect(await seen()).toEqual({ logSequence: 9, lags: [0, 5] });
  log.available = false;
  expect(await seen()).toEqual({ logSequence: undefined, lags: [undefined, undefined] });
  close();
});
