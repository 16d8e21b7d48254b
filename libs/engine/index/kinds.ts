import type { Schema } from "../recover/schema.js";
import type { IndexFactory } from "../replica/options.js";
import type { Clock } from "../../base/index.js";
import { DenseKind } from "./dense-index.js";
import type { IndexKind } from "./derived-index.js";
import { PayloadKind } from "./payload-kind.js";
import { TextKind } from "./text-kind.js";

/** The derived indexes that a schema asks for. */
export function kindsOf(schema: Schema, factory: IndexFactory, clock: Clock): IndexKind[] {
  return [
    ...schema.fields.map(({ number, ...field }) => new DenseKind(number, field, factory)),
    ...schema.payloadIndexes.map((definition) =>
      definition.kind === "bm25" ? new TextKind(definition, clock) : new PayloadKind(definition, clock),
    ),
  ];
}
