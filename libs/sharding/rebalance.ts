import { limits } from "../base/index.js";
import type { Collection, ReplicaStatus } from "../model/index.js";

/** A node that may take replicas. */
export interface BalanceNode {
  id: string;
  zone: string;
}

/** A shard whose replicas may be moved. */
export interface BalanceShard {
  collectionId: string;
  /** Its collection's name. */
  collection: string;
  shard: number;
  /** Ids of the nodes of its replicas. */
  nodes: readonly string[];
  /** What one replica takes. */
  sizeBytes: number;
  /** Reads a second of one replica. */
  readsPerSecond: number;
}

export interface BalanceMove {
  collectionId: string;
  collection: string;
  shard: number;
  from: string;
  to: string;
  sizeBytes: number;
}

export interface BalanceOptions {
  /** Nothing is moved while no node has more than this share more than the mean, or less. */
  threshold: number;
  /** Nothing is moved while the most and the least loaded node differ by less, in bytes. */
  minBytes: number;
}

/** So much a replica weighs besides its bytes: many small ones are work too. */
const replicaBytes = 1024 * 1024;
/** Fewer reads a second of a node say nothing about load. */
const readsMin = 20;
/** The share of measured load in what a replica weighs, where there is load; the rest is bytes. */
const loadShare = 0.5;

interface Loaded extends BalanceNode {
  weight: number;
  /** Positions of the shards that it has replicas of. */
  shards: Set<number>;
}

/**
 * Moves that make the nodes equally loaded, by bytes and by measured load, as few as lead there: each goes from a node above the mean to one
 * below it, and brings both nearer to it, or at least nearer to one another, where the one below is almost empty. No node gets two replicas of a shard, and no shard loses a zone. Pure and deterministic. What is
 * on nodes that are not named stays where it is.
 */
export function planRebalance(
  nodes: readonly BalanceNode[],
  shards: readonly BalanceShard[],
  { threshold, minBytes }: BalanceOptions,
): BalanceMove[] {
  const weights = weightsOf(nodes.length, shards);
  const placed = shards.map((shard) => new Set(shard.nodes));
  const zoneOf = new Map(nodes.map(({ id, zone }) => [id, zone]));
  const loaded = nodes.map((node): Loaded => {
    const own = new Set(shards.flatMap((_, i) => (placed[i]?.has(node.id) === true ? [i] : [])));
    return { ...node, shards: own, weight: [...own].reduce((sum, i) => sum + (weights[i] ?? 0), 0) };
  });
  const mean = loaded.reduce((sum, { weight }) => sum + weight, 0) / Math.max(1, loaded.length);
  const all = loaded.map(({ weight }) => weight);
  const [most, least] = [Math.max(...all), Math.min(...all)];
  const isEven = most <= mean * (1 + threshold) && least >= mean * (1 - threshold);
  if (loaded.length < 2 || isEven || most - least < minBytes) return [];
  const tolerance = (mean * threshold) / 2;
  const moved = new Set<number>();
  for (let planned = 0; planned < limits.plannedMoves; planned++) {
    const mayMove = (i: number, from: Loaded, to: Loaded): boolean => {
      const others = [...(placed[i] ?? [])].filter((node) => node !== from.id);
      const zones = new Set(others.map((node) => zoneOf.get(node)));
      // A zone that the shard has only there must not be left for one that it has already.
      return !placed[i]?.has(to.id) && (zones.has(from.zone) || !zones.has(to.zone));
    };
    const best =
      nextMove(loaded, mean, tolerance, weights, mayMove) ?? moveToEmpty(loaded, mean, threshold, weights, mayMove);
    if (best === undefined) break;
    const { from, to, shard: i } = best;
    const weight = weights[i] ?? 0;
    from.shards.delete(i);
    to.shards.add(i);
    from.weight -= weight;
    to.weight += weight;
    placed[i]?.delete(from.id);
    placed[i]?.add(to.id);
    moved.add(i);
  }
  return [...moved].flatMap((i) => movesBetween(shards[i] as BalanceShard, placed[i] ?? new Set(), zoneOf));
}

/** What one replica of each shard weighs, in bytes: where there is load, half of it is the shard's share of the load. */
function weightsOf(nodeCount: number, shards: readonly BalanceShard[]): number[] {
  let bytes = 0;
  let reads = 0;
  for (const shard of shards) {
    bytes += (shard.sizeBytes + replicaBytes) * shard.nodes.length;
    reads += shard.readsPerSecond * shard.nodes.length;
  }
  const share = reads >= readsMin * nodeCount ? loadShare : 0;
  return shards.map(({ sizeBytes, readsPerSecond }) => {
    const byLoad = share === 0 ? 0 : (share * readsPerSecond * bytes) / reads;
    return (1 - share) * (sizeBytes + replicaBytes) + byLoad;
  });
}

interface Choice {
  from: Loaded;
  to: Loaded;
  shard: number;
}

