import { getOwn, setOwn } from "../../../libs/base/index.js";
import { isJsonObject, type JsonObject, type JsonValue, printJson } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import { type Ask, collectionOf, describe, isTrue, type Operation, tell, updated } from "./api.js";
import { isRankedName, rankedIndex, rankedName } from "./ranked-texts.js";
import { keptSettings, settingsLabels } from "./settings.js";
import { countOf, flagOf, JsonText, member, optional, type Reply, required, textOf, wordOf } from "./values.js";

const service = pb.CollectionsService;
const types = ["keyword", "integer", "float", "geo", "text", "bool", "datetime", "uuid"] as const;
const kinds = {
  keyword: pb.PayloadIndexKind.KEYWORD,
  integer: pb.PayloadIndexKind.INTEGER,
  float: pb.PayloadIndexKind.FLOAT,
  geo: pb.PayloadIndexKind.GEO,
  text: pb.PayloadIndexKind.TEXT,
  bool: pb.PayloadIndexKind.BOOL,
  datetime: pb.PayloadIndexKind.DATETIME,
  uuid: pb.PayloadIndexKind.UUID,
} as const;
const typeOf = (kind: pb.PayloadIndexKind): string => types.find((type) => kinds[type] === kind) ?? "keyword";

const tokenizers = {
  word: pb.TextTokenizer.WORD,
  // Words of scripts without spaces are split in either.
  multilingual: pb.TextTokenizer.WORD,
  whitespace: pb.TextTokenizer.WHITESPACE,
  prefix: pb.TextTokenizer.PREFIX,
  // The parts of names in programs are not told apart.
  code: pb.TextTokenizer.WORD,
} as const;

function indexOf(path: string, value: JsonValue | undefined): pb.PayloadIndex {
  const at = "field_schema";
  const params: JsonObject = isJsonObject(value) ? value : {};
  const type = isJsonObject(value) ? required(params, "type", at, wordOf(types)) : wordOf(types)(value, at);
  const flag = (key: string): boolean => optional(params, key, at, flagOf) ?? false;
  return {
    path,
    kind: kinds[type],
    isTenant: (type === "keyword" || type === "uuid") && flag("is_tenant"),
    isPrincipal: (type === "integer" || type === "float" || type === "datetime") && flag("is_principal"),
    text: type === "text" ? textOptions(params, at) : undefined,
    bm25: undefined,
  };
}

function textOptions(params: JsonObject, at: string): pb.TextIndexOptions {
  const tokenizer =
    optional(params, "tokenizer", at, wordOf(["word", "whitespace", "prefix", "multilingual", "code"])) ?? "word";
  return {
    tokenizer: tokenizers[tokenizer],
    minTokenLength: optional(params, "min_token_len", at, countOf) ?? 0,
    maxTokenLength: optional(params, "max_token_len", at, countOf) ?? 0,
    lowercase: optional(params, "lowercase", at, flagOf) ?? true,
    phrase: optional(params, "phrase_matching", at, flagOf) ?? false,
  };
}

export const createIndex: Operation = async (ask) => {
  const path = required(ask.body, "field_name", "", textOf);
  const given = member(ask.body, "field_schema") ?? member(ask.body, "field_type");
  const index = indexOf(path, given);
  const collection = await describe(ask);
  const before = collection.payloadIndexes.find((each) => each.path === path);
  const wait = isTrue(ask.params.get("wait"), "wait");
  const name = collectionOf(ask);
  const isSame = before !== undefined && same(before, index);
  // An index of another kind takes the place of that which there is.
  if (before !== undefined && !isSame) await tell(ask, service.dropPayloadIndex, { collection: name, path });
  if (!isSame) await tell(ask, service.createPayloadIndex, { collection: name, index, wait });
  await rankTexts(ask, collection, path, given, wait);
  await keepParams(ask, collection, path, isJsonObject(given) ? given : undefined);
  return updated(ask, undefined);
};

