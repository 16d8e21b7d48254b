import { buildIn, generationOf } from "../../model/index.js";
import type { Schema, SchemaField, SchemaPayloadIndex } from "../recover/schema.js";
import type { IndexFactory } from "../replica/options.js";
import type { Clock } from "../../base/index.js";
import { DenseKind } from "./dense-index.js";
import type { IndexKind } from "./derived-index.js";
import { MultiKind } from "./multi-kind.js";
import { PayloadKind } from "./payload-kind.js";
import { SparseKind } from "./sparse-kind.js";
import { TextKind } from "./text-kind.js";

/** The derived indexes that a schema asks for, of the replica in this directory. */
export function kindsOf(schema: Schema, factory: IndexFactory, clock: Clock, directory: string): IndexKind[] {
  return [
    ...schema.fields.flatMap((field): IndexKind[] =>
      field.multivector === undefined
        ? denseKindsOf(field, factory, directory)
        : [new MultiKind(field.number, field, factory.keys)],
    ),
    ...schema.sparse.map(({ number, ...field }) => new SparseKind(number, field, factory.keys)),
    ...schema.payloadIndexes.flatMap((definition): IndexKind[] =>
      definition.bm25 === undefined
        ? [new PayloadKind(definition, clock, factory.keys)]
        : textKindsOf(definition, factory, clock),
    ),
  ];
}

/** The generation that answers, and the one beside it. */
function denseKindsOf({ number, ...field }: SchemaField, factory: IndexFactory, directory: string): DenseKind[] {
  const answering = new DenseKind(number, field, generationOf(field), factory, directory, false);
  if (field.other === undefined) return [answering];
  const { number: generation, originals = false } = field.other;
  const built = { ...field, ...buildIn(field.other), originals };
  return [answering, new DenseKind(number, built, generation, factory, directory, true)];
}

/** The generation that answers, and the one beside it. */
function textKindsOf(definition: SchemaPayloadIndex, { keys }: IndexFactory, clock: Clock): TextKind[] {
  const { otherText, generation = 0 } = definition;
  const answering = new TextKind(definition, generation, clock, { ...(keys && { keys }), canWait: false });
  if (otherText === undefined) return [answering];
  const { number, bm25 } = otherText;
  return [answering, new TextKind({ ...definition, bm25 }, number, clock, { ...(keys && { keys }), canWait: true })];
}
