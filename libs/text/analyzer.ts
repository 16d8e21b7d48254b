import { ownText, segmented } from "../base/index.js";
import type { AnalyzerOptions } from "../model/index.js";
import { languageOf } from "./languages.js";

/** Another one than before where analyzers with the same options make other tokens of a text: indexes of the ones before are built again. */
export const analysisVersion = 3;

/** A token with the part of the text that it comes from, in UTF-16 units. */
export interface PlacedToken {
  token: string;
  start: number;
  end: number;
}

const beyondAscii = /[\u0080-\uffff]/;
const asciiWords = /[a-zA-Z0-9]+/g;
const words = /[\p{Alphabetic}\p{N}\p{M}]+/gu;
const pieces = /\S+/g;
const cjk = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}]/u;
const cjkRuns =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}ー]+|[^\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}ー]+/gu;
/** Scripts that are written without spaces between words. */
const unspaced =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]/u;
const accents = /\p{M}+/gu;
/** Letters that Unicode does not take apart into one and its accent, as Lucene's ASCIIFoldingFilter has them. */
const bareLetters: Readonly<Record<string, string>> = {
  ...{ ł: "l", ø: "o", đ: "d", ħ: "h", ŧ: "t", ı: "i", æ: "ae", œ: "oe", þ: "th", ð: "d", ŋ: "n" },
  ...{ Ł: "L", Ø: "O", Đ: "D", Ħ: "H", Ŧ: "T", Æ: "AE", Œ: "OE", Þ: "TH", Ð: "D", Ŋ: "N" },
};
const letters = /[łøđħŧıæœþðŋŁØĐĦŦÆŒÞÐŊ]/gu;
/** Words whose tokens are remembered. */
const rememberedMax = 200_000;
/** Longer ones are cut: nobody asks for them, and each is kept in the index. In UTF-16 units. */
const tokenLengthMax = 256;

/**
 * Makes tokens of texts. Words are found by Unicode's properties, and in scripts without spaces by Intl.Segmenter: for others it would find nearly
 * the same ones in 20 times the time. What becomes of a word is remembered: stemming costs some microseconds.
 */
export class Analyzer {
  readonly options: AnalyzerOptions;
  readonly #stopwords: ReadonlySet<string>;
  readonly #stem: ((word: string) => string) | undefined;
  readonly #remembered = new Map<string, readonly string[]>();

  constructor(options: AnalyzerOptions) {
    this.options = options;
    const language = options.language === undefined ? undefined : languageOf(options.language);
    const known = options.removeStopwords ? (language?.stopwords ?? []) : [];
    this.#stopwords = new Set([...known, ...options.stopwords].map((word) => this.fold(word)));
    this.#stem = options.stem ? language?.stem : undefined;
  }

