import { createHash } from "node:crypto";
import { KithError } from "../../../libs/base/index.js";
import type { JsonObject } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import { type Ask, describe, type Operation, tell } from "./api.js";
import { replicatePoints } from "./replicate.js";
import { dropShardKey, makeShardKey } from "./shard-keys.js";
import { countOf, member, objectOf, optional, type Reply, required, wordOf, wrong } from "./values.js";

const service = pb.ClusterService;

/** Nodes have names; peers have numbers: 52 bits of a hash of the name, so that doubles hold them. */
export function peerOf(node: string): number {
  return createHash("sha256").update(node).digest().readUIntBE(0, 6) * 16 + 1;
}

/** The cluster with the nodes that can have shards: those are peers. */
async function cluster(ask: Ask): Promise<pb.DescribeClusterResponse> {
  const described = await tell(ask, service.describe, {});
  return { ...described, nodes: described.nodes.filter(({ roles }) => roles.includes("shard")) };
}

export const clusterStatus: Operation = async (ask) => {
  const { nodes, coordinator } = await cluster(ask);
  const [first] = nodes;
  const leader = nodes.some(({ id }) => id === coordinator) ? coordinator : (first?.id ?? "");
  return {
    status: "enabled",
    peer_id: peerOf(first?.id ?? ""),
    peers: Object.fromEntries(nodes.map(({ id, address }) => [String(peerOf(id)), { uri: `http://${address}/` }])),
    raft_info: {
      term: 0,
      commit: 0,
      pending_operations: 0,
      leader: peerOf(leader),
      role: first?.id === leader ? "Leader" : "Follower",
      is_voter: true,
    },
    consensus_thread_status: {
      consensus_thread_status: "working",
      last_update: new Date(ask.call.clock.nowMs()).toISOString(),
    },
    message_send_failures: {},
  };
};

const states: Readonly<Record<string, string>> = {
  active: "Active",
  initializing: "Initializing",
  catching_up: "Recovery",
  stale: "Dead",
  removing: "Dead",
};

export const collectionCluster: Operation = async (ask) => {
  const { name } = await describe(ask);
  const { nodes, shards } = await cluster(ask);
  const own = nodes[0]?.id ?? "";
  const replicas = shards
    .filter(({ collection }) => collection === name)
    .flatMap(({ shard, replicas: all }) => all.map((replica) => ({ shard, ...replica })));
  const { operations } = await tell(ask, service.listOperations, {});
  const running = operations.filter(({ collection, state }) => collection === name && state === "running");
  const moves = running.filter(({ move }) => move !== undefined);
  const shown = ({ shard, state }: (typeof replicas)[number]) => ({ shard_id: shard, state: states[state] ?? "Dead" });
  return {
    peer_id: peerOf(own),
    shard_count: new Set(replicas.map(({ shard }) => shard)).size,
    local_shards: replicas
      .filter(({ node }) => node === own)
      .map((replica): Reply => ({ ...shown(replica), points_count: replica.pointCount })),
    remote_shards: replicas
      .filter(({ node }) => node !== own)
      .map((replica): Reply => ({ ...shown(replica), peer_id: peerOf(replica.node) })),
    shard_transfers: moves.map(({ shard, move }) => ({
      shard_id: shard ?? 0,
      from: peerOf(move?.from ?? ""),
      to: peerOf(move?.to ?? ""),
      sync: false,
      method: "snapshot",
    })),
    resharding_operations: running.flatMap(({ resharding }): Reply[] => {
      if (resharding === undefined) return [];
      const { from, to } = resharding;
      // Splits have one shard that they are of, merges several.
      const direction = from.length > 1 ? "down" : "up";
      return [{ shard_id: to[0] ?? from[0] ?? 0, peer_id: peerOf(own), direction }];
    }),
  };
};

/** Moves of shards are Kith's operations: the answer is that one has begun. */
export const changeCluster: Operation = async (ask) => {
  const { body } = ask;
  const { name } = await describe(ask);
  const move = optional(body, "move_shard", "", objectOf);
  if (move !== undefined) return moveShard(ask, name, move);
  const resharding = optional(body, "start_resharding", "", objectOf);
  if (resharding !== undefined) return reshard(ask, name, resharding);
  const abort = optional(body, "abort_transfer", "", objectOf);
  if (abort !== undefined) return abortTransfer(ask, name, abort);
  const added = optional(body, "replicate_shard", "", objectOf);
  if (added !== undefined) return addReplica(ask, name, added);
  const removed = optional(body, "drop_replica", "", objectOf);
  if (removed !== undefined) return removeReplica(ask, name, removed);
  if (member(body, "abort_resharding") !== undefined) return abortResharding(ask, name);
  const created = optional(body, "create_sharding_key", "", objectOf);
  if (created !== undefined) return makeShardKey(ask, created, "create_sharding_key");
  const dropped = optional(body, "drop_sharding_key", "", objectOf);
  if (dropped !== undefined) return dropShardKey(ask, dropped, "drop_sharding_key");
  const replicated = optional(body, "replicate_points", "", objectOf);
  if (replicated !== undefined) return replicatePoints(ask, replicated, "replicate_points");
  const known = refused.find((key) => member(body, key) !== undefined);
  if (known === undefined) throw wrong("", `expected one of ${offered.join(", ")}, ${refused.join(", ")}`);
  throw new KithError(
    "UNIMPLEMENTED",
    `${known}: the cluster itself goes on with copies that have stopped; abort it, or move the shard once more`,
  );
};

const offered = [
  "move_shard",
  "abort_transfer",
  "replicate_shard",
  "drop_replica",
  "start_resharding",
  "abort_resharding",
  "create_sharding_key",
  "drop_sharding_key",
  "replicate_points",
];
const refused = ["restart_transfer"];

