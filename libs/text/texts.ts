import { type Bm25Options, type JsonObject, type JsonValue, parsePath, valuesAtPath } from "../model/index.js";
import type { Analyzer } from "./analyzer.js";
import { hasPhrase, type Phrase } from "./parse.js";

/** Reads the texts of the fields of an index out of payloads. */
export class FieldTexts {
  readonly #paths;

  constructor({ fields }: Pick<Bm25Options, "fields">) {
    this.#paths = fields.map(({ path }) => parsePath(path));
  }

  /** By field, the strings that stand there; of an array, as in filters, those that are its elements. */
  of(payload: JsonObject): string[][] {
    return this.#paths.map((path) => valuesAtPath(payload, path).flatMap(stringsOf));
  }
}

function stringsOf(value: JsonValue): string[] {
  if (typeof value === "string") return [value];
  return Array.isArray(value) ? value.filter((each): each is string => typeof each === "string") : [];
}

/** Whether the texts have each phrase in one of their fields, and none of those that are excluded. */
export function passesPhrases(
  texts: readonly (readonly string[])[],
  phrases: readonly Phrase[],
  analyzer: Analyzer,
): boolean {
  const tokens = texts.flat().map((text) => analyzer.tokens(text));
  return phrases.every((phrase) => tokens.some((each) => hasPhrase(each, phrase.tokens)) !== phrase.isExcluded);
}

/** How much a term says: rare ones most. `counted`: points that have it, of `pointCount`. */
export function inverseDocumentFrequency(pointCount: number, counted: number): number {
  return Math.log(1 + (pointCount - counted + 0.5) / (counted + 0.5));
}
