import { deletionIdOf, type NewOperation, type Operation, withoutCollection } from "../../../libs/cluster/index.js";
import type { Collection } from "../../../libs/model/index.js";
import type { Machine, OperationContext } from "./machine.js";

/** The deletion of a collection that is marked as being deleted: its replicas go by that alone, its logs and its record here. */
export const deleteCollection: Machine<"delete_collection"> = {
  async step(operation, context) {
    switch (operation.step) {
      case "remove_logs":
        await removeLogs(operation, context);
        return { kind: "next", step: "remove_record" };
      case "remove_record":
        await removeRecord(operation, context);
        return { kind: "end", state: "done" };
    }
  },
};

export function newDeletion({ id, name, shards }: Collection): NewOperation<"delete_collection"> {
  return {
    id: deletionIdOf(id),
    kind: "delete_collection",
    subject: { collectionId: id, collection: name },
    step: "remove_logs",
    data: { shards: shards.map(({ shard }) => shard) },
  };
}

type Removal = Pick<Operation<"create_collection" | "delete_collection">, "subject" | "data">;

/** Of a collection that is being deleted, or gone: its id never comes back, so nobody else can need them. */
export async function removeLogs({ subject, data }: Removal, { log }: OperationContext): Promise<void> {
  await Promise.all(data.shards.map((shard) => log.remove({ collectionId: subject.collectionId, shard })));
}

/** Spares what has the name by now: the name may have been given to another collection. Its names go first, while its record still asks for it. */
export async function removeRecord({ subject }: Removal, { collections, isHolder }: OperationContext): Promise<void> {
  if (isHolder()) await collections.changeDirectory((directory) => withoutCollection(directory, subject.collectionId));
  const isOver = ({ id, state }: Collection): boolean =>
    isHolder() && id === subject.collectionId && state === "deleting";
  await collections.delete(subject.collection, isOver);
}
