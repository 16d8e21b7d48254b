import { parsePath, type PayloadIndex } from "../../model/index.js";
import type { FilterSchema } from "../matches.js";
import type { TokenizerOptions } from "../tokens.js";
import type { PayloadIndexSpec } from "./types.js";

function tokenizerOf({ text }: PayloadIndex): TokenizerOptions | undefined {
  if (text === undefined) return undefined;
  const { tokenizer, minTokenLength, maxTokenLength, lowercase } = text;
  return {
    kind: tokenizer,
    lowercase,
    ...(minTokenLength !== undefined && { minLength: minTokenLength }),
    ...(maxTokenLength !== undefined && { maxLength: maxTokenLength }),
  };
}

/** An index of a collection, as one is made of it. */
export function indexSpecOf(index: PayloadIndex): PayloadIndexSpec {
  const { path, kind, text } = index;
  const tokenizer = tokenizerOf(index);
  return {
    path: parsePath(path),
    kind,
    ...(tokenizer !== undefined && { tokenizer }),
    ...(text !== undefined && { phrase: text.phrase }),
  };
}

/** What the indexes of a collection say of the meaning of filters: whether they are built makes no difference. */
export function filterSchemaOf(indexes: readonly PayloadIndex[]): FilterSchema {
  const tokenizers = new Map<string, TokenizerOptions>();
  for (const index of indexes) {
    const tokenizer = tokenizerOf(index);
    if (tokenizer !== undefined) tokenizers.set(index.path, tokenizer);
  }
  return { tokenizers };
}
