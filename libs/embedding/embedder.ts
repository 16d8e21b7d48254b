import { KithError, limits } from "../base/index.js";
import { FeatureHasher, featureCount, wordsOf } from "./features.js";

const defaultDimension = 512;
const formatVersion = 1;
/** Steps of a saved idf weight: 1/16 of a natural logarithm; 255 of them reach e^15.9 documents. */
const idfSteps = 16;
/**
 * Weight of a character n-gram beside a word. nDCG@10 at 512 elements on SciFact (5 183 abstracts, 300 queries) and
 * Cranfield (225 queries): 0 gives 0.387 and 0.354, 0.2 gives 0.485 and 0.410, 0.5 gives 0.579 and 0.450, 0.8 gives
 * 0.589 and 0.455. Whole words are left heavy enough that a rare one still decides among short texts.
 */
const ngramWeight = 0.6;

/** A fitted embedder as JSON. */
export interface EmbedderJson {
  format: "kith-lexical-embedder";
  version: number;
  dimension: number;
  documentCount: number;
  /** idf of each feature in steps of 1/16, one byte each, as base64. */
  idf: string;
}

export interface FitOptions {
  /** Elements of the vectors. Default: 512. More keep unlike words further apart. */
  dimension?: number;
}

/** Learns how rare words and n-grams are in `texts` (one pass, nothing else is kept), which is what tells them apart. */
export function fitEmbedder(texts: Iterable<string>, options: FitOptions = {}): Embedder {
  const counts = new Uint32Array(featureCount);
  const lastSeen = new Uint32Array(featureCount);
  const hasher = new FeatureHasher();
  let documents = 0;
  const note = (feature: number): void => {
    if (lastSeen[feature] === documents) return;
    lastSeen[feature] = documents;
    counts[feature] = (counts[feature] as number) + 1;
  };
  for (const text of texts) {
    documents++;
    for (const word of wordsOf(text)) {
      const { words, ngrams } = hasher.of(word);
      words.forEach(note);
      ngrams.forEach(note);
    }
  }
  const steps = new Uint8Array(featureCount);
  for (let feature = 0; feature < featureCount; feature++) {
    const idf = Math.log((documents + 1) / ((counts[feature] as number) + 0.5));
    // At least one step: a word that every document has still makes a vector for a text of nothing else.
    steps[feature] = Math.max(1, Math.min(255, Math.round(idf * idfSteps)));
  }
  return new Embedder(options.dimension ?? defaultDimension, documents, steps);
}

/**
 * Turns text into vectors by the words it is made of: words and character n-grams, weighted by (1 + ln tf) × idf, are
 * hashed with a sign into `dimension` elements, and the vector is scaled to length 1, for cosine or dot product.
 *
 * It is lexical, not semantic: texts are near if they share words or parts of words ("index", "indexes", "indexing"). It
 * knows nothing of meaning: "car" and "automobile" are strangers, and so are a text and its translation. It needs no
 * model file and no network, which is what it is for; use a trained model where meaning matters.
 */
export class Embedder {
  readonly dimension: number;
  readonly #documentCount: number;
  readonly #steps: Uint8Array;
  readonly #hasher = new FeatureHasher();
  /** Scratch of one call: occurrences by feature, and the features that occur. */
  readonly #words = new Uint16Array(featureCount);
  readonly #ngrams = new Uint16Array(featureCount);

  /** @internal Use `fitEmbedder` or `Embedder.fromJSON`. */
  constructor(dimension: number, documentCount: number, steps: Uint8Array) {
    if (!Number.isInteger(dimension) || dimension < 16 || dimension > limits.dimensionMax) {
      throw new KithError(
        "INVALID_ARGUMENT",
        `the dimension of the embedder is ${dimension}; it must be a whole number in 16..${limits.dimensionMax}`,
        { details: { dimension } },
      );
    }
    this.dimension = dimension;
    this.#documentCount = documentCount;
    this.#steps = steps;
  }

  /**
   * The vector of a text, of length 1. INVALID_ARGUMENT for blank text, which has no direction; any other text, even of
   * symbols alone, has a vector.
   */
  embed(text: string): Float32Array {
    const features = this.#count(text);
    if (features.words.length + features.ngrams.length === 0) {
      throw new KithError("INVALID_ARGUMENT", "blank text cannot be embedded; leave it out");
    }
    const sum = new Float64Array(this.dimension);
    this.#add(sum, this.#words, features.words, 1, true);
    this.#add(sum, this.#ngrams, features.ngrams, ngramWeight, true);
    let length = lengthOf(sum);
    if (length === 0) {
      // Features of opposite sign have cancelled each other exactly: without signs they cannot.
      this.#add(sum, this.#words, features.words, 1, false);
      this.#add(sum, this.#ngrams, features.ngrams, ngramWeight, false);
      length = lengthOf(sum);
    }
    for (const feature of features.words) this.#words[feature] = 0;
    for (const feature of features.ngrams) this.#ngrams[feature] = 0;
    const vector = new Float32Array(this.dimension);
    for (let i = 0; i < vector.length; i++) vector[i] = (sum[i] as number) / length;
    return vector;
  }

  toJSON(): EmbedderJson {
    return {
      format: "kith-lexical-embedder",
      version: formatVersion,
      dimension: this.dimension,
      documentCount: this.#documentCount,
      idf: Buffer.from(this.#steps).toString("base64"),
    };
  }

  /** The embedder that `toJSON` saved. CORRUPT_DATA where the value is not one. */
  static fromJSON(json: EmbedderJson): Embedder {
    const idf = typeof json?.idf === "string" ? Buffer.from(json.idf, "base64") : Buffer.alloc(0);
    if (json?.format !== "kith-lexical-embedder" || json.version !== formatVersion || idf.length !== featureCount) {
      throw new KithError(
        "CORRUPT_DATA",
        `the value is not an embedder of version ${formatVersion} (format ${JSON.stringify(json?.format)}, version ${JSON.stringify(json?.version)}); fit it again`,
      );
    }
    return new Embedder(json.dimension, json.documentCount, new Uint8Array(idf));
  }

  /** Counts the features of the text in the scratch tables; returns those that occur. */
  #count(text: string): { words: number[]; ngrams: number[] } {
    const words: number[] = [];
    const ngrams: number[] = [];
    for (const word of wordsOf(text)) {
      const features = this.#hasher.of(word);
      tally(this.#words, features.words, words);
      tally(this.#ngrams, features.ngrams, ngrams);
    }
    return { words, ngrams };
  }

  #add(sum: Float64Array, counts: Uint16Array, features: number[], share: number, signed: boolean): void {
    const { dimension } = this;
    for (const feature of features) {
      const count = counts[feature] as number;
      const idf = (this.#steps[feature] as number) / idfSteps;
      const weight = share * idf * (count === 1 ? 1 : 1 + Math.log(count));
      const element = feature % dimension;
      const negative = signed && (((feature - element) / dimension) & 1) === 1;
      sum[element] = (sum[element] as number) + (negative ? -weight : weight);
    }
  }
}

function tally(counts: Uint16Array, features: readonly number[], seen: number[]): void {
  for (const feature of features) {
    const count = counts[feature] as number;
    if (count === 0) seen.push(feature);
    if (count < 0xffff) counts[feature] = count + 1;
  }
}

function lengthOf(sum: Float64Array): number {
  let squares = 0;
  for (const value of sum) squares += value * value;
  return Math.sqrt(squares);
}
