import { isJsonObject, type JsonObject, type JsonValue } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import { eachOf, listOf, member, optional, textOf, wrong } from "./values.js";

const texts = (value: JsonValue | undefined, at: string): string[] => eachOf(listOf(value, at), at, textOf);

/** Which vectors are asked for, by either of two names. */
export function vectorsWanted(object: JsonObject): JsonValue | undefined {
  return member(object, "with_vector") ?? member(object, "with_vectors");
}

/** Which parts of points come back: `with_payload` (true, paths, include, exclude) and `with_vector` (true, names). */
export function selectOf(
  payload: JsonValue | undefined,
  vector: JsonValue | undefined,
  payloadDefault: boolean,
): pb.Select {
  const select = pb.Select.create({ payload: payloadDefault });
  if (typeof payload === "boolean") select.payload = payload;
  else if (Array.isArray(payload)) include(select, texts(payload, "with_payload"));
  else if (isJsonObject(payload)) {
    const excluded = optional(payload, "exclude", "with_payload", texts);
    const included = optional(payload, "include", "with_payload", texts);
    select.payload = true;
    if (included !== undefined) include(select, included);
    else if (excluded !== undefined) select.exclude = excluded;
    else throw wrong("with_payload", "expected include or exclude");
  } else if (payload !== undefined && payload !== null) throw wrong("with_payload", "expected true, false or paths");
  if (typeof vector === "boolean") select.allVectors = vector;
  else if (Array.isArray(vector)) select.vectors = texts(vector, "with_vector");
  else if (typeof vector === "string") select.vectors = [vector];
  else if (vector !== undefined && vector !== null) throw wrong("with_vector", "expected true, false or names");
  return select;
}

/** An empty list of paths selects nothing: points come with an empty payload. */
function include(select: pb.Select, paths: string[]): void {
  select.payload = true;
  select.include = paths.length > 0 ? paths : ['"\u0000"'];
}

export function wantsVectors(select: pb.Select | undefined): boolean {
  return select !== undefined && (select.allVectors || select.vectors.length > 0);
}
