import type { Schema } from "../recover/schema.js";
import type { IndexFactory } from "../replica/options.js";
import { DenseKind } from "./dense-index.js";
import type { IndexKind } from "./derived-index.js";

/** The derived indexes that a schema asks for. */
export function kindsOf(schema: Schema, factory: IndexFactory): IndexKind[] {
  return schema.fields.map(({ number, ...field }) => new DenseKind(number, field, factory));
}
