import { KithError, toKithError } from "../../../libs/base/index.js";
import { type NewOperation, type Operation, promotionIdOf, textPromotionIdOf } from "../../../libs/cluster/index.js";
import {
  type Collection,
  type GenerationRefusal,
  type GenerationStatus,
  type GenerationVerdict,
  judgeGeneration,
  type OtherGeneration,
  type PayloadIndexRecord,
  textOfRefusal,
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
    const waiting = awaited(record, operation);
    if (waiting === undefined) return { kind: "end", state: "done" };
    if (record.change !== undefined) return { kind: "wait", ms: lookEveryMs };
    const statuses = await statusesOf(record, operation, context);
    const verdict = statuses && judge(statuses, waiting);
    if (verdict === undefined || verdict.kind === "building") return { kind: "wait", ms: lookEveryMs };
    const other = "field" in waiting ? waiting.field.other : undefined;
    if (verdict.kind !== "refused" || other === undefined) return promote(operation, context);
    return refuse(operation, other, verdict.refusal, context);
  },
  async undo(operation, context) {
    await modify(operation, context, {
      field: (field) => ({ ...field, plan: { ...field.plan, isManual: true } }),
      index: (index) => ({ ...index, isManual: true }),
    });
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

export function newTextPromotion(
  { id, name }: Collection,
  { path, otherText, isManual = false }: PayloadIndexRecord,
): NewOperation<"promote_generation"> | undefined {
  if (otherText?.state !== "building" || isManual) return;
  const generation = otherText.number;
  return {
    id: textPromotionIdOf(id, path, generation),
    kind: "promote_generation",
    subject: { collectionId: id, collection: name },
    step: "build",
    data: { field: "", index: path, generation },
  };
}

/** What waits for a generation. */
type Waiting = { field: VectorField } | { index: PayloadIndexRecord };

/** The field or index while it waits for the generation; undefined where it does no more. */
function awaited(record: Collection, { data }: Promotion): Waiting | undefined {
  if (data.index !== undefined) {
    const index = record.payloadIndexes.find(({ path }) => path === data.index);
    if (index?.otherText?.number !== data.generation) return undefined;
    return newTextPromotion(record, index) && { index };
  }
  const field = record.fields.find(({ name }) => name === data.field);
  if (field?.other?.number !== data.generation) return undefined;
  return newPromotion(record, field) && { field };
}

/** Of texts all that is asked for is that it is whole: other tokens find other points. */
function judge(
  statuses: readonly GenerationStatus[],
  waiting: Waiting,
): GenerationVerdict | { kind: "ready" | "building" } {
  if ("field" in waiting) return judgeGeneration(statuses, waiting.field.plan);
  return { kind: statuses.every(({ isReady }) => isReady) ? "ready" : "building" };
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
  { field, index, generation }: Promotion["data"],
  context: OperationContext,
): Promise<GenerationStatus | undefined> {
  const status = await context.statusOf(node, replica).catch(() => undefined);
  if (status?.state !== "active") return undefined;
  const isMeant = (each: GenerationStatus): boolean =>
    each.number === generation && each.field === (index ?? field) && (each.isText ?? false) === (index !== undefined);
  return status.generations?.find(isMeant);
}

async function promote(operation: Promotion, context: OperationContext): Step {
  const { field: name, index: path, generation } = operation.data;
  const { subject } = operation;
  const kind = path === undefined ? "switchGeneration" : "switchTextGeneration";
  const record = await change(operation, context, (found) => {
    if (found.change !== undefined) return undefined;
    const version = found.schemaVersion + 1;
    return {
      ...found,
      change:
        path === undefined
          ? { kind: "switchGeneration", name, generation, version }
          : { kind: "switchTextGeneration", path, generation, version },
    };
  });
  if (record?.id !== subject.collectionId) return { kind: "end", state: "cancelled" };
  // Another change came between.
  return record.change?.kind === kind ? { kind: "end", state: "done" } : { kind: "wait", ms: lookEveryMs };
}

async function refuse(
  operation: Promotion,
  other: OtherGeneration,
  refusal: GenerationRefusal,
  context: OperationContext,
): Step {
  await modify(operation, context, {
    field: (field) => ({ ...field, plan: { ...field.plan, refusal } }),
    index: (index) => index,
  });
  return { kind: "end", state: "failed", error: recallTooLow(operation.data.field, other, refusal) };
}

/** The refusal of a generation, with its numbers. */
function recallTooLow(field: string, other: OtherGeneration, refusal: GenerationRefusal): KithError {
  const of = field === "" ? "the vector field" : `the vector field "${field}"`;
  const generation = other.number;
  const { recall, wanted, samples } = refusal;
  return new KithError(
    "FAILED_PRECONDITION",
    `generation ${generation} of ${of} does not answer: ${textOfRefusal(refusal, other)}`,
    { details: { field, generation, recall, wanted, samples } },
  );
}

/** Changes the field or index, where it still waits for the generation. */
async function modify(
  operation: Promotion,
  context: OperationContext,
  to: { field(field: VectorField): VectorField; index(index: PayloadIndexRecord): PayloadIndexRecord },
): Promise<void> {
  await change(operation, context, (found, waiting) => ({
    ...found,
    fields: found.fields.map((each) => ("field" in waiting && each === waiting.field ? to.field(each) : each)),
    payloadIndexes: found.payloadIndexes.map((each) => {
      return "index" in waiting && each === waiting.index ? to.index(each) : each;
    }),
  }));
}

/** Changes the record, where its field or index still waits for the generation; undefined where there is none. */
async function change(
  operation: Promotion,
  context: OperationContext,
  to: (found: Collection, waiting: Waiting) => Collection | undefined,
): Promise<Collection | undefined> {
  const { subject } = operation;
  try {
    return await context.collections.modify(recordKey(subject, context), (found) => {
      if (!context.isHolder() || found.id !== subject.collectionId || found.state !== "ready") return undefined;
      const waiting = awaited(found, operation);
      return waiting && to(found, waiting);
    });
  } catch (error) {
    if (toKithError(error).code === "NOT_FOUND") return undefined;
    throw error;
  }
}