async function moveShard(ask: Ask, collection: string, move: JsonObject): Promise<Reply> {
  const at = "move_shard";
  const shard = required(move, "shard_id", at, countOf);
  const from = await nodeOf(ask, required(move, "from_peer_id", at, countOf));
  const to = await nodeOf(ask, required(move, "to_peer_id", at, countOf));
  await tell(ask, service.moveReplica, { collection, shard, from, to });
  return true;
}

/** One more replica of a shard, where it has fewer than its collection asks for. */
async function addReplica(ask: Ask, collection: string, replica: JsonObject): Promise<Reply> {
  const at = "replicate_shard";
  const shard = required(replica, "shard_id", at, countOf);
  if (member(replica, "to_shard_id") !== undefined) {
    throw new KithError(
      "UNIMPLEMENTED",
      `${at}.to_shard_id: a shard is copied to another node, and not into another shard`,
    );
  }
  const to = await nodeOf(ask, required(replica, "to_peer_id", at, countOf));
  await tell(ask, service.moveReplica, { collection, shard, from: "", to });
  return true;
}

/** One replica less of a shard, where it has more than its collection asks for. */
async function removeReplica(ask: Ask, collection: string, replica: JsonObject): Promise<Reply> {
  const at = "drop_replica";
  const shard = required(replica, "shard_id", at, countOf);
  const from = await nodeOf(ask, required(replica, "peer_id", at, countOf));
  await tell(ask, service.moveReplica, { collection, shard, from, to: "" });
  return true;
}

/** Upwards the largest shard is split; downwards those two neighbours are merged that have the fewest points. */
async function reshard(ask: Ask, collection: string, resharding: JsonObject): Promise<Reply> {
  const direction = optional(resharding, "direction", "start_resharding", wordOf(["up", "down"])) ?? "up";
  const { shards: all } = await cluster(ask);
  const first = ({ slots }: pb.Shard): number => slots?.first ?? 0;
  const shards = all
    .filter((each) => each.collection === collection && each.state === "active")
    .sort((a, b) => first(a) - first(b));
  const points = ({ replicas }: pb.Shard): number => Math.max(0, ...replicas.map(({ pointCount }) => pointCount));
  if (direction === "down") {
    const pairs = shards.slice(1).map((shard, i) => [shards[i] as pb.Shard, shard] as const);
    const [least] = pairs.sort(([a, b], [c, d]) => points(a) + points(b) - points(c) - points(d));
    if (least === undefined)
      throw new KithError("FAILED_PRECONDITION", `"${collection}" has one shard: there is none to merge`);
    await tell(ask, service.mergeShards, { collection, shards: least.map(({ shard }) => shard) });
    return true;
  }
  const [largest] = shards.sort((a, b) => points(b) - points(a));
  if (largest === undefined)
    throw new KithError("SHARD_UNAVAILABLE", `the shards of "${collection}" are not known yet`);
  await tell(ask, service.splitShard, { collection, shard: largest.shard, into: 2 });
  return true;
}

async function abortResharding(ask: Ask, collection: string): Promise<Reply> {
  const { operations } = await tell(ask, service.listOperations, {});
  const found = operations.find(
    (each) => each.collection === collection && each.resharding !== undefined && each.state === "running",
  );
  if (found === undefined) throw new KithError("NOT_FOUND", `no shard of "${collection}" is being split or merged`);
  await tell(ask, service.cancelOperation, { id: found.id });
  return true;
}

async function abortTransfer(ask: Ask, collection: string, abort: JsonObject): Promise<Reply> {
  const shard = required(abort, "shard_id", "abort_transfer", countOf);
  const { operations } = await tell(ask, service.listOperations, {});
  const found = operations.find(
    (each) =>
      each.collection === collection && each.shard === shard && each.move !== undefined && each.state === "running",
  );
  if (found === undefined) throw new KithError("NOT_FOUND", `shard ${shard} of "${collection}" is not being moved`);
  await tell(ask, service.cancelOperation, { id: found.id });
  return true;
}

async function nodeOf(ask: Ask, peer: number): Promise<string> {
  const { nodes } = await cluster(ask);
  const node = nodes.find(({ id }) => peerOf(id) === peer);
  if (node !== undefined) return node.id;
  const known = nodes.map(({ id }) => `${peerOf(id)} (${id})`).join(", ");
  throw new KithError("NOT_FOUND", `there is no peer ${peer}; there are ${known}`);
}

export const telemetry: Operation = async (ask) => {
  const { collections } = await tell(ask, pb.CollectionsService.list, {});
  const { nodes } = await cluster(ask);
  return {
    id: String(peerOf(nodes[0]?.id ?? "")),
    app: { name: "kith", version: ask.self.version, startup: new Date(ask.call.clock.nowMs()).toISOString() },
    collections: { number_of_collections: collections.length },
    cluster: { enabled: true, status: { number_of_peers: nodes.length } },
  };
};

/** Nothing is built by turns: the graph grows as points are written. */
export const optimizations: Operation = async (ask) => {
  await describe(ask);
  const summary = { queued_optimizations: 0, queued_segments: 0, queued_points: 0, idle_segments: 0 };
  return { summary, running: [], queued: [], completed: [], idle_segments: [] };
};

/** There is no consensus to recover: nodes read the catalog again by themselves. */
export const recoverPeer: Operation = () => Promise.resolve(true);

export const quotas: Operation = () => Promise.resolve({ config: { enabled: false }, usage: {}, peers: {} });

export const noIssues: Operation = () => Promise.resolve({ issues: [] });
export const clearIssues: Operation = () => Promise.resolve(true);