/** Makes the index by BM25 that goes with one of texts, in the place of another one that there is. */
async function rankTexts(
  ask: Ask,
  { payloadIndexes, labels }: pb.Collection,
  path: string,
  given: JsonValue | undefined,
  wait: boolean,
): Promise<void> {
  const collection = collectionOf(ask);
  const isText = isJsonObject(given) && given["type"] === "text";
  const index = isText ? rankedIndex(path, given, "field_schema") : undefined;
  const name = rankedName(path);
  const before = payloadIndexes.find((each) => each.path === name);
  if (before !== undefined && index !== undefined && isKept(labels, path, given)) return;
  if (before !== undefined) await tell(ask, service.dropPayloadIndex, { collection, path: name });
  if (index !== undefined) await tell(ask, service.createPayloadIndex, { collection, index, wait });
}

function same(a: pb.PayloadIndex, b: pb.PayloadIndex): boolean {
  const text = (index: pb.PayloadIndex): string =>
    JSON.stringify([
      index.kind,
      index.isTenant,
      index.isPrincipal,
      index.text?.tokenizer,
      index.text?.minTokenLength,
      index.text?.maxTokenLength,
      index.text?.lowercase ?? true,
      index.text?.phrase ?? true,
    ]);
  return text(a) === text(b);
}

/** Whether an index was made with these very parameters. */
function isKept(labels: pb.Collection["labels"], path: string, params: JsonValue | undefined): boolean {
  const { indexes } = keptSettings(labels);
  const kept = isJsonObject(indexes) ? getOwn(indexes, path) : undefined;
  return kept !== undefined && params !== undefined && printJson(kept) === printJson(params);
}

/** The parameters of an index as they were given, to be reported. */
async function keepParams(
  ask: Ask,
  { name, labels }: pb.Collection,
  path: string,
  params: JsonObject | undefined,
): Promise<void> {
  const settings = keptSettings(labels);
  const indexes: JsonObject = isJsonObject(settings["indexes"]) ? { ...settings["indexes"] } : {};
  if (params === undefined && !Object.hasOwn(indexes, path)) return;
  if (params === undefined) delete indexes[path];
  else setOwn(indexes, path, params);
  const changed = settingsLabels({ ...settings, indexes }, labels);
  await tell(ask, service.update, { name, efSearch: {}, labels: changed, strictMode: undefined });
}

export const deleteIndex: Operation = async (ask) => {
  const path = ask.path["field_name"] ?? "";
  const collection = await describe(ask);
  if (collection.payloadIndexes.some((each) => each.path === path)) {
    await tell(ask, service.dropPayloadIndex, { collection: collectionOf(ask), path });
    await rankTexts(ask, collection, path, undefined, false);
    await keepParams(ask, collection, path, undefined);
  }
  return updated(ask, undefined);
};

/** `payload_schema` of a collection. */
export async function indexInfos(
  ask: Ask,
  { name, payloadIndexes: all }: pb.Collection,
  settings: JsonObject,
  isReady: boolean,
): Promise<Reply> {
  const payloadIndexes = all.filter((index) => !isRankedName(index));
  if (payloadIndexes.length === 0) return {};
  const { indexes } = isReady ? await tell(ask, service.listPayloadIndexes, { collection: name }) : { indexes: [] };
  const points = new Map(indexes.map(({ index, valuePointCount }) => [index?.path, valuePointCount]));
  const given = isJsonObject(settings["indexes"]) ? settings["indexes"] : {};
  return Object.fromEntries(
    payloadIndexes.map((index) => [
      index.path,
      { data_type: typeOf(index.kind), params: paramsOf(index, given), points: points.get(index.path) ?? 0 },
    ]),
  );
}

function paramsOf({ path, kind, text }: pb.PayloadIndex, given: JsonObject): Reply | undefined {
  const own = getOwn(given, path);
  if (isJsonObject(own)) return new JsonText(printJson(own));
  if (kind !== pb.PayloadIndexKind.TEXT || text === undefined) return undefined;
  const { minTokenLength, maxTokenLength } = text;
  const tokenizer = Object.entries(tokenizers).find(([, value]) => value === text.tokenizer)?.[0] ?? "word";
  return {
    type: "text",
    tokenizer,
    lowercase: text.lowercase ?? true,
    min_token_len: minTokenLength === 0 ? undefined : minTokenLength,
    max_token_len: maxTokenLength === 0 ? undefined : maxTokenLength,
    phrase_matching: text.phrase ?? true,
  };
}
