import { KithError, limits } from "../base/index.js";
import { readPath } from "./path.js";

export const analyzerTokenizers = ["word", "whitespace", "keyword", "ngram", "edgeNgram"] as const;
export type AnalyzerTokenizer = (typeof analyzerTokenizers)[number];

/** Languages with a stemmer and a list of stop words. */
export const analyzerLanguages = [
  ...["arabic", "armenian", "bulgarian", "danish", "dutch", "english", "finnish", "french", "german", "greek"],
  ...["hungarian", "indian", "indonesian", "irish", "italian", "lithuanian", "nepali", "norwegian", "portuguese"],
  ...["romanian", "russian", "serbian", "spanish", "swedish", "tamil", "turkish", "ukrainian", "sanskrit"],
] as const;
export type AnalyzerLanguage = (typeof analyzerLanguages)[number];

/** How a text becomes tokens. NFKC comes first, whatever is chosen. */
export interface AnalyzerOptions {
  /**
   * word: Unicode's words. whitespace: what stands between white space. keyword: the whole text. ngram, edgeNgram: parts of words, of
   * `minGram` to `maxGram` characters; those of edgeNgram begin where their word does.
   */
  tokenizer: AnalyzerTokenizer;
  /** Of stop words and stemmer; missing: none of them. */
  language?: AnalyzerLanguage;
  lowercase: boolean;
  /** Whether letters lose their accents. */
  foldAccents: boolean;
  removeStopwords: boolean;
  stem: boolean;
  /** Further words that are left out. */
  stopwords: readonly string[];
  minGram: number;
  maxGram: number;
  /** Whether runs of Chinese, Japanese and Korean characters become pairs of neighbours, instead of words by a dictionary. */
  cjkBigrams: boolean;
}

export const analyzerDefaults: AnalyzerOptions = {
  tokenizer: "word",
  lowercase: true,
  foldAccents: false,
  removeStopwords: true,
  stem: true,
  stopwords: [],
  minGram: 2,
  maxGram: 4,
  cjkBigrams: false,
};

/** One of the texts that an index is made of. */
export interface Bm25Field {
  /** In the payload; texts in arrays count as one. */
  path: string;
  /** How much a token there counts, against one of another field. */
  weight: number;
  /** How much the length of the text counts, 0 to 1. */
  b: number;
}

/** An index of texts by BM25; of several fields by BM25F. */
export interface Bm25Options {
  /** 1 to 8. */
  fields: readonly Bm25Field[];
  /** How soon further occurrences of a term count no more. */
  k1: number;
  analyzer: AnalyzerOptions;
}

export const bm25Defaults = { k1: 1.2, b: 0.75, weight: 1 } as const;

/** The text of a query, and how it is read. */
export interface TextQuery {
  text: string;
  /** Instead of that of the index. */
  analyzer?: AnalyzerOptions | undefined;
  /** Whether +, -, quotes, *, ~, ^, parentheses, AND, OR and NOT are nothing but characters of the text. */
  plain: boolean;
}

const gramMax = 20;

/** INVALID_SCHEMA, or another code where the analyzer is one of a query. */
export function checkAnalyzer(
  { tokenizer, language, minGram, maxGram, stopwords }: AnalyzerOptions,
  at: string,
  code: "INVALID_SCHEMA" | "INVALID_ARGUMENT" = "INVALID_SCHEMA",
): void {
  const wrong = (what: string): KithError => new KithError(code, `${at} ${what}`, { details: { path: at } });
  if (!(analyzerTokenizers as readonly string[]).includes(tokenizer)) {
    throw wrong(`has the tokenizer "${tokenizer}"; use one of ${analyzerTokenizers.join(", ")}`);
  }
  if (language !== undefined && !(analyzerLanguages as readonly string[]).includes(language)) {
    throw wrong(`has the language "${language}"; use one of ${analyzerLanguages.join(", ")}, or none`);
  }
  if (
    !(
      Number.isInteger(minGram) &&
      Number.isInteger(maxGram) &&
      minGram >= 1 &&
      minGram <= maxGram &&
      maxGram <= gramMax
    )
  ) {
    throw wrong(
      `has grams of ${minGram} to ${maxGram} characters; give whole numbers of 1 to ${gramMax}, the lower one first`,
    );
  }
  if (stopwords.length > limits.stopwordsMax) {
    throw wrong(`has ${stopwords.length} stop words; at most ${limits.stopwordsMax} are allowed`);
  }
}

/** INVALID_SCHEMA. */
export function checkBm25({ fields, k1, analyzer }: Bm25Options, path: string): void {
  const wrong = (what: string): KithError =>
    new KithError("INVALID_SCHEMA", `the index "${path}" ${what}`, { details: { path } });
  if (fields.length < 1 || fields.length > limits.bm25FieldsMax) {
    throw wrong(`is of ${fields.length} fields; give 1 to ${limits.bm25FieldsMax}`);
  }
  const paths = new Set<string>();
  for (const field of fields) {
    const read = readPath(field.path);
    if (!("steps" in read))
      throw wrong(`has the field ${JSON.stringify(field.path)}, which is no path: ${read.problem}`);
    if (paths.has(read.text)) throw wrong(`has the field "${read.text}" twice`);
    paths.add(read.text);
    if (!(field.weight > 0 && field.weight <= 1_000))
      throw wrong(`weighs "${field.path}" ${field.weight}; give a number above 0, to 1000`);
    if (!(field.b >= 0 && field.b <= 1)) throw wrong(`has ${field.b} as b of "${field.path}"; give a number in 0..1`);
  }
  if (!(k1 > 0 && k1 <= 100)) throw wrong(`has ${k1} as k1; give a number above 0, to 100`);
  checkAnalyzer(analyzer, `the analyzer of "${path}"`);
}
