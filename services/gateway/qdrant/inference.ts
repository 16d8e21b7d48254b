import { KithError } from "../../../libs/base/index.js";
import { bm25Document, bm25Query, bm25WeightDefaults } from "../../../libs/embedding/index.js";
import {
  analyzerDefaults,
  type AnalyzerLanguage,
  analyzerLanguages,
  type AnalyzerOptions,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  type SparseVector,
} from "../../../libs/model/index.js";
import { analyzerOf, stopwordsOf } from "../../../libs/text/index.js";
import {
  below,
  countOf,
  eachOf,
  flagOf,
  listOf,
  member,
  numberOf,
  objectOf,
  optional,
  required,
  textOf,
  wordOf,
  wrong,
} from "./values.js";

/* Objects that stand for vectors, which a model makes of them. Kith has one model: BM25, of texts. */

const bm25 = "qdrant/bm25";

/** Of a point, or of a query: in these, a word counts once. */
export type Role = "document" | "query";

/** Whether an object is what a model makes a vector of, and not vectors by name: these may be called "text" or "image" too. */
export function isInference(object: JsonObject): boolean {
  return Object.hasOwn(object, "model") && typeof object["model"] === "string";
}

/** The vector of a text. UNIMPLEMENTED, which names the model, for all others. */
export function inferred(object: JsonObject, at: string, role: Role): SparseVector {
  const model = required(object, "model", at, textOf);
  const kind = ["text", "image", "object"].find((name) => Object.hasOwn(object, name));
  if (kind !== "text" || model.toLowerCase() !== bm25) {
    const what = kind === "text" ? "" : ` of ${kind === undefined ? "nothing" : `an ${kind}`}`;
    throw new KithError(
      "UNIMPLEMENTED",
      `${at}: there is no model ${JSON.stringify(model.slice(0, 80))} that makes vectors${what} here; texts are embedded by ${JSON.stringify(bm25)}, for others give the vector`,
      { details: { field: at, model: model.slice(0, 80) } },
    );
  }
  const options = optional(object, "options", at, objectOf) ?? {};
  const where = below(at, "options");
  const tokens = tokensOf(required(object, "text", at, textOf), options, where);
  if (role === "query") {
    const vector = bm25Query(tokens);
    return vector.indices.length === 0 ? foundNowhere : vector;
  }
  const weight = (name: string, least: number): number | undefined => {
    const value = optional(options, name, where, numberOf);
    if (value === undefined || (Number.isFinite(value) && value >= least)) return value;
    throw wrong(below(where, name), `${value} is below ${least}`);
  };
  const averageLength = weight("avg_len", 1) ?? bm25WeightDefaults.averageLength;
  const [k, b] = [weight("k", 0) ?? bm25WeightDefaults.k, weight("b", 0) ?? bm25WeightDefaults.b];
  if (b > 1) throw wrong(below(where, "b"), `${b} is above 1`);
  return bm25Document(tokens, { k, b, averageLength });
}

/** Asks for an index that no word has: a text without words is found nowhere. */
const foundNowhere: SparseVector = { indices: Uint32Array.of(2 ** 32 - 1), values: Float32Array.of(1) };

function tokensOf(text: string, options: JsonObject, at: string): string[] {
  const tokens = analyzerOf(analyzerOptions(options, at)).tokens(text);
  const least = optional(options, "min_token_len", at, countOf) ?? 0;
  const most = optional(options, "max_token_len", at, countOf) ?? Number.POSITIVE_INFINITY;
  if (least === 0 && most === Number.POSITIVE_INFINITY) return tokens;
  return tokens.filter((token) => {
    const length = [...token].length;
    return length >= least && length <= most;
  });
}

export function analyzerOptions(options: JsonObject, at: string): AnalyzerOptions {
  const tokenizer = optional(options, "tokenizer", at, wordOf(["word", "whitespace", "multilingual"])) ?? "word";
  const named = optional(options, "language", at, textOf) ?? "english";
  // Its old name for neither a stemmer nor stop words.
  const language = named === "none" ? undefined : languageOf(named, below(at, "language"));
  const stemmer = stemmerOf(member(options, "stemmer"), language, below(at, "stemmer"));
  const given = member(options, "stopwords");
  const base: AnalyzerOptions = {
    ...analyzerDefaults,
    // Words of scripts without spaces are split in either.
    tokenizer: tokenizer === "whitespace" ? "whitespace" : "word",
    lowercase: optional(options, "lowercase", at, flagOf) ?? true,
    foldAccents: optional(options, "ascii_folding", at, flagOf) ?? false,
    stem: stemmer !== undefined,
    ...(stemmer !== undefined && { language: stemmer }),
  };
  if (given === undefined && stemmer === language) return base;
  return { ...base, removeStopwords: false, stopwords: stopwordsIn(given, language, below(at, "stopwords")) };
}

function languageOf(value: JsonValue | undefined, at: string): AnalyzerLanguage {
  return wordOf(analyzerLanguages)(typeof value === "string" ? value.toLowerCase() : value, at);
}

/** The language of the stemmer; undefined for none. */
function stemmerOf(
  value: JsonValue | undefined,
  language: AnalyzerLanguage | undefined,
  at: string,
): AnalyzerLanguage | undefined {
  if (value === undefined) return language;
  const stemmer = objectOf(value, at);
  return required(stemmer, "type", at, wordOf(["snowball", "none"])) === "none"
    ? undefined
    : required(stemmer, "language", at, languageOf);
}

/** A language, or an object of `languages` and `custom` words; nothing: those of the language. */
function stopwordsIn(value: JsonValue | undefined, language: AnalyzerLanguage | undefined, at: string): string[] {
  if (value === undefined) return language === undefined ? [] : [...stopwordsOf(language)];
  if (!isJsonObject(value)) return [...stopwordsOf(languageOf(value, at))];
  const list = <T>(name: string, read: (each: JsonValue | undefined, where: string) => T): T[] =>
    optional(value, name, at, (all, where) => eachOf(listOf(all, where), where, read)) ?? [];
  return [...list("languages", languageOf).flatMap((each) => [...stopwordsOf(each)]), ...list("custom", textOf)];
}
