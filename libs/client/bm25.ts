import { analyzerDefaults, bm25Defaults, type Bm25Options } from "../model/index.js";
import { analyzerTo, type pb } from "../wire/index.js";
import { onlyKeys } from "./only-keys.js";
import { analyzerKeys, bm25FieldKeys, bm25Keys } from "./option-keys.js";
import type { AnalyzerInput } from "./types/expressions.js";
import { wellFormed } from "./well-formed.js";

/** Of an index by BM25; what is missing is the default. */
export interface Bm25Input {
  /** Texts in the payload, 1 to 8. Default: the path of the index. */
  fields?: readonly { path: string; weight?: number; b?: number }[];
  k1?: number;
  analyzer?: AnalyzerInput;
}

export function analyzerToWire(analyzer: AnalyzerInput, at: string): pb.Analyzer {
  onlyKeys(analyzer, analyzerKeys, at);
  checkStopwords(analyzer, at);
  const { maxGram = Math.max(analyzerDefaults.maxGram, analyzer.minGram ?? 0) } = analyzer;
  return analyzerTo({ ...analyzerDefaults, ...analyzer, maxGram });
}

function checkStopwords({ stopwords = [] }: AnalyzerInput, at: string): void {
  for (const [i, word] of stopwords.entries()) wellFormed(word, `${at}.stopwords[${i}]`);
}

/** The options with their defaults; the server checks them. */
export function bm25Of(path: string, input: Bm25Input = {}): Bm25Options {
  onlyKeys(input, bm25Keys, "options.bm25");
  const { fields = [{ path }], k1 = bm25Defaults.k1, analyzer = {} } = input;
  onlyKeys(analyzer, analyzerKeys, "options.bm25.analyzer");
  checkStopwords(analyzer, "options.bm25.analyzer");
  return {
    fields: fields.map((field, i) => {
      onlyKeys(field, bm25FieldKeys, "options.bm25.fields");
      const path = wellFormed(field.path, `options.bm25.fields[${i}].path`);
      return { path, weight: field.weight ?? bm25Defaults.weight, b: field.b ?? bm25Defaults.b };
    }),
    k1,
    analyzer: { ...analyzerDefaults, ...analyzer },
  };
}
