import { KithError, toKithError } from "../../../libs/base/index.js";
import { creationIdOf, type NewOperation, type Operation } from "../../../libs/cluster/index.js";
import type { Collection } from "../../../libs/model/index.js";
import { removeLogs, removeRecord } from "./delete-collection.js";
import type { Machine, OperationContext } from "./machine.js";

type Creation = Operation<"create_collection">;

/**
 * The creation of a collection whose record is there: its replicas are placed and its logs made, and then it is ready. In one step,
 * because each step costs a write to the catalog. A collection that is deleted before it is ready is undone.
 */
export const createCollection: Machine<"create_collection"> = {
  async step({ subject, data }, context) {
    const { collections, log, placements, isHolder } = context;
    const { collectionId } = subject;
    const record = await recordOf(subject, context);
    if (record?.state === "ready") return { kind: "end", state: "done" };
    if (record?.state !== "creating") return { kind: "undo" };
    const shards = placements.choose(record);
    // All of them come to an end before this does: a log that is made late would outlive a collection deleted meanwhile.
    const created = await Promise.allSettled(
      data.shards.map((shard) => {
        const { sequence: afterSequence = 0 } = record.restoring?.parts?.[shard] ?? {};
        return log.create({ collectionId, shard }, { afterSequence });
      }),
    );
    for (const each of created) if (each.status === "rejected") throw each.reason;
    const present = await ifThere(
      collections.modifyKnown(record.name, (found) =>
        isHolder() && found.id === collectionId && found.state === "creating"
          ? { ...found, shards, state: "ready" }
          : undefined,
      ),
    );
    const isOurs = present?.id === collectionId;
    if (isOurs && present.state === "ready") return { kind: "end", state: "done" };
    // Where another coordinator has taken over and undone all, nobody else would know of logs that were made too late here.
    if (!isOurs || present.state === "deleting") await removeLogs({ subject, data }, context);
    return { kind: "undo" };
  },

  async undo(operation, context) {
    switch (operation.step) {
      case "place":
        return giveUp(operation, context);
      case "remove_logs":
        await removeLogs(operation, context);
        return { kind: "next", step: "remove_record" };
      case "remove_record":
        await removeRecord(operation, context);
        return { kind: "end", state: "cancelled" };
    }
  },
};

export function newCreation({ id, name, shards }: Collection): NewOperation<"create_collection"> {
  return {
    id: creationIdOf(id),
    kind: "create_collection",
    subject: { collectionId: id, collection: name },
    step: "place",
    data: { shards: shards.map(({ shard }) => shard) },
  };
}

/** Marks the record, from when on nobody uses the collection. One that is ready already is in use, and stays. */
async function giveUp(operation: Creation, context: OperationContext): ReturnType<typeof createCollection.step> {
  const { collectionId, collection } = operation.subject;
  const present = await ifThere(
    context.collections.modify(collection, (found) =>
      context.isHolder() && found.id === collectionId && found.state === "creating"
        ? { ...found, state: "deleting" }
        : undefined,
    ),
  );
  if (present?.id !== collectionId) {
    await removeLogs(operation, context);
    const message = `the record of the collection "${collection}" (${collectionId}) is gone from the catalog`;
    return { kind: "end", state: "failed", error: new KithError("NOT_FOUND", message) };
  }
  return present.state === "ready" ? { kind: "end", state: "done" } : { kind: "next", step: "remove_logs" };
}

/** The collection's record; what the view has is enough where it is of this collection, for steps look again before they change it. */
async function recordOf(
  { collection, collectionId }: Creation["subject"],
  { collections }: OperationContext,
): Promise<Collection | undefined> {
  const known = collections.get(collection)?.value;
  const record = known?.id === collectionId ? known : (await collections.read(collection))?.value;
  return record?.id === collectionId ? record : undefined;
}

async function ifThere<T>(record: Promise<T>): Promise<T | undefined> {
  try {
    return await record;
  } catch (error) {
    if (toKithError(error).code === "NOT_FOUND") return undefined;
    throw error;
  }
}
