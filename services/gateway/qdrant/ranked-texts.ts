import { KithError } from "../../../libs/base/index.js";
import { isJsonObject, type JsonObject, type JsonValue } from "../../../libs/model/index.js";
import { analyzerTo, pb } from "../../../libs/wire/index.js";
import { analyzerOptions } from "./inference.js";
import { below, numberOf, objectOf, optional, required, textOf, wordOf } from "./values.js";

/*
 * An index of texts with `scoring` is two of Kith's: that of the words, which filters ask, and one by BM25 beside it, by which queries of texts are ranked.
 */

const prefix = "bm25_of.";

/** The name of the index by BM25 of the texts under a path. */
export function rankedName(path: string): string {
  return prefix + path;
}

export function isRankedName({ path, kind }: pb.PayloadIndex): boolean {
  return kind === pb.PayloadIndexKind.BM25 && path.startsWith(prefix);
}

/** The index by BM25 that goes with one of texts; undefined where its parameters ask for none. */
export function rankedIndex(path: string, params: JsonObject, at: string): pb.PayloadIndex | undefined {
  const scoring = optional(params, "scoring", at, objectOf);
  if (scoring === undefined) return undefined;
  required(scoring, "type", below(at, "scoring"), wordOf(["bm25"]));
  const isSpaced = params["tokenizer"] === "whitespace";
  const tokenizer = isSpaced ? "whitespace" : "word";
  const analyzer = analyzerTo(analyzerOptions({ ...params, tokenizer, language: "none" }, at));
  return pb.PayloadIndex.create({
    path: rankedName(path),
    kind: pb.PayloadIndexKind.BM25,
    bm25: { fields: [{ path }], analyzer },
  });
}

const defaults = { k: 1.2, b: 0.75 };

/** A query of a text; UNIMPLEMENTED for weights that are not those of the index. */
export function textQueryOf(value: JsonValue | undefined, at: string): pb.TextQuery {
  const query = isJsonObject(value) ? value : { query: value ?? null };
  const scoring = optional(query, "scoring", at, objectOf) ?? {};
  const weights = optional(scoring, "bm25", below(at, "scoring"), objectOf) ?? {};
  for (const name of ["k", "b"] as const) {
    const weight = optional(weights, name, below(at, "scoring.bm25"), numberOf) ?? defaults[name];
    if (Math.fround(weight) === Math.fround(defaults[name])) continue;
    const message = `${at}.scoring.bm25.${name}: ${weight}: the weights are those of the index here, k 1.2 and b 0.75`;
    throw new KithError("UNIMPLEMENTED", message, { details: { field: `${at}.scoring.bm25.${name}` } });
  }
  return pb.TextQuery.create({ text: required(query, "query", at, textOf), plain: true });
}
