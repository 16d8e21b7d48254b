import { KithError, limits } from "../base/index.js";
import { type Bm25Options, checkBm25 } from "./bm25.js";
import { readPath } from "./path.js";
import type { TextGenerations } from "./text-generation.js";

export const payloadIndexKinds = [
  "keyword",
  "integer",
  "float",
  "bool",
  "datetime",
  "uuid",
  "geo",
  "text",
  "bm25",
] as const;
export type PayloadIndexKind = (typeof payloadIndexKinds)[number];

export const textTokenizers = ["word", "whitespace", "prefix"] as const;
export type TextTokenizer = (typeof textTokenizers)[number];

/** How an index of texts splits them. All but `phrase` is part of what conditions on the field mean. */
export interface TextIndexOptions {
  tokenizer: TextTokenizer;
  /** Shorter words are left out; in characters. */
  minTokenLength?: number;
  /** Longer words are left out, or with `prefix` cut; in characters. */
  maxTokenLength?: number;
  /** Whether upper and lower case are the same. */
  lowercase: boolean;
  /** Whether the order of words is kept, which decides phrases: else points are read for them. */
  phrase: boolean;
}

/** An index of a field of the payload. A field has one at most. */
export interface PayloadIndex {
  /** The shortest text of the path: see Path. */
  path: string;
  kind: PayloadIndexKind;
  /** A hint: most queries ask for one value of the field. */
  isTenant: boolean;
  /** A hint: most queries ask for a range of the field. */
  isPrincipal: boolean;
  /** Of an index of texts. */
  text?: TextIndexOptions;
  /** Of an index by BM25, whose `path` is but its name where fields are given. */
  bm25?: Bm25Options;
}

/** An index as the catalog and the schemas of shards have it: with the builds that there are of one by BM25. */
export interface PayloadIndexRecord extends PayloadIndex, TextGenerations {}

const tenantKinds: readonly PayloadIndexKind[] = ["keyword", "uuid", "integer"];
const principalKinds: readonly PayloadIndexKind[] = ["integer", "float", "datetime"];

/**
 * Checks an index that is to be made. INVALID_SCHEMA. Replicas check what the log brings by the same bounds: they may be widened, never
 * narrowed.
 */
export function checkPayloadIndex({ path, kind, isTenant, isPrincipal, text, bm25 }: PayloadIndex): void {
  const read = readPath(path);
  if (!("steps" in read)) throw invalid(path, `the path ${JSON.stringify(path)} is not valid: ${read.problem}`);
  if (read.text !== path)
    throw invalid(path, `the path ${JSON.stringify(path)} is written ${JSON.stringify(read.text)}`);
  if (isTenant && !tenantKinds.includes(kind)) {
    throw invalid(
      path,
      `is_tenant is for indexes of the kinds ${tenantKinds.join(", ")}; the one of "${path}" is ${kind}`,
    );
  }
  if (isPrincipal && !principalKinds.includes(kind)) {
    throw invalid(
      path,
      `is_principal is for indexes of the kinds ${principalKinds.join(", ")}; the one of "${path}" is ${kind}`,
    );
  }
  if ((text !== undefined) !== (kind === "text")) {
    throw invalid(path, `the index of "${path}" is of the kind ${kind}; options of texts are for the kind text`);
  }
  if ((bm25 !== undefined) !== (kind === "bm25")) {
    throw invalid(path, `the index of "${path}" is of the kind ${kind}; options of BM25 are for the kind bm25`);
  }
  if (bm25 !== undefined) checkBm25(bm25, path);
  if (text === undefined) return;
  const { minTokenLength = 1, maxTokenLength = limits.tokenLength } = text;
  for (const [name, value] of [
    ["min_token_length", minTokenLength],
    ["max_token_length", maxTokenLength],
  ] as const) {
    if (Number.isInteger(value) && value >= 1 && value <= limits.tokenLength) continue;
    throw invalid(path, `${name} of "${path}" is ${value}; it must be a whole number in 1..${limits.tokenLength}`);
  }
  if (minTokenLength > maxTokenLength) {
    throw invalid(
      path,
      `min_token_length of "${path}" is ${minTokenLength}, above max_token_length, ${maxTokenLength}`,
    );
  }
}

function invalid(path: string, message: string): KithError {
  return new KithError("INVALID_SCHEMA", message, { details: { path: path.slice(0, limits.pathLength) } });
}

/** The indexes with one more. INVALID_SCHEMA where the field has one, or there are as many as there may be. */
export function checkNewPayloadIndex(indexes: readonly PayloadIndex[], index: PayloadIndex): void {
  checkPayloadIndex(index);
  const present = indexes.find(({ path }) => path === index.path);
  if (present !== undefined) {
    throw invalid(
      index.path,
      `the field "${index.path}" has an index already, of the kind ${present.kind}: drop it first`,
    );
  }
  if (indexes.length >= limits.payloadIndexesMax) {
    throw invalid(index.path, `there are ${limits.payloadIndexesMax} payload indexes already; drop one first`);
  }
}

/** The index of the field; INVALID_SCHEMA lists those that exist. */
export function payloadIndexOf<T extends PayloadIndex>(indexes: readonly T[], path: string): T {
  const found = indexes.find((each) => each.path === path);
  if (found !== undefined) return found;
  const known = indexes.map((each) => `"${each.path}"`).join(", ");
  throw invalid(path, `there is no payload index of "${path}"; there ${known === "" ? "is none" : `are ${known}`}`);
}
