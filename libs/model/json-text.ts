/*
 * JSON as text: what passes through without a meaning here keeps every digit, where JSON.parse would make a double of each number. All
 * functions take text that JSON.parse takes; they do not check it again.
 */

const quote = 0x22;
const backslash = 0x5c;

/** One member of an object, as it was written. */
export interface JsonMember {
  key: string;
  keyText: string;
  valueText: string;
}

/** The members of the object that `text` is, in order; of a key that stands twice the last one, as JSON.parse takes it. */
export function jsonMembers(text: string): JsonMember[] {
  const members = new Map<string, JsonMember>();
  let at = afterSpace(text, afterSpace(text, 0) + 1);
  while (text[at] === '"') {
    const keyEnd = afterString(text, at);
    const keyText = text.slice(at, keyEnd);
    const valueStart = afterSpace(text, afterSpace(text, keyEnd) + 1);
    const valueEnd = afterValue(text, valueStart);
    const key = JSON.parse(keyText) as string;
    members.set(key, { key, keyText, valueText: text.slice(valueStart, valueEnd) });
    at = afterSpace(text, afterSpace(text, valueEnd) + 1);
  }
  return [...members.values()];
}

/** The same value without spaces, or with one member or element to a line. */
export function formatJson(text: string, indent = 0): string {
  let out = "";
  let depth = 0;
  const line = (): string => (indent === 0 ? "" : `\n${" ".repeat(depth * indent)}`);
  for (let at = afterSpace(text, 0); at < text.length; at = afterSpace(text, at)) {
    const char = text[at] as string;
    if (char === "{" || char === "[") {
      const next = afterSpace(text, at + 1);
      const closes = text[next] === "}" || text[next] === "]";
      if (closes) out += char + (text[next] as string);
      else {
        depth++;
        out += char + line();
      }
      at = closes ? next + 1 : at + 1;
    } else if (char === "}" || char === "]") {
      depth--;
      out += line() + char;
      at++;
    } else if (char === ",") {
      out += char + line();
      at++;
    } else if (char === ":") {
      out += indent === 0 ? char : `${char} `;
      at++;
    } else {
      const end = afterScalar(text, at);
      out += text.slice(at, end);
      at = end;
    }
  }
  return out;
}

/** How deep arrays and objects lie within each other, but no deeper than just beyond `max`. */
export function jsonDepth(text: string, max: number): number {
  // Each level has an opening and a closing bracket.
  if (text.length <= 2 * max) return 0;
  let depth = 0;
  let deepest = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === quote) at = afterString(text, at) - 1;
    else if (code === 0x7b || code === 0x5b) {
      deepest = Math.max(deepest, ++depth);
      if (deepest > max) return deepest;
    } else if (code === 0x7d || code === 0x5d) depth--;
  }
  return deepest;
}

function afterSpace(text: string, from: number): number {
  let at = from;
  for (let code = text.charCodeAt(at); code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09; ) {
    code = text.charCodeAt(++at);
  }
  return at;
}

/** `from` is the opening quote. */
function afterString(text: string, from: number): number {
  let at = from + 1;
  for (let code = text.charCodeAt(at); code !== quote && at < text.length; code = text.charCodeAt(at)) {
    at += code === backslash ? 2 : 1;
  }
  return at + 1;
}

function afterScalar(text: string, from: number): number {
  if (text[from] === '"') return afterString(text, from);
  let at = from;
  while (at < text.length && !/[\s,\]}]/.test(text[at] as string)) at++;
  return at;
}

function afterValue(text: string, from: number): number {
  if (text[from] !== "{" && text[from] !== "[") return afterScalar(text, from);
  let depth = 0;
  for (let at = from; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === quote) at = afterString(text, at) - 1;
    else if (code === 0x7b || code === 0x5b) depth++;
    else if ((code === 0x7d || code === 0x5d) && --depth === 0) return at + 1;
  }
  return text.length;
}
