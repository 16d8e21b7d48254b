import type { NewOperation, Operation, OperationKind } from "../../../libs/cluster/index.js";
import type { Collection } from "../../../libs/model/index.js";
import { backupCollection } from "./backup-collection.js";
import { createCollection, newCreation } from "./create-collection.js";
import { deleteCollection, newDeletion } from "./delete-collection.js";
import { moveReplica } from "./move-replica.js";
import { mergeShards } from "./merge-shards.js";
import { changeSchema, newSchemaChange } from "./change-schema.js";
import type { Machine, OperationContext } from "./machine.js";
import { newPromotion, newTextPromotion, promoteGeneration } from "./promote-generation.js";
import { newRestore, restoreCollection } from "./restore-collection.js";
import { splitShard } from "./split-shard.js";

export type { BackupContext, OperationContext, Outcome } from "./machine.js";

const machines: { readonly [K in OperationKind]: Machine<K> } = {
  backup_collection: backupCollection,
  create_collection: createCollection,
  delete_collection: deleteCollection,
  change_schema: changeSchema,
  move_replica: moveReplica,
  promote_generation: promoteGeneration,
  restore_collection: restoreCollection,
  split_shard: splitShard,
  merge_shards: mergeShards,
};

export function machineOf<K extends OperationKind>({ kind }: Operation<K>): Machine<K> {
  return machines[kind];
}

/** The operation that a collection's record asks for; undefined where there is nothing to do. */
export function operationFor(record: Collection): NewOperation | undefined {
  if (record.state === "creating") return newCreation(record);
  if (record.state === "deleting") return newDeletion(record);
  if (record.restoring !== undefined) return newRestore(record, record.restoring);
  if (record.change !== undefined) return newSchemaChange(record, record.change);
  for (const field of record.fields) {
    const promotion = newPromotion(record, field);
    if (promotion !== undefined) return promotion;
  }
  for (const index of record.payloadIndexes) {
    const promotion = newTextPromotion(record, index);
    if (promotion !== undefined) return promotion;
  }
  return undefined;
}

/** Whether the collection's record in the catalog still asks for the operation, whatever the view has heard. */
export async function isWanted(draft: NewOperation, { collections }: OperationContext): Promise<boolean> {
  const record = await collections.read(draft.subject.collection);
  return record !== undefined && operationFor(record.value)?.id === draft.id;
}

/** Whether the operation makes room that others may wait for. */
export function makesRoom({ kind, state }: Pick<Operation, "kind"> & Partial<Pick<Operation, "state">>): boolean {
  return kind === "delete_collection" || state === "cancelling";
}
