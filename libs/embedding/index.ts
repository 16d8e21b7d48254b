/**
 * Text to vectors without a model: a lexical embedder, and a splitter of Markdown into passages. See {@link Embedder} for
 * what it can and cannot do.
 *
 * ```ts
 * const passages = splitPassages(markdown, { maxChars: 1200 });
 * const embedder = fitEmbedder(passages.map(({ title, text }) => `${title}\n${text}`), { dimension: 512 });
 * const vector = embedder.embed("how do I close a stream?");
 * ```
 */
export { type Bm25Weights, bm25Document, bm25Query, bm25WeightDefaults } from "./bm25.js";
export { Embedder, fitEmbedder } from "./embedder.js";
export { splitPassages } from "./passages.js";
