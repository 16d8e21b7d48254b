import { KithError, type Random } from "../../../libs/base/index.js";
import {
  isLive,
  isMove,
  type NodesView,
  type OperationRecord,
  type Operations,
  type ReplicaMove,
} from "../../../libs/cluster/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import type { Log } from "../../../libs/log/index.js";
import type { Collection, ShardPlacement } from "../../../libs/model/index.js";
import type { pb } from "../../../libs/wire/index.js";
import type { RoutingTable } from "../routing/routing-table.js";

export interface MovesOptions {
  operations: Operations;
  nodes: NodesView;
  routingTable: RoutingTable;
  log: Log;
  random: Random;
}

/** Moves of replicas: asked for here, done by the coordinator. */
export class Moves {
  readonly #options: MovesOptions;

  constructor(options: MovesOptions) {
    this.#options = options;
  }

  /** The operation, which has just begun. FAILED_PRECONDITION where the move cannot be. */
  async begin(
    { collection: name, shard: id, from, to }: pb.MoveReplicaRequest,
    call: CallContext,
  ): Promise<OperationRecord> {
    const { operations, routingTable, random } = this.#options;
    const { record } = routingTable.resolve(name, call);
    const shard = record.shards.find((each) => each.shard === id);
    if (shard === undefined) {
      throw new KithError("INVALID_ARGUMENT", `the collection "${name}" has no shard ${id}`, {
        details: { collection: name, shard: id },
      });
    }
    this.#check(record, shard, from, to);
    const data: ReplicaMove = { ...(from !== "" && { from }), ...(to !== "" && { to }), reason: "requested" };
    const { value } = await operations.create({
      id: `move-${record.id}-${id}-${random.bytes(6).toString("hex")}`,
      kind: "move_replica",
      subject: { collectionId: record.id, collection: name, shard: id },
      step: "join",
      data,
    });
    return value;
  }

  #check(
    { id: collectionId, name, replicationFactor }: Collection,
    shard: ShardPlacement,
    from: string,
    to: string,
  ): void {
    const refuse = (message: string): never => {
      throw new KithError("FAILED_PRECONDITION", message, { details: { collection: name, shard: shard.shard } });
    };
    const { nodes, operations } = this.#options;
    const what = `shard ${shard.shard} of "${name}"`;
    if (from === "" && to === "") {
      throw new KithError(
        "INVALID_ARGUMENT",
        "the request names neither the node that gives the replica nor the one that takes it",
      );
    }
    for (const id of operations.live()) {
      const other = operations.get(id)?.value;
      const isSame = other?.subject.collectionId === collectionId && other.subject.shard === shard.shard;
      if (isSame) refuse(`${what} is being changed already, by the operation ${id}`);
    }
    const has = (node: string): boolean => shard.replicas.some((replica) => replica.node === node);
    if (from !== "" && !has(from)) {
      const placed = shard.replicas.map(({ node }) => node).join(", ");
      refuse(`${what} has no replica on node "${from}"; it has them on ${placed}`);
    }
    const count = shard.replicas.filter(({ state }) => state !== "leaving").length;
    if (to === "") {
      if (count <= replicationFactor) {
        refuse(
          `${what} has ${count} of ${replicationFactor} replicas, and none too many; lower its number of replicas instead`,
        );
      }
      return;
    }
    if (has(to)) refuse(`${what} has a replica on node "${to}" already`);
    const state = nodes.get(to)?.roles.includes("shard") === true ? nodes.stateOf(to) : "no shard node";
    if (state !== "up") refuse(`node "${to}" cannot take a replica: it is ${state}`);
    if (from === "" && count >= replicationFactor) {
      refuse(
        `${what} has its ${replicationFactor} replicas; raise its number of replicas instead, or name the one that is to move`,
      );
    }
  }

  /** What is known of a move; undefined of another operation. */
  async describe(operation: OperationRecord): Promise<pb.Move | undefined> {
    if (!isMove(operation)) return undefined;
    const { from = "", to = "", reason } = operation.data;
    return { from, to, reason, ...(await this.#progressOf(operation, to)) };
  }

  async #progressOf(
    { subject, step, ...rest }: OperationRecord,
    to: string,
  ): Promise<Pick<pb.Move, "copiedBytes" | "totalBytes" | "lag">> {
    const unknown = { copiedBytes: 0, totalBytes: 0 };
    if (step !== "copy" || !isLive({ subject, step, ...rest })) return unknown;
    const { routingTable, log } = this.#options;
    const collection = routingTable.all().find(({ record }) => record.id === subject.collectionId);
    const shard = collection?.find(subject.shard ?? 0);
    const status = shard?.replicas.find(({ node }) => node.id === to)?.status;
    if (shard === undefined || status === undefined) return unknown;
    const { copy, appliedSequence } = status;
    const bytes = { copiedBytes: copy?.copiedBytes ?? 0, totalBytes: copy?.totalBytes ?? 0 };
    // Before it has its copy it has applied nothing, and how far it is behind says nothing.
    if (status.state === "initializing" || !log.available) return bytes;
    const lastSequence = await log.state(shard.id).then(
      (state) => state.lastSequence,
      () => undefined,
    );
    return { ...bytes, ...(lastSequence !== undefined && { lag: Math.max(0, lastSequence - appliedSequence) }) };
  }
}
