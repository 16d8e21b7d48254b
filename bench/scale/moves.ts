import { cpus } from "node:os";
import {
  newShards,
  placeReplicas,
  planRebalance,
  type BalanceMove,
  type BalanceShard,
} from "../../libs/sharding/index.js";
import { writeResult } from "../lib/result.js";
import { formatNumber, formatTable } from "../lib/table.js";

interface Flags {
  nodes: number;
  points: number;
  shards: number;
  replicas: number;
  diskBytes: number;
  memoryBytes: number;
  logBytes: number;
}

const zones = 3;
/** As the settings of a cluster are by default. */
const balance = { threshold: 0.2, minBytes: 64 * 1024 * 1024 };
const columns = [{ title: "what", align: "left" as const }, { title: "figure" }];

/** What the coordinator's own functions do with a collection of many nodes: no server runs. */
export function planMoves(flags: Flags): void {
  const nodes = Array.from({ length: flags.nodes }, (_, i) => ({ id: `node-${i}`, zone: `zone-${i % zones}` }));
  const startedMs = performance.now();
  const placed = placeReplicas(
    newShards(flags.shards),
    flags.replicas,
    nodes.map((node) => ({ ...node, replicaCount: 0 })),
    { state: "active", sinceMs: 0 },
  );
  const placeMs = performance.now() - startedMs;
  const pointsOfShard = flags.points / flags.shards;
  const sizeBytes = Math.round(pointsOfShard * flags.diskBytes);
  const shards = placed.map(
    ({ shard, replicas }): BalanceShard => ({
      ...{ collectionId: "c", collection: "c", shard, sizeBytes, readsPerSecond: 0 },
      nodes: replicas.map(({ node }) => node),
    }),
  );
  const replicasOf = countsOf(shards);
  const most = Math.max(...replicasOf.values());
  const planMs = performance.now();
  const moves = planRebalance([...nodes, { id: "node-new", zone: "zone-0" }], shards, balance);
  const plannedMs = performance.now() - planMs;
  const bytes = sum(moves);
  const total = sizeBytes * flags.shards * flags.replicas;
  const rows: [string, string][] = [
    ["points of a shard", formatNumber(pointsOfShard)],
    [
      "replicas of a node, at least and at most",
      `${flags.nodes > replicasOf.size ? 0 : Math.min(...replicasOf.values())} and ${most}`,
    ],
    ["memory of the fullest node, GiB", gib(most * pointsOfShard * flags.memoryBytes)],
    ["disk of the fullest node, GiB", gib(most * sizeBytes)],
    ["disk of the cluster, TiB", (total / 1024 ** 4).toFixed(2)],
    ["logs", String(flags.shards)],
    [
      "log of 100,000 points written a second, MB/s before NATS copies it",
      ((100_000 * flags.logBytes) / 1e6).toFixed(1),
    ],
    ["moves when one node is added", String(moves.length)],
    ["bytes that they move, GiB (share of all)", `${gib(bytes)} (${((100 * bytes) / total).toFixed(2)} %)`],
    ["a node's equal share, %", (100 / (flags.nodes + 1)).toFixed(2)],
    ["placing all replicas, ms", placeMs.toFixed(0)],
    ["planning the moves, ms", plannedMs.toFixed(0)],
  ];
  console.log(formatTable([...columns], rows));
  console.log(`\n${writeResult("scale-moves", { flags, cores: cpus().length, rows })}`);
}

function countsOf(shards: readonly BalanceShard[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { nodes } of shards) for (const node of nodes) counts.set(node, (counts.get(node) ?? 0) + 1);
  return counts;
}

function sum(moves: readonly BalanceMove[]): number {
  return moves.reduce((bytes, { sizeBytes }) => bytes + sizeBytes, 0);
}

function gib(bytes: number): string {
  return (bytes / 1024 ** 3).toFixed(1);
}
