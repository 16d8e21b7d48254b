import { JsonFloat } from "../../../../libs/model/index.js";
import { JsonText } from "../values.js";

/** What a message is made of: the answers of operations, and the JSON that stands in them. */
export type Source =
  | undefined
  | null
  | boolean
  | string
  | number
  | bigint
  | JsonText
  | JsonFloat
  | Float32Array
  | readonly Source[]
  | SourceObject;

export interface SourceObject {
  readonly [key: string]: Source;
}

export function isSourceObject(value: Source): value is SourceObject {
  return (
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    !(value instanceof JsonText) &&
    !(value instanceof JsonFloat) &&
    !(value instanceof Float32Array)
  );
}

/** A text, or a number or a flag as text; "" for all else. */
export function textIn(value: Source): string {
  if (typeof value === "string") return value;
  return typeof value === "number" || typeof value === "bigint" || typeof value === "boolean" ? String(value) : "";
}
