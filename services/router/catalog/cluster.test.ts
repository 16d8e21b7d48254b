import { expect, test } from "vitest";
import { systemClock } from "../../../libs/base/index.js";
import { NodesView } from "../../../libs/cluster/index.js";
import { Cluster } from "./cluster.js";
import { call, FakeNode, routed } from "../testing/router.js";

test("how far replicas are behind is unknown while the log cannot be reached, and not nothing", async () => {
  const near = new FakeNode("near");
  const far = new FakeNode("far");
  const { log, catalog, routingTable, close } = await routed([near, far]);
  near.applied = 9;
  far.applied = 4;
  log.lastSequence = 9;
  const cluster = new Cluster({
    name: "kith",
    version: "test",
    logKind: "jetstream",
    log,
    catalog,
    nodes: new NodesView(catalog, systemClock),
    routingTable,
    clock: systemClock,
  });
  const seen = async () => {
    const [shard] = (await cluster.describe(call)).shards;
    return { logSequence: shard?.logSequence, lags: shard?.replicas.map(({ lag }) => lag) };
  };
  expect(await seen()).toEqual({ logSequence: 9, lags: [0, 5] });
  log.available = false;
  expect(await seen()).toEqual({ logSequence: undefined, lags: [undefined, undefined] });
  close();
});
