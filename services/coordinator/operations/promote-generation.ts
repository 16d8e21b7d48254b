import { KithError, toKithError } from "../../../libs/base/index.js";
import { type NewOperation, type Operation, promotionIdOf } from "../../../libs/cluster/index.js";
import {
  type Collection,
  type GenerationRefusal,
  type GenerationStatus,
  judgeGeneration,
  type VectorField,
} from "../../../libs/model/index.js";
import type { Machine, OperationContext, Outcome } from "./machine.js";
import { recordKey, recordOf } from "./record-of.js";

type Promotion = Operation<"promote_generation">;
type Step = Promise<Outcome<"promote_generation">>;

/** How often the replicas are asked whether the generation is whole. */
const lookEveryMs = 500;
/** A replica whose node is away for so long is not waited for: it builds the generation when it is back, and answers by the one before meanwhile. */
const awayMs = 60_000;

/**
 * A generation that is to answer by itself once it is whole and good enough on all replicas: waits for them, and then has the change of the schema
 * made that lets it answer. Where its recall is too low, that is noted in the collection's record and it does not answer.
 */
export const promoteGeneration: Machine<"promote_generation"> = {
  async step(operation, context) {
    const record = await recordOf(operation.subject, context);
    if (record === undefined) return { kind: "end", state: "cancelled" };
    const field = awaited(record, operation);
    if (field === undefined) return { kind: "end", state: "done" };
    if (record.change !== undefined) return { kind: "wait", ms: lookEveryMs };
    const statuses = await statusesOf(record, operation, context);
    const verdict = statuses && judgeGeneration(statuses, field.plan);
    if (verdict === undefined || verdict.kind === "building") return { kind: "wait", ms: lookEveryMs };
    return verdict.kind === "refused" ? refuse(operation, verdict.refusal, context) : promote(operation, context);
  },
  async undo(operation, context) {
    await modify(operation, context, (field) => ({ ...field, plan: { ...field.plan, isManual: true } }));
    return { kind: "end", state: "cancelled" };
  },
};

export function newPromotion(
  { id, name }: Collection,
  field: VectorField,
): NewOperation<"promote_generation"> | undefined {
  if (field.other?.state !== "building" || field.plan?.isManual === true || field.plan?.refusal !== undefined) return;
  const generation = field.other.number;
  return {
    id: promotionIdOf(id, field.name, generation),
    kind: "promote_generation",
    subject: { collectionId: id, collection: name },
    step: "build",
    data: { field: field.name, generation },
  };
}

/** The field while it waits for the generation; undefined where it does no more. */
function awaited(record: Collection, { data }: Promotion): VectorField | undefined {
  const field = record.fields.find(({ name }) => name === data.field);
  if (field?.other?.number !== data.generation || newPromotion(record, field) === undefined) return undefined;
  return field;
}

/** What all replicas that answer say of the generation, those aside whose nodes are away; undefined where one of them cannot be asked, or does not have it yet. */
async function statusesOf(
  { id, shards }: Collection,
  { data }: Promotion,
  context: OperationContext,
): Promise<GenerationStatus[] | undefined> {
  const asked: Promise<GenerationStatus | undefined>[] = [];
  for (const { shard, state, replicas } of shards) {
    if (state !== "active") continue;
    const there = replicas.filter(({ node, state: its }) => its === "active" && context.awayMs(node) < awayMs);
    if (there.length === 0) return undefined;
    for (const { node } of there) asked.push(statusOf(node, { collectionId: id, shard }, data, context));
  }
  const statuses = await Promise.all(asked);
  const known = statuses.flatMap((status) => (status === undefined ? [] : [status]));
  return known.length === statuses.length ? known : undefined;
}

async function statusOf(
  node: string,
  replica: { collectionId: string; shard: number },
  { field, generation }: Promotion["data"],
  context: OperationContext,
): Promise<GenerationStatus | undefined> {
  const status = await context.statusOf(node, replica).catch(() => undefined);
  if (status?.state !== "active") return undefined;
  return status.generations?.find((each) => each.field === field && each.number === generation);
}

async function promote(operation: Promotion, context: OperationContext): Step {
  const { field: name, generation } = operation.data;
  const { subject } = operation;
  const record = await change(operation, context, (found) => {
    if (found.change !== undefined) return undefined;
    return { ...found, change: { kind: "switchGeneration", name, generation, version: found.schemaVersion + 1 } };
  });
  if (record?.id !== subject.collectionId) return { kind: "end", state: "cancelled" };
  // Another change came between.
  return record.change?.kind === "switchGeneration"
    ? { kind: "end", state: "done" }
    : { kind: "wait", ms: lookEveryMs };
}

async function refuse(operation: Promotion, refusal: GenerationRefusal, context: OperationContext): Step {
  await modify(operation, context, (field) => ({ ...field, plan: { ...field.plan, refusal } }));
  const { field, generation } = operation.data;
  return { kind: "end", state: "failed", error: recallTooLow(field, generation, refusal) };
}

/** The refusal of a generation, with its numbers. */
function recallTooLow(field: string, generation: number, { recall, wanted, samples }: GenerationRefusal): KithError {
  const of = field === "" ? "the vector field" : `the vector field "${field}"`;
  const numbers = `recall@10 of ${recall.toFixed(4)}, measured with ${samples} queries; it must have ${wanted.toFixed(4)}`;
  return new KithError(
    "FAILED_PRECONDITION",
    `generation ${generation} of ${of} does not answer: it has a ${numbers}`,
    {
      details: { field, generation, recall, wanted, samples },
    },
  );
}

/** Changes the field, where it still waits for the generation. */
async function modify(
  operation: Promotion,
  context: OperationContext,
  to: (field: VectorField) => VectorField,
): Promise<void> {
  await change(operation, context, (found, field) => ({
    ...found,
    fields: found.fields.map((each) => (each === field ? to(field) : each)),
  }));
}

/** Changes the record, where its field still waits for the generation; undefined where there is none. */
async function change(
  operation: Promotion,
  context: OperationContext,
  to: (found: Collection, field: VectorField) => Collection | undefined,
): Promise<Collection | undefined> {
  const { subject } = operation;
  try {
    return await context.collections.modify(recordKey(subject, context), (found) => {
      if (!context.isHolder() || found.id !== subject.collectionId || found.state !== "ready") return undefined;
      const field = awaited(found, operation);
      return field && to(found, field);
    });
  } catch (error) {
    if (toKithError(error).code === "NOT_FOUND") return undefined;
    throw error;
  }
}
