import { type Clock, toKithError } from "../../libs/base/index.js";
import {
  type CollectionsView,
  type ClusterSettings,
  isLive,
  isMove,
  type NewOperation,
  type NodesView,
  type OperationRecord,
  type Operations,
  type ReplicaMove,
} from "../../libs/cluster/index.js";
import type { Collection, ReplicaPlacement, ShardPlacement } from "../../libs/model/index.js";
import { nodeForReplica, type PlacementNode, replicaToRemove } from "../../libs/sharding/index.js";
import type { Logger } from "../../libs/telemetry/index.js";
import type { AwayNodes } from "./away.js";
import type { Placements } from "./placements.js";

export interface UpkeepOptions {
  collections: CollectionsView;
  operations: Operations;
  nodes: NodesView;
  placements: Placements;
  away: AwayNodes;
  settings: () => ClusterSettings;
  isHolder: () => boolean;
  clock: Clock;
  logger: Logger;
}

/** Moves that wait for their turn or are under way, before no more are planned. */
const plannedMax = 32;
/** After a move was cancelled, or could not be made, its shard is left alone for so long. */
const holdOffMs = 60_000;
/** A replica whose operation is not there is cleared away when that was so for this long: the view may be late. */
const lostAfterMs = 10_000;

/**
 * Plans the moves that bring each shard to what it should be: as many replicas as its collection asks for, on nodes that are there and are
 * to keep them.
 */
export class Upkeep {
  readonly #options: UpkeepOptions;
  /** Placements whose operation is not there, by shard and node, with the monotonic milliseconds since when. */
  readonly #lostSinceMs = new Map<string, number>();
  #clearing: Promise<void> | undefined;

  constructor(options: UpkeepOptions) {
    this.#options = options;
  }

  /** Moves that are to be begun. */
  plan(): NewOperation<"move_replica">[] {
    const { collections, placements } = this.#options;
    const moves = this.#moves();
    const live = moves.filter(isLive);
    const nodes = new Map(placements.candidates().map((node) => [node.id, node]));
    for (const { data } of live.filter(({ step }) => step === "join")) addReplica(nodes, data.to);
    const drafts: NewOperation<"move_replica">[] = [];
    for (const name of collections.names()) {
      const { value: record, revision } = collections.get(name) ?? { value: undefined, revision: 0 };
      if (record?.state !== "ready") continue;
      for (const shard of record.shards) {
        if (live.length + drafts.length >= plannedMax) return drafts;
        if (shard.state !== "active" || this.#isBusy(record, shard, moves)) continue;
        const data = this.#moveOf(record, shard, [...nodes.values()]);
        if (data === undefined) continue;
        addReplica(nodes, data.to);
        drafts.push({
          id: `move-${record.id}-${shard.shard}-${revision}`,
          kind: "move_replica",
          subject: { collectionId: record.id, collection: name, shard: shard.shard },
          step: "join",
          data,
        });
      }
    }
    return drafts;
  }

  /** Clears away what operations have left behind that are no more: the catalog was put back to an earlier state. */
  clearLost(): void {
    this.#clearing ??= this.#clearLost()
      .catch((error: unknown) => {
        const { code, message } = toKithError(error);
        this.#options.logger.warn(`placements without an operation could not be cleared away: ${message}`, { code });
      })
      .finally(() => (this.#clearing = undefined));
  }

  async close(): Promise<void> {
    await this.#clearing;
  }

  #moves(): (OperationRecord & { data: ReplicaMove })[] {
    return this.#options.operations.list().filter(isMove);
  }

  /** Whether the shard is being changed, or was so in vain a short time ago. */
  #isBusy(
    { id }: Collection,
    { shard, operation, replicas }: ShardPlacement,
    moves: readonly OperationRecord[],
  ): boolean {
    if (operation !== undefined || replicas.some(({ operation }) => operation !== undefined)) return true;
    const nowMs = this.#options.clock.nowMs();
    return moves.some((move) => {
      if (move.subject.collectionId !== id || move.subject.shard !== shard) return false;
      const isRecent = Math.abs(nowMs - move.updatedAtMs) < holdOffMs;
      return isLive(move) || (isRecent && move.state !== "done");
    });
  }

  #moveOf(
    { replicationFactor }: Collection,
    shard: ShardPlacement,
    nodes: readonly PlacementNode[],
  ): ReplicaMove | undefined {
    const { nodes: view, away } = this.#options;
    const zoneOf = (node: string): string | undefined => view.get(node)?.zone;
    const staying = shard.replicas.filter(({ state }) => state !== "leaving");
    // One that was never placed is not for a move to place.
    if (staying.length === 0) return undefined;
    if (staying.length < replicationFactor) {
      const to = nodeForReplica(shard, nodes, zoneOf);
      return to === undefined ? undefined : { to, reason: "replicas" };
    }
    if (staying.length > replicationFactor) {
      const from = replicaToRemove(
        shard,
        nodes,
        zoneOf,
        (node) => away.ms(node) > 0 || view.drainOf(node) !== undefined,
      );
      return from === undefined ? undefined : { from, reason: "replicas" };
    }
    const { repairAfterMs } = this.#options.settings();
    const replace = (isUnwanted: (node: string) => boolean, reason: "repair" | "drain"): ReplicaMove | undefined => {
      const from = staying.find(({ node }) => isUnwanted(node))?.node;
      const to = from === undefined ? undefined : nodeForReplica(shard, nodes, zoneOf, from);
      return from === undefined || to === undefined ? undefined : { from, to, reason };
    };
    return (
      replace((node) => repairAfterMs > 0 && away.ms(node) >= repairAfterMs, "repair") ??
      replace((node) => view.stateOf(node) === "draining" && view.drainOf(node) !== undefined, "drain")
    );
  }

