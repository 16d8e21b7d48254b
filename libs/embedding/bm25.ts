import { murmur32 } from "../hash/index.js";
import type { SparseVector } from "../model/index.js";

/*
 * Texts as sparse vectors whose dot products, with rare indices weighed more (the modifier "idf" of a field), are scores by BM25: the indices are hashes of
 * tokens, in the way that Qdrant's model "qdrant/bm25" has them, so that vectors of either go together.
 */

export interface Bm25Weights {
  /** How soon further occurrences of a token count no more. */
  k: number;
  /** How much the length of the text counts, 0 to 1. */
  b: number;
  /** Tokens that texts are expected to have. */
  averageLength: number;
}

export const bm25WeightDefaults: Bm25Weights = { k: 1.2, b: 0.75, averageLength: 256 };

const utf8 = new TextEncoder();

/** 0 to 2^31. */
function indexOf(token: string): number {
  return Math.abs(murmur32(utf8.encode(token)) | 0);
}

/** The vector of a text that is looked for in; without entries for one without tokens. */
export function bm25Document(tokens: readonly string[], { k, b, averageLength }: Bm25Weights): SparseVector {
  const counts = new Map<number, number>();
  for (const token of tokens) {
    const index = indexOf(token);
    counts.set(index, (counts.get(index) ?? 0) + 1);
  }
  const norm = k * (1 - b + (b * tokens.length) / averageLength);
  const indices = Uint32Array.from(counts.keys()).sort();
  const values = Float32Array.from(indices, (index) => {
    const count = counts.get(index) ?? 0;
    return (count * (k + 1)) / (norm + count);
  });
  return { indices, values };
}

/** The vector of a text that is looked for: each token counts once. Without entries for one without tokens. */
export function bm25Query(tokens: readonly string[]): SparseVector {
  const indices = Uint32Array.from(new Set(tokens.map(indexOf))).sort();
  return { indices, values: new Float32Array(indices.length).fill(1) };
}
