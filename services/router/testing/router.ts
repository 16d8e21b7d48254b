import { systemClock, systemRandom } from "../../../libs/base/index.js";
import { ShiftedClock } from "../../../libs/base/testing.js";
import { FakeCatalog } from "../../../libs/catalog/testing.js";
import { collectionsView, NodesView, Operations } from "../../../libs/cluster/index.js";
import { FakeLog } from "../../../libs/log/testing.js";
import type { Collection, ReplicaPlacement } from "../../../libs/model/index.js";
import { type CallContext, fullAccess } from "../../../libs/call/index.js";
import { untraced } from "../../../libs/telemetry/index.js";
import { evenRanges } from "../../../libs/sharding/index.js";
import { Moves } from "../catalog/moves.js";
import { Outages } from "../catalog/outage.js";
import { Resharding } from "../catalog/resharding.js";
import { RoutingTable } from "../routing/routing-table.js";
import { FakeNode } from "./fake-node.js";

export { FakeNode };

export const call: CallContext = { trace: untraced, signal: undefined, access: fullAccess("read") };

/** Placed on all `nodes`, each of its shards, which have these ids. */
export function collectionRecord(
  name: string,
  nodes: readonly string[],
  shardIds: readonly number[] = [0],
): Collection {
  const active = (node: string): ReplicaPlacement => ({ node, state: "active", sinceMs: 0 });
  return {
    id: `${name}1`,
    name,
    fields: [{ name: "", dimension: 2, metric: "l2", datatype: "f32", m: 16, efConstruction: 100, efSearch: 64 }],
    replicationFactor: nodes.length,
    epoch: 1,
    createdAtMs: 0,
    labels: {},
    state: "ready",
    nextShard: Math.max(...shardIds) + 1,
    payloadIndexes: [],
    schemaVersion: 1,
    shards: evenRanges(shardIds.length).map((slots, i) => ({
      shard: shardIds[i] as number,
      ...slots,
      epoch: 1,
      state: "active",
      replicas: nodes.map(active),
    })),
  };
}

/** What a router has around it: one ready collection "c" on `nodes`, with shards of these ids. `close` when done. */
export async function routed(nodes: readonly FakeNode[], shardIds?: readonly number[]) {
  const catalog = await FakeCatalog.open();
  const log = await FakeLog.open();
  const record = collectionRecord(
    "c",
    nodes.map(({ id }) => id),
    shardIds,
  );
  for (const { shard } of record.shards) await log.create({ collectionId: record.id, shard });
  await catalog.put("collections.c", JSON.stringify(record));
  const view = collectionsView(catalog);
  const clock = new ShiftedClock(systemClock);
  const random = systemRandom;
  const nodesView = new NodesView(catalog, clock);
  const operations = new Operations(catalog, clock);
  await Promise.all([view.start(), nodesView.start(), operations.start()]);
  const routingTable = new RoutingTable({
    collections: view,
    log,
    clock,
    random,
    zone: "",
    findNode: (id) => nodes.find((node) => node.id === id) as FakeNode,
  });
  const collectionsOptions = {
    view,
    operations,
    nodes: nodesView,
    routingTable,
    clock,
    random,
    defaultReplicationFactor: 1,
    outages: new Outages(catalog, clock, "jetstream"),
  };
  const moves = new Moves({ operations, nodes: nodesView, routingTable, log, random });
  const resharding = new Resharding({ operations, view, routingTable, log, random });
  return {
    catalog,
    log,
    moves,
    resharding,
    record,
    view,
    operations,
    routingTable,
    clock,
    collectionsOptions,
    close: () => routingTable.close(),
  };
}
