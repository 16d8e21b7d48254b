import { xxh32 } from "../hash/index.js";

/** Features are numbered 0..2^18-1 by hash: enough that the words and n-grams of a documentation folder rarely share one. */
export const featureCount = 1 << 18;

const ngramMin = 3;
const ngramMax = 5;
/** Longer words (addresses, encoded data) give n-grams of their beginning only. */
const ngramCodePointsMax = 32;
/** Words whose features are remembered. A corpus repeats its words: nearly all look-ups hit (10 MiB when full). */
const cachedWordsMax = 32_768;

const wordPattern = /[\p{L}\p{N}\p{M}]+/gu;
const otherPattern = /\S+/gu;
/** Scripts written without spaces: a run of letters is a sentence, so that its pairs of characters stand for words. */
const unspacedPattern = /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmer}\p{sc=Myanmar}]/u;
const encoder = new TextEncoder();

/** Seeds that keep the hash families apart; part of the format of saved tables. */
const seeds = { word: 1, ngram: 2 } as const;

/** What one word contributes. */
export interface WordFeatures {
  /** The word itself, or its pairs of characters where the script has no spaces. */
  readonly words: readonly number[];
  /** Runs of 3 to 5 characters of the word with its edges marked. */
  readonly ngrams: readonly number[];
}

/**
 * The words of a text, in lower case and NFKC form. Text without any letter or digit (symbols, emoji) gives its runs of
 * other characters; only blank text gives nothing.
 */
export function wordsOf(text: string): string[] {
  const folded = text.normalize("NFKC").toLowerCase();
  return folded.match(wordPattern) ?? folded.match(otherPattern) ?? [];
}

/** Hashes words to features, remembering the latest ones. */
export class FeatureHasher {
  readonly #cache = new Map<string, WordFeatures>();

  of(word: string): WordFeatures {
    const known = this.#cache.get(word);
    if (known !== undefined) return known;
    const features = featuresOf(word);
    if (this.#cache.size >= cachedWordsMax) this.#cache.clear();
    this.#cache.set(word, features);
    return features;
  }
}

function featuresOf(word: string): WordFeatures {
  const points = [...word];
  if (unspacedPattern.test(word)) {
    const words = points.map((point) => hash(encoder.encode(point), seeds.word));
    for (let i = 0; i + 1 < points.length; i++) {
      words.push(hash(encoder.encode(`${points[i]}${points[i + 1]}`), seeds.word));
    }
    return { words, ngrams: [] };
  }
  const marked = `<${points.slice(0, ngramCodePointsMax).join("")}>`;
  return { words: [hash(encoder.encode(word), seeds.word)], ngrams: ngramsOf(marked) };
}

function ngramsOf(marked: string): number[] {
  const bytes = encoder.encode(marked);
  // Where each code point begins: every byte but the continuation bytes of UTF-8.
  const starts: number[] = [];
  for (let i = 0; i < bytes.length; i++) if (((bytes[i] as number) & 0xc0) !== 0x80) starts.push(i);
  starts.push(bytes.length);
  const ngrams: number[] = [];
  const length = starts.length - 1;
  for (let size = ngramMin; size <= ngramMax; size++) {
    for (let i = 0; i + size <= length; i++) {
      ngrams.push(hash(bytes.subarray(starts[i], starts[i + size]), seeds.ngram));
    }
  }
  return ngrams;
}

function hash(bytes: Uint8Array, seed: number): number {
  return xxh32(bytes, seed) & (featureCount - 1);
}
