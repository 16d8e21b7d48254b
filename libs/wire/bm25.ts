import { getOwn, KithError } from "../base/index.js";
import {
  analyzerDefaults,
  type AnalyzerLanguage,
  type AnalyzerOptions,
  type AnalyzerTokenizer,
  bm25Defaults,
  type Bm25Options,
  readPath,
  type TextQuery,
} from "../model/index.js";
import * as pb from "./gen/kith/v1/text.js";

const tokenizers: Record<number, AnalyzerTokenizer | undefined> = {
  [pb.AnalyzerTokenizer.UNSPECIFIED]: "word",
  [pb.AnalyzerTokenizer.WORD]: "word",
  [pb.AnalyzerTokenizer.WHITESPACE]: "whitespace",
  [pb.AnalyzerTokenizer.KEYWORD]: "keyword",
  [pb.AnalyzerTokenizer.NGRAM]: "ngram",
  [pb.AnalyzerTokenizer.EDGE_NGRAM]: "edgeNgram",
};
const tokenizerNumbers: Record<AnalyzerTokenizer, pb.AnalyzerTokenizer> = {
  word: pb.AnalyzerTokenizer.WORD,
  whitespace: pb.AnalyzerTokenizer.WHITESPACE,
  keyword: pb.AnalyzerTokenizer.KEYWORD,
  ngram: pb.AnalyzerTokenizer.NGRAM,
  edgeNgram: pb.AnalyzerTokenizer.EDGE_NGRAM,
};

/** Undefined for a tokenizer that this release does not know. What is out of its bounds is told by checkAnalyzer. */
function analyzerFrom(message: pb.Analyzer | undefined): AnalyzerOptions | undefined {
  if (message === undefined) return analyzerDefaults;
  const tokenizer = tokenizers[message.tokenizer];
  if (tokenizer === undefined) return undefined;
  const { lowercase, removeStopwords, stem, minGram, maxGram } = message;
  return {
    tokenizer,
    ...(message.language !== "" && { language: message.language as AnalyzerLanguage }),
    lowercase: lowercase ?? true,
    foldAccents: message.foldAccents,
    removeStopwords: removeStopwords ?? true,
    stem: stem ?? true,
    stopwords: message.stopwords,
    minGram: minGram === 0 ? analyzerDefaults.minGram : minGram,
    maxGram: maxGram === 0 ? Math.max(analyzerDefaults.maxGram, minGram) : maxGram,
    cjkBigrams: message.cjkBigrams,
  };
}

export function analyzerTo({ tokenizer, language, stopwords, ...rest }: AnalyzerOptions): pb.Analyzer {
  // An unknown one is none of the table, and is refused by the server.
  return {
    ...rest,
    tokenizer: getOwn(tokenizerNumbers, tokenizer) ?? pb.AnalyzerTokenizer.UNRECOGNIZED,
    language: language ?? "",
    stopwords: [...stopwords],
  };
}

/** Undefined for an analyzer that this release does not know. */
export function bm25From(message: pb.Bm25Options | undefined, path: string): Bm25Options | undefined {
  const analyzer = analyzerFrom(message?.analyzer);
  if (analyzer === undefined) return undefined;
  const fields =
    message === undefined || message.fields.length === 0 ? [{ path, weight: undefined, b: undefined }] : message.fields;
  return {
    fields: fields.map((field) => {
      const read = readPath(field.path);
      return {
        path: "steps" in read ? read.text : field.path,
        weight: field.weight ?? bm25Defaults.weight,
        b: field.b ?? bm25Defaults.b,
      };
    }),
    k1: message?.k1 ?? bm25Defaults.k1,
    analyzer,
  };
}

export function bm25To({ fields, k1, analyzer }: Bm25Options): pb.Bm25Options {
  return { fields: fields.map((field) => ({ ...field })), k1, analyzer: analyzerTo(analyzer) };
}

/** INVALID_ARGUMENT names the node by `at`. */
export function textQueryFrom({ text, analyzer, plain }: pb.TextQuery, at: string): TextQuery {
  const options = analyzer && analyzerFrom(analyzer);
  if (analyzer !== undefined && options === undefined) {
    throw new KithError("INVALID_ARGUMENT", `${at}.analyzer has a tokenizer that does not exist`, {
      details: { path: `${at}.analyzer` },
    });
  }
  return { text, plain, ...(options !== undefined && { analyzer: options }) };
}
