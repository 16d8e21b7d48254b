import { segmented } from "../base/index.js";

/** How texts are split into words. All of it is part of what a text condition means: it belongs to a field's schema. */
export interface TokenizerOptions {
  /**
   * `word`: runs of letters, digits and marks; scripts that put no spaces between words are split by Unicode's segmentation.
   * `whitespace`: what stands between white space, with its punctuation. `prefix`: as `word`, and a word of a condition also
   * finds longer ones that begin with it.
   */
  readonly kind: "word" | "whitespace" | "prefix";
  /** Shorter words are left out, of texts and of conditions; in characters. */
  readonly minLength?: number;
  /** Longer words are left out; with `prefix` only their first characters count. In characters. */
  readonly maxLength?: number;
  /** Whether upper and lower case are the same; true where absent. */
  readonly lowercase?: boolean;
}

/** How texts are split where no schema says it. */
export const defaultTokenizer: TokenizerOptions = { kind: "word" };

const beyondAscii = /[\u0080-\uffff]/;
const asciiWords = /[a-zA-Z0-9]+/g;
const words = /[\p{Alphabetic}\p{N}\p{M}]+/gu;
const pieces = /\S+/g;
/** Scripts that are written without spaces between words. */
const unspaced =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]/u;

/**
 * Splits texts into words. Normalised by NFKC, then lower-cased. `word` splits where Qdrant's tokenizer of that name does, but
 * for combining marks, which belong to their letter here, and for scripts without spaces: their runs go through
 * Intl.Segmenter, whose dictionaries come with Node's ICU. For other scripts it would find nearly the same words in 20 times
 * the time (58 µs instead of 2.4 for 230 characters of English).
 */
export class Tokenizer {
  readonly options: TokenizerOptions;
  readonly #lowercase: boolean;
  readonly #min: number;
  readonly #max: number;

  constructor(options: TokenizerOptions) {
    this.options = options;
    this.#lowercase = options.lowercase ?? true;
    this.#min = options.minLength ?? 0;
    this.#max = options.maxLength ?? Infinity;
  }

  /** The words of a text, in order; with `prefix` cut to `maxLength`. */
  words(text: string): string[] {
    const all = this.#split(text);
    return this.#min === 0 && this.#max === Infinity ? all : this.#bound(all);
  }

  /** Whether a word of a condition finds a word of a text. */
  finds(queryWord: string, word: string): boolean {
    return this.options.kind === "prefix" ? word.startsWith(queryWord) : word === queryWord;
  }

  #split(text: string): string[] {
    const isAscii = !beyondAscii.test(text);
    const normal = isAscii ? text : text.normalize("NFKC");
    const folded = this.#lowercase ? normal.toLowerCase() : normal;
    if (this.options.kind === "whitespace") return folded.match(pieces) ?? [];
    if (isAscii) return folded.match(asciiWords) ?? [];
    const runs = folded.match(words) ?? [];
    return unspaced.test(folded) ? runs.flatMap((run) => (unspaced.test(run) ? segmented(run) : run)) : runs;
  }

  #bound(all: string[]): string[] {
    const bounded: string[] = [];
    for (const word of all) {
      const length = lengthOf(word);
      if (length < this.#min) continue;
      if (length <= this.#max) bounded.push(word);
      else if (this.options.kind === "prefix") bounded.push([...word].slice(0, this.#max).join(""));
    }
    return bounded;
  }
}

/** In characters, not in halves of surrogate pairs. */
function lengthOf(word: string): number {
  let length = word.length;
  for (let i = 0; i < word.length; i++) if ((word.charCodeAt(i) & 0xfc00) === 0xdc00) length--;
  return length;
}

/** Whether the words of a text have all words of a condition, each anywhere; false for a condition without words. */
export function hasAllWords(tokenizer: Tokenizer, queryWords: readonly string[], text: string): boolean {
  if (queryWords.length === 0) return false;
  const textWords = tokenizer.words(text);
  return queryWords.every((query) => textWords.some((word) => tokenizer.finds(query, word)));
}

/** Whether the words of a text have one word of a condition at least. */
export function hasAnyWord(tokenizer: Tokenizer, queryWords: readonly string[], text: string): boolean {
  if (queryWords.length === 0) return false;
  return tokenizer.words(text).some((word) => queryWords.some((query) => tokenizer.finds(query, word)));
}

/** Whether the words of a text have the words of a condition in a row; false for a condition without words. */
export function hasPhrase(tokenizer: Tokenizer, queryWords: readonly string[], text: string): boolean {
  if (queryWords.length === 0) return false;
  const textWords = tokenizer.words(text);
  for (let start = 0; start + queryWords.length <= textWords.length; start++) {
    if (queryWords.every((query, i) => tokenizer.finds(query, textWords[start + i] as string))) return true;
  }
  return false;
}