  async #clearLost(): Promise<void> {
    const { collections, operations, clock, isHolder } = this.#options;
    const nowMs = clock.monotonicMs();
    const seen = new Set<string>();
    for (const key of collections.names()) {
      const record = collections.get(key)?.value;
      for (const { shard, replicas, operation: own } of record?.shards ?? []) {
        for (const { node, operation } of [...replicas, { node: "", operation: own }]) {
          if (operation === undefined) continue;
          const known = operations.get(operation)?.value;
          if (known !== undefined && isLive(known)) continue;
          const lost = `${key}/${shard}/${node}/${operation}`;
          seen.add(lost);
          const sinceMs = this.#lostSinceMs.get(lost) ?? nowMs;
          this.#lostSinceMs.set(lost, sinceMs);
          if (nowMs - sinceMs < lostAfterMs) continue;
          await collections.modify(key, (found) =>
            isHolder() && found.id === record?.id ? withoutLost(found, shard, operation) : undefined,
          );
        }
      }
    }
    for (const lost of this.#lostSinceMs.keys()) if (!seen.has(lost)) this.#lostSinceMs.delete(lost);
  }
}

/** Those that were joining go; those that were leaving stay where no other one is active. */
function withoutLost(record: Collection, shard: number, operation: string): Collection {
  const shards = record.shards.flatMap((each): ShardPlacement[] => {
    if (each.shard !== shard) return [each];
    // Of a shard that is no more needed, or not yet, the operation alone knew.
    return each.operation === operation && each.state !== "active" ? [] : [atRest(each, operation)];
  });
  return { ...record, shards };
}

/** Replicas that were joining go; those that were leaving stay where no other one is active. */
function atRest(shard: ShardPlacement, lost: string): ShardPlacement {
  const { operation, ...rest } = shard;
  const each = operation === lost ? rest : shard;
  const isOver = each.replicas.every((replica) => replica.operation !== lost);
  if (isOver) return each;
  return withReplicas(each, lost);
}

function withReplicas(each: ShardPlacement, operation: string): ShardPlacement {
  const others = each.replicas.filter((replica) => replica.operation !== operation);
  if (others.some(({ state }) => state === "active")) return { ...each, replicas: others };
  const replicas = each.replicas.flatMap(({ node, state, sinceMs }): ReplicaPlacement[] =>
    state === "joining" ? [] : [{ node, state: "active", sinceMs }],
  );
  return replicas.length === 0 ? each : { ...each, replicas };
}

/** What is planned counts already. */
function addReplica(nodes: Map<string, PlacementNode>, id: string | undefined): void {
  const node = id === undefined ? undefined : nodes.get(id);
  if (node !== undefined) nodes.set(node.id, { ...node, replicaCount: node.replicaCount + 1 });
}