/** From the fullest node that can give to the emptiest that can take: the largest replica that overshoots neither, else the smallest that helps. */
function nextMove(
  nodes: readonly Loaded[],
  mean: number,
  tolerance: number,
  weights: readonly number[],
  mayMove: (shard: number, from: Loaded, to: Loaded) => boolean,
): Choice | undefined {
  const fullest = [...nodes].sort(heavierFirst);
  const emptiest = [...fullest].reverse();
  for (const from of fullest) {
    if (from.weight <= mean) break;
    for (const to of emptiest) {
      if (to.weight >= mean) break;
      const excess = from.weight - mean;
      const deficit = mean - to.weight;
      if (Math.max(excess, deficit) <= tolerance) continue;
      const wanted = Math.min(excess, deficit);
      let best: { shard: number; distance: number } | undefined;
      for (const shard of from.shards) {
        const weight = weights[shard] ?? 0;
        // Twice what is wanted would leave both as far from the mean as before.
        if (weight >= 2 * wanted || !mayMove(shard, from, to)) continue;
        const distance = weight <= wanted ? wanted - weight : weight;
        if (best === undefined || distance < best.distance) best = { shard, distance };
      }
      if (best !== undefined) return { from, to, shard: best.shard };
    }
  }
  return undefined;
}

/**
 * For a node that has far less than the mean where no other has far more: of 200 nodes with two or three equal replicas each, none would give one to a
 * node that is new. The smallest replica of a node above the mean that makes the two differ by less.
 */
function moveToEmpty(
  nodes: readonly Loaded[],
  mean: number,
  threshold: number,
  weights: readonly number[],
  mayMove: (shard: number, from: Loaded, to: Loaded) => boolean,
): Choice | undefined {
  const fullest = nodes.filter(({ weight }) => weight > mean).sort(heavierFirst);
  const empty = nodes
    .filter(({ weight }) => weight < mean * (1 - threshold))
    .sort(heavierFirst)
    .reverse();
  for (const to of empty) {
    for (const from of fullest) {
      const shards = [...from.shards].sort((a, b) => (weights[a] ?? 0) - (weights[b] ?? 0) || a - b);
      const shard = shards.find((each) => (weights[each] ?? 0) < from.weight - to.weight && mayMove(each, from, to));
      if (shard !== undefined) return { from, to, shard };
    }
  }
  return undefined;
}

function heavierFirst(a: Loaded, b: Loaded): number {
  return b.weight - a.weight || (a.id < b.id ? -1 : 1);
}

/**
 * The moves that lead from where the replicas of a shard are to where they shall be: none goes to a node that has one already, whatever way they were
 * planned. Within a zone first, so that none is left in between either.
 */
function movesBetween(
  shard: BalanceShard,
  placed: ReadonlySet<string>,
  zoneOf: ReadonlyMap<string, string>,
): BalanceMove[] {
  const { collectionId, collection, sizeBytes } = shard;
  const targets = [...placed].filter((node) => !shard.nodes.includes(node));
  const sources = shard.nodes.filter((node) => !placed.has(node));
  const pairs: [from: string, to: string][] = [];
  const pair = (isFit: (from: string, to: string) => boolean): void => {
    for (const from of [...sources]) {
      const to = targets.find((node) => isFit(from, node));
      if (to === undefined) continue;
      pairs.push([from, to]);
      sources.splice(sources.indexOf(from), 1);
      targets.splice(targets.indexOf(to), 1);
    }
  };
  pair((from, to) => zoneOf.get(from) === zoneOf.get(to));
  pair(() => true);
  return pairs.map(([from, to]) => ({ collectionId, collection, shard: shard.shard, from, to, sizeBytes }));
}

/**
 * The shards of collections that are ready, with what their replicas say of themselves; without those that are being changed, or of which
 * nothing is known.
 */
export function balanceShards(
  collections: Iterable<Collection>,
  statusOf: (collectionId: string, shard: number, node: string) => ReplicaStatus | undefined,
): BalanceShard[] {
  const shards: BalanceShard[] = [];
  for (const { id, name, state, shards: placements } of collections) {
    if (state !== "ready") continue;
    for (const { shard, state: shardState, operation, replicas } of placements) {
      const isAtRest =
        operation === undefined &&
        replicas.every((replica) => replica.state === "active" && replica.operation === undefined);
      const statuses = replicas.flatMap(({ node }) => statusOf(id, shard, node) ?? []);
      if (shardState !== "active" || !isAtRest || statuses.length === 0) continue;
      shards.push({
        collectionId: id,
        collection: name,
        shard,
        nodes: replicas.map(({ node }) => node),
        sizeBytes: Math.max(...statuses.map(({ diskBytes, memoryBytes }) => Math.max(diskBytes, memoryBytes))),
        readsPerSecond:
          statuses.reduce((sum, { readsPerSecond = 0 }) => sum + readsPerSecond, 0) / Math.max(1, statuses.length),
      });
    }
  }
  return shards;
}
