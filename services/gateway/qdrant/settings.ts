import { getOwn, KithError, setOwn } from "../../../libs/base/index.js";
import { isJsonObject, type JsonObject, type JsonValue, parseJson, printJson } from "../../../libs/model/index.js";

/*
 * What a collection was asked for in Qdrant's words and Kith has no setting for is kept in labels of the collection, as JSON in pieces, so that it is
 * reported back: qdrant.0, qdrant.1, ...
 */

const prefix = "qdrant.";
/** A label has 256 characters at most, and of 64 labels users want some. */
const pieceLength = 256;
const piecesMax = 48;

/** The settings that were kept; none for a collection that was made otherwise. */
export function keptSettings(labels: { readonly [key: string]: string }): JsonObject {
  let text = "";
  for (let piece = 0; Object.hasOwn(labels, `${prefix}${piece}`); piece++) text += labels[`${prefix}${piece}`] ?? "";
  if (text === "") return {};
  try {
    const value = parseJson(text);
    return isJsonObject(value) ? value : {};
  } catch {
    // A label is anybody's to write.
    return {};
  }
}

/** The labels that keep these settings; those of before that are not needed any more are empty, which removes them. */
export function settingsLabels(
  settings: JsonObject,
  before: { readonly [key: string]: string } = {},
): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const key of Object.keys(before)) if (/^qdrant\.\d+$/.test(key)) labels[key] = "";
  if (Object.keys(settings).length === 0) return labels;
  const text = escaped(printJson(settings));
  const count = Math.ceil(text.length / pieceLength);
  if (count > piecesMax) {
    throw new KithError(
      "INVALID_SCHEMA",
      `the settings and metadata have ${text.length} characters of JSON; at most ${piecesMax * pieceLength} are kept`,
    );
  }
  for (let piece = 0; piece < count; piece++) {
    labels[`${prefix}${piece}`] = text.slice(piece * pieceLength, (piece + 1) * pieceLength);
  }
  return labels;
}

/** Everything beyond ASCII as escapes of JSON: a piece that ends within a surrogate pair would be no text. */
function escaped(text: string): string {
  return text.replaceAll(/[^\u0020-\u007e]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/**
 * `changes` put over `base`, objects within objects; what is null stays as it was. A quantization takes the place of another one, or goes, and so does each member of
 * the metadata, which null takes away.
 */
export function merged(base: JsonObject, changes: JsonObject): JsonObject {
  const result: JsonObject = { ...base };
  for (const [key, value] of Object.entries(changes)) {
    const old = getOwn(result, key);
    if (value === null) continue;
    if (key === "quantization_config") {
      if (value === "Disabled") delete result[key];
      else result[key] = value;
      continue;
    }
    if (key === "metadata" && isJsonObject(value) && isJsonObject(old)) {
      const members = Object.entries({ ...old, ...value }).filter(([, each]) => each !== null);
      setOwn(result, key, Object.fromEntries(members));
      continue;
    }
    setOwn(result, key, isJsonObject(value) && isJsonObject(old) ? merged(old, value) : value);
  }
  return result;
}

/** Members of an object that are set, of these names. */
export function picked(object: JsonObject, names: readonly string[]): JsonObject {
  const result: JsonObject = {};
  for (const name of names) {
    const value: JsonValue | undefined = object[name];
    if (Object.hasOwn(object, name) && value !== null && value !== undefined) result[name] = value;
  }
  return result;
}
