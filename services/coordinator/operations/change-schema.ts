import { createHash } from "node:crypto";
import { sleep, toKithError } from "../../../libs/base/index.js";
import { type NewOperation, schemaChangeIdOf } from "../../../libs/cluster/index.js";
import { changedCollection, type Collection, type SchemaChange } from "../../../libs/model/index.js";
import { encodeRecord, schemaChangeToWire } from "../../../libs/wire/index.js";
import type { Machine, OperationContext } from "./machine.js";

/** Replicas are waited for so long, so that whoever is told of the change finds it at each of them; one that is slower takes it when it comes to it. */
const appliedMs = 1_000;
const lookEveryMs = 10;

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
    await Promise.race([untilApplied(record, data.version, context), sleep(context.clock, appliedMs)]);
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

/** Resolves when all active replicas that can be asked have the schema. Never rejects. */
async function untilApplied(
  { id: collectionId, shards }: Collection,
  version: number,
  { clock, stateOf, statusOf }: OperationContext,
): Promise<void> {
  const endMs = clock.monotonicMs() + appliedMs;
  let behind = shards.flatMap(({ shard, replicas }) => {
    const asked = replicas.filter(({ node, state }) => state === "active" && stateOf(node) === "up");
    return asked.map(({ node }) => ({ node, name: { collectionId, shard } }));
  });
  while (behind.length > 0 && clock.monotonicMs() < endMs) {
    const statuses = await Promise.all(behind.map(({ node, name }) => statusOf(node, name).catch(() => undefined)));
    behind = behind.filter((_, i) => (statuses[i]?.schemaVersion ?? version) < version);
    if (behind.length > 0) await sleep(clock, lookEveryMs);
  }
}

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