  /** In the order of the text. */
  tokens(text: string): string[] {
    const found: string[] = [];
    for (const word of this.#words(beyondAscii.test(text) ? text.normalize("NFKC") : text)) {
      for (const token of this.#tokensOf(word)) found.push(token);
    }
    return found;
  }

  /** The same, with where each stands in the text. */
  placed(text: string): PlacedToken[] {
    const found: PlacedToken[] = [];
    const { tokenizer, cjkBigrams } = this.options;
    if (tokenizer === "keyword") return this.tokens(text).map((token) => ({ token, start: 0, end: text.length }));
    const normal = beyondAscii.test(text) ? text.normalize("NFKC") : text;
    const places = normal === text ? undefined : placesIn(text, normal);
    for (const { 0: run, index } of normal.matchAll(tokenizer === "whitespace" ? pieces : words)) {
      let from = index;
      for (const word of this.#split(run)) {
        const at = normal.indexOf(word, from);
        const end = at + word.length;
        // Pairs of characters overlap.
        from = cjkBigrams ? at + 1 : end;
        const place = { start: places?.starts[at] ?? at, end: places?.ends[end - 1] ?? end };
        for (const token of this.#tokensOf(word)) found.push({ token, ...place });
      }
    }
    return found;
  }

  #words(text: string): readonly string[] {
    const { tokenizer } = this.options;
    if (tokenizer === "keyword") return text.trim() === "" ? [] : [text.trim()];
    if (tokenizer === "whitespace") return text.match(pieces) ?? [];
    if (!beyondAscii.test(text)) return text.match(asciiWords) ?? [];
    const runs = text.match(words) ?? [];
    return unspaced.test(text) || cjk.test(text) ? runs.flatMap((run) => this.#split(run)) : runs;
  }

  /** The words in a run of letters. */
  #split(run: string): string[] {
    const { tokenizer, cjkBigrams } = this.options;
    if (tokenizer === "whitespace") return [run];
    if (cjkBigrams && cjk.test(run)) {
      return (run.match(cjkRuns) ?? []).flatMap((part) => (cjk.test(part) ? bigrams(part) : [part]));
    }
    if (!unspaced.test(run)) return [run];
    return segmented(run);
  }

  #tokensOf(word: string): readonly string[] {
    const known = this.#remembered.get(word);
    if (known !== undefined) return known;
    // The index keeps the tokens, and the text is not to be kept with them.
    const own = ownText(word);
    const tokens = this.#derive(own);
    if (word.length > tokenLengthMax) return tokens;
    if (this.#remembered.size >= rememberedMax) this.#remembered.clear();
    this.#remembered.set(own, tokens);
    return tokens;
  }

  #derive(word: string): readonly string[] {
    const folded = this.#foldNormal(word);
    if (folded === "" || this.#stopwords.has(folded)) return [];
    const { tokenizer, minGram, maxGram } = this.options;
    if (tokenizer === "ngram" || tokenizer === "edgeNgram")
      return grams(folded, minGram, maxGram, tokenizer === "edgeNgram");
    const stemmed = this.#stem === undefined ? folded : this.#stem(folded);
    return [(stemmed === "" ? folded : stemmed).slice(0, tokenLengthMax)];
  }

  /** A word as its tokens are before they are stemmed. */
  fold(word: string): string {
    return this.#foldNormal(word.normalize("NFKC"));
  }

  /** Of a word in NFKC. Case is folded as Unicode has it (CaseFolding.txt, C and F) where lower case alone leaves two spellings: ß and ss, ς and σ. */
  #foldNormal(word: string): string {
    const { lowercase, foldAccents, language } = this.options;
    // Of the Turkish I the lower case is ı, and that of İ is i.
    const isTurkish = language === "turkish";
    let lower = !lowercase ? word : isTurkish ? word.toLocaleLowerCase("tr") : word.toLowerCase();
    if (lowercase && beyondAscii.test(lower)) lower = lower.replaceAll("ß", "ss").replaceAll("ς", "σ");
    if (!foldAccents || !beyondAscii.test(lower)) return lower;
    const bare = lower.normalize("NFD").replace(accents, "").normalize("NFC");
    return bare.replace(letters, (letter) => bareLetters[letter] ?? letter);
  }
}

/** A character with what NFKC may compose it with: marks, vowels and finals of Hangul, marks of half-width Katakana. */
const composed = /[^][\p{M}\u1160-\u11ff\uff9e\uff9f]*/gu;

/** For each UTF-16 unit of a text in NFKC, where what it is made of begins and ends in the text; undefined where that cannot be told. */
function placesIn(text: string, normal: string): { starts: Uint32Array; ends: Uint32Array } | undefined {
  const starts = new Uint32Array(normal.length);
  const ends = new Uint32Array(normal.length);
  let at = 0;
  for (const { 0: piece, index } of text.matchAll(composed)) {
    const until = at + piece.normalize("NFKC").length;
    starts.fill(index, at, until);
    ends.fill(index + piece.length, at, until);
    at = until;
  }
  return at === normal.length ? { starts, ends } : undefined;
}

function bigrams(run: string): string[] {
  const characters = [...run];
  if (characters.length < 2) return characters;
  return characters.slice(1).map((second, i) => `${characters[i] ?? ""}${second}`);
}

/** Words that are shorter than the shortest part stay as they are. */
function grams(word: string, min: number, max: number, isEdge: boolean): string[] {
  const characters = [...word].slice(0, tokenLengthMax);
  if (characters.length < min) return [word];
  const found: string[] = [];
  const lastStart = isEdge ? 0 : characters.length - min;
  for (let start = 0; start <= lastStart; start++) {
    for (let length = min; length <= max && start + length <= characters.length; length++) {
      found.push(characters.slice(start, start + length).join(""));
    }
  }
  return found;
}

const analyzers = new Map<string, Analyzer>();
/** Analyzers that are kept: queries may bring ones of their own. */
const keptMax = 256;

/** The analyzer with these options; the same one for the same options, so that what it remembers is of use. */
export function analyzerOf(options: AnalyzerOptions): Analyzer {
  const key = JSON.stringify(options);
  let analyzer = analyzers.get(key);
  if (analyzer === undefined) {
    if (analyzers.size >= keptMax) analyzers.clear();
    analyzers.set(key, (analyzer = new Analyzer(options)));
  }
  return analyzer;
}
