import * as v from "valibot";

/* What settings are made of. */

export const mib = 1024 * 1024;
/** Characters of what cannot be guessed, of letters and digits. */
export const secretLength = 32;

export const bytes = v.pipe(v.number(), v.integer(), v.minValue(0));
export const name = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/, "use 1..64 letters, digits, _ and -, beginning with a letter or digit"),
);
export const clusterName = v.pipe(v.string(), v.regex(/^[A-Za-z0-9-]{1,32}$/, "use 1..32 letters, digits and -"));
export const port = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65_535));
export const file = v.pipe(v.string(), v.minLength(1));
/** An address to listen on; by default only this machine reaches it. */
export const host = (what: string) => v.optional(v.pipe(v.string(), v.minLength(1), v.description(what)), "127.0.0.1");
