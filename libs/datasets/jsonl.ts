import { type JsonMember, jsonMembers } from "../model/index.js";
import type { ByteReader } from "./byte-reader.js";
import {
  type DataRecord,
  exactNumber,
  expiryOf,
  type Fail,
  failAt,
  type Fields,
  fieldsOf,
  isObject,
  kindOf,
  RecordBatches,
  type RecordFields,
  sparseApart,
  surplusFields,
  vectorsOf,
} from "./records.js";
import type { DatasetBatch, DatasetPayload, ReadDatasetOptions } from "./types.js";

/** The longest line that is read: sixteen vectors of the highest dimension would fit in text, with a payload. */
const lineMaxBytes = 16 * 1024 * 1024;

const decoder = new TextDecoder("utf-8", { fatal: true });

/**
 * JSON lines: one object a line, either {"id", "vector" or "vectors", "payload", "expiresAt"}, sparse vectors among the named ones as {"indices",
 * "values"}, or a flat record whose other fields are
 * the payload. Flat is what has no field "payload" that is an object or null.
 */
export async function* readJsonl(
  reader: ByteReader,
  options: ReadDatasetOptions,
): AsyncGenerator<DatasetBatch, void, undefined> {
  const fields = fieldsOf(options);
  const skip = options.skipRows ?? 0;
  const end = skip + (options.limitRows ?? Infinity);
  const batches = new RecordBatches(reader.name, "line", options);
  let row = 0;
  for (; row < end; row++) {
    const bytes = await reader.line(lineMaxBytes, () => row + 1);
    if (bytes === undefined) break;
    if (row < skip) {
      batches.startAt(row + 1);
      continue;
    }
    const fail = failAt(reader.name, "line", row);
    yield* batches.take(
      row,
      () => parseRecord(row, bytes, fields, fail),
      () => Buffer.from(bytes).toString("utf8"),
    );
  }
  yield* batches.end(row);
}

function parseRecord(row: number, bytes: Uint8Array, fields: RecordFields, fail: Fail): DataRecord | undefined {
  let text: string;
  try {
    text = decoder.decode(bytes);
  } catch (cause) {
    throw fail("the line is not UTF-8", { cause });
  }
  if (text.trim() === "") return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw fail(`the line is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (!isObject(value)) throw fail(`expected a JSON object, got ${kindOf(value)}`);

  // Without what every object inherits: a field may be called "constructor".
  const own = Object.assign(Object.create(null) as Fields, value);
  const { [fields.id]: id, [fields.vector]: vector, vectors: named, ...rest } = own;
  const texts = new Map(jsonMembers(text).map((member) => [member.key, member]));
  if (id !== undefined && typeof id !== "string" && typeof id !== "number") {
    throw fail(`the field "${fields.id}" must be a string or a whole number, not ${kindOf(id)}`, {}, "INVALID_ID");
  }
  const exactId = typeof id === "number" ? exactNumber(texts.get(fields.id)?.valueText ?? "", fail) : id;
  const payload = payloadOf(rest, (key) => texts.get(key) as JsonMember, fail);
  const expiresAtMs = "payload" in rest ? expiryOf(rest["expiresAt"], fail) : undefined;
  const { dense, sparse } = sparseApart(named, fail);
  const vectors = vectorsOf(vector, dense, fields, fail, sparse.size > 0);
  return { row, id: exactId, vectors, sparse, payload, expiresAtMs };
}

function payloadOf(rest: Fields, textOf: (key: string) => JsonMember, fail: Fail): DatasetPayload | undefined {
  const keys = Object.keys(rest);
  if (!("payload" in rest)) {
    if (keys.length === 0) return undefined;
    return `{${keys.map((key) => `${textOf(key).keyText}:${textOf(key).valueText}`).join(",")}}`;
  }
  const { payload } = rest;
  const surplus = Object.keys(rest).filter((key) => key !== "payload" && key !== "expiresAt");
  if (surplus.length > 0) throw surplusFields(surplus, fail);
  if (payload === null) return undefined;
  if (!isObject(payload)) throw fail(`the field "payload" must be an object, not ${kindOf(payload)}`);
  return textOf("payload").valueText;
}
