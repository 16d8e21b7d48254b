import { KithError } from "../base/index.js";
import { isWellFormed } from "../model/index.js";
import { givenText } from "./given.js";

/**
 * The text as it is; INVALID_ARGUMENT, with the place, where it is none or has a lone surrogate: UTF-8 would make another text of it, which may name
 * something else.
 */
export function wellFormed(text: string, at: string): string {
  if (isWellFormed(givenText(text, at))) return text;
  throw new KithError(
    "INVALID_ARGUMENT",
    `${at}: ${JSON.stringify(text)} has a lone surrogate, which UTF-8 cannot hold`,
    {
      details: { field: at },
    },
  );
}
