import {
  type PayloadIndex,
  type PayloadIndexKind,
  readPath,
  type TextIndexOptions,
  type TextTokenizer,
  type UnindexedField,
} from "../model/index.js";
import { bm25From, bm25To } from "./bm25.js";
import * as pb from "./gen/kith/v1/collections.js";

const kinds: Record<number, PayloadIndexKind | undefined> = {
  [pb.PayloadIndexKind.KEYWORD]: "keyword",
  [pb.PayloadIndexKind.INTEGER]: "integer",
  [pb.PayloadIndexKind.FLOAT]: "float",
  [pb.PayloadIndexKind.BOOL]: "bool",
  [pb.PayloadIndexKind.DATETIME]: "datetime",
  [pb.PayloadIndexKind.UUID]: "uuid",
  [pb.PayloadIndexKind.GEO]: "geo",
  [pb.PayloadIndexKind.TEXT]: "text",
  [pb.PayloadIndexKind.BM25]: "bm25",
};
const tokenizers: Record<number, TextTokenizer | undefined> = {
  [pb.TextTokenizer.UNSPECIFIED]: "word",
  [pb.TextTokenizer.WORD]: "word",
  [pb.TextTokenizer.WHITESPACE]: "whitespace",
  [pb.TextTokenizer.PREFIX]: "prefix",
};
const kindNumbers: Record<PayloadIndexKind, pb.PayloadIndexKind> = {
  keyword: pb.PayloadIndexKind.KEYWORD,
  integer: pb.PayloadIndexKind.INTEGER,
  float: pb.PayloadIndexKind.FLOAT,
  bool: pb.PayloadIndexKind.BOOL,
  datetime: pb.PayloadIndexKind.DATETIME,
  uuid: pb.PayloadIndexKind.UUID,
  geo: pb.PayloadIndexKind.GEO,
  text: pb.PayloadIndexKind.TEXT,
  bm25: pb.PayloadIndexKind.BM25,
};
const tokenizerNumbers: Record<TextTokenizer, pb.TextTokenizer> = {
  word: pb.TextTokenizer.WORD,
  whitespace: pb.TextTokenizer.WHITESPACE,
  prefix: pb.TextTokenizer.PREFIX,
};

/**
 * The index that a message describes, with the path in its shortest form where it is one at all; undefined for a kind or a tokenizer that
 * this release does not know.
 */
export function payloadIndexFrom(message: pb.PayloadIndex): PayloadIndex | undefined {
  const kind = kinds[message.kind];
  if (kind === undefined) return undefined;
  const read = readPath(message.path);
  const path = "steps" in read ? read.text : message.path;
  const index: PayloadIndex = { path, kind, isTenant: message.isTenant, isPrincipal: message.isPrincipal };
  if (kind === "bm25" || message.bm25 !== undefined) {
    const bm25 = bm25From(message.bm25, path);
    if (bm25 === undefined) return undefined;
    index.bm25 = bm25;
  }
  if (kind !== "text" && message.text === undefined) return index;
  const {
    tokenizer: number = 0,
    minTokenLength = 0,
    maxTokenLength = 0,
    lowercase = true,
    phrase = true,
  } = message.text ?? {};
  const tokenizer = tokenizers[number];
  if (tokenizer === undefined) return undefined;
  const text: TextIndexOptions = {
    tokenizer,
    ...(minTokenLength > 0 && { minTokenLength }),
    ...(maxTokenLength > 0 && { maxTokenLength }),
    lowercase,
    phrase,
  };
  return { ...index, text };
}

export function payloadIndexTo({ path, kind, isTenant, isPrincipal, text, bm25 }: PayloadIndex): pb.PayloadIndex {
  return {
    path,
    kind: kindNumbers[kind],
    isTenant,
    isPrincipal,
    bm25: bm25 && bm25To(bm25),
    text: text && {
      tokenizer: tokenizerNumbers[text.tokenizer],
      minTokenLength: text.minTokenLength ?? 0,
      maxTokenLength: text.maxTokenLength ?? 0,
      lowercase: text.lowercase,
      phrase: text.phrase,
    },
  };
}

/** Without kinds that this release does not know. */
export function unindexedFieldFrom({ path, kinds: numbers, count }: pb.UnindexedField): UnindexedField {
  return { path, kinds: numbers.map((number) => kinds[number]).filter((kind) => kind !== undefined), count };
}

export function unindexedFieldTo({ path, kinds: names, count }: UnindexedField): pb.UnindexedField {
  return { path, kinds: names.map((kind) => kindNumbers[kind]), count };
}
