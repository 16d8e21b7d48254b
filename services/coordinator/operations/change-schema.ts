import { createHash } from "node:crypto";
import { toKithError } from "../../../libs/base/index.js";
import { type NewOperation, schemaChangeIdOf } from "../../../libs/cluster/index.js";
import { changedCollection, type Collection, type SchemaChange } from "../../../libs/model/index.js";
import { encodeRecord, schemaChangeToWire } from "../../../libs/wire/index.js";
import type { Machine, OperationContext } from "./machine.js";

/**
 * A change of a collection's schema, which its record names: it goes into the log of each shard, and then into the record. In one step,
 * which may be repeated: a log that has the change already refuses it, or knows it by its id, and the record takes it once.
 */
export const changeSchema: Machine<"change_schema"> = {
  async step({ id, subject, data }, context) {
    const { collections, isHolder } = context;
    const { collectionId, collection } = subject;
    const record = (await collections.read(collection))?.value;
    if (record?.id !== collectionId || record.state === "deleting") return { kind: "end", state: "cancelled" };
    const { change } = record;
    if (change?.version !== data.version) return { kind: "end", state: "done" };
    await appendToAll(id, record, change, context);
    const isAsked = (found: Collection): boolean =>
      isHolder() && found.id === collectionId && found.change?.version === data.version;
    try {
      await collections.modify(collection, (found) => (isAsked(found) ? changedCollection(found, change) : undefined));
    } catch (error) {
      // Deleted meanwhile.
      if (toKithError(error).code !== "NOT_FOUND") throw error;
      return { kind: "end", state: "cancelled" };
    }
    return { kind: "end", state: "done" };
  },
};

/** The change into the log of each shard; harmless when repeated under the same name. */
export async function appendToAll(
  operation: string,
  { id: collectionId, epoch, shards }: Collection,
  change: SchemaChange,
  { log, clock }: OperationContext,
): Promise<void> {
  // The same for every attempt, so that none has an effect of its own.
  const operationId = createHash("sha256").update(operation).digest().subarray(0, 16);
  const mutation = { $case: "changeSchema" as const, value: schemaChangeToWire(change) };
  const operations = [{ operationId, traceparent: "", mutation }];
  const data = encodeRecord({ epoch, appendedAtMs: clock.nowMs(), operations });
  for (const { shard, state } of shards) {
    if (state === "active") await log.append({ collectionId, shard }, data, { messageId: operation, fenced: true });
  }
}

export function newSchemaChange(
  { id, name, shards }: Collection,
  { version }: SchemaChange,
): NewOperation<"change_schema"> {
  return {
    id: schemaChangeIdOf(id, version),
    kind: "change_schema",
    subject: { collectionId: id, collection: name },
    step: "append",
    data: { shards: shards.map(({ shard }) => shard), version },
  };
}
