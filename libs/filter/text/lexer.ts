import { invalidFilter, isWellFormed, type Path, readPath, readPathKey } from "../../model/index.js";

export type TokenKind = "name" | "string" | "number" | "distance" | "datetime" | "uuid" | "symbol" | "end";

export interface Token {
  readonly kind: TokenKind;
  /** As it is written; of a string what it says. */
  readonly text: string;
  /** Characters (UTF-16) before it and before its end. */
  readonly start: number;
  readonly end: number;
}

const space = /\s*/y;
// What begins like a name is tried in this order; none may be followed by a character of a name.
const literals: readonly [TokenKind, RegExp][] = [
  [
    "datetime",
    /\d{4}-\d\d-\d\d(?:[Tt]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:[Zz]|[+-]\d\d(?::?\d\d)?)?)?(?![\p{Alphabetic}\p{N}_:-])/uy,
  ],
  ["uuid", /[\da-fA-F]{8}-[\da-fA-F]{4}-[\da-fA-F]{4}-[\da-fA-F]{4}-[\da-fA-F]{12}(?![\p{Alphabetic}\p{N}_-])/uy],
  ["distance", /\d+(?:\.\d+)?(?:[eE][+-]?\d+)?k?m(?![\p{Alphabetic}\p{N}_-])/uy],
  ["number", /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\p{Alphabetic}\p{N}_-])/uy],
];
const symbol = /<=|>=|!=|\[any:|[()[\],=<>~]/y;
const escape = /\\(u[\da-fA-F]{4}|[^])/g;
/** UTF-8 has U+FFFD for all of them, so that different texts would become one. */
const loneSurrogate = "the text has a lone surrogate, which UTF-8 cannot hold";
const escapes: Record<string, string> = { n: "\n", t: "\t", r: "\r", b: "\b", f: "\f" };

/** Splits a text into tokens, one at a time, and reads paths where the parser expects one. */
export class Lexer {
  readonly #text: string;
  #at = 0;
  #token: Token;

  constructor(text: string) {
    this.#text = text;
    const lone = text.search(/\p{Surrogate}/u);
    if (lone >= 0) throw this.error(loneSurrogate, lone);
    this.#token = this.#read();
  }

  /** The next token, which stays the next. */
  get peek(): Token {
    return this.#token;
  }

  get atEnd(): boolean {
    return this.#token.kind === "end";
  }

  next(): Token {
    const token = this.#token;
    this.#at = token.end;
    this.#token = this.#read();
    return token;
  }

  /** Takes the next token where it is this symbol. */
  take(text: string): boolean {
    if (this.#token.kind !== "symbol" || this.#token.text !== text) return false;
    this.next();
    return true;
  }

  expect(text: string): void {
    if (!this.take(text)) throw this.expected(`"${text}"`);
  }

  /** Takes the next token where it is this word, in any case and without quotes. */
  takeWord(word: string): boolean {
    if (!this.isWord(word)) return false;
    this.next();
    return true;
  }

  isWord(word: string): boolean {
    return this.#token.kind === "name" && this.#token.text.toLowerCase() === word;
  }

  /** Whether the next token is a name with a parenthesis behind it. */
  isCall(): boolean {
    if (this.#token.kind !== "name") return false;
    space.lastIndex = this.#token.end;
    space.exec(this.#text);
    return this.#text[space.lastIndex] === "(";
  }

  /** The path that begins with the next token; it holds no spaces. */
  path(): Path {
    const { kind, start } = this.#token;
    if (kind !== "name" && kind !== "string") throw this.expected("a field");
    const path = readPath(this.#text.slice(start, this.#endOfPath(start)));
    if ("problem" in path) throw this.error(path.problem, start + path.at);
    this.#at = this.#endOfPath(start);
    this.#token = this.#read();
    return path;
  }

  #endOfPath(start: number): number {
    const step = /\[\d*\]/y;
    let at = start;
    for (;;) {
      const key = readPathKey(this.#text, at);
      if (key === undefined) return at;
      at = key.end;
      for (step.lastIndex = at; step.test(this.#text); ) at = step.lastIndex;
      if (this.#text[at] !== ".") return at;
      at++;
    }
  }

  #read(): Token {
    space.lastIndex = this.#at;
    space.exec(this.#text);
    const start = space.lastIndex;
    if (start === this.#text.length) return { kind: "end", text: "", start, end: start };
    for (const [kind, pattern] of literals) {
      const found = matchAt(pattern, this.#text, start);
      if (found !== undefined) return { kind, text: found, start, end: start + found.length };
    }
    const first = this.#text[start] as string;
    if (first === '"' || first === "'") return this.#string(start, first);
    const found = matchAt(symbol, this.#text, start);
    if (found !== undefined) return { kind: "symbol", text: found, start, end: start + found.length };
    const name = readPathKey(this.#text, start);
    if (name === undefined) throw this.error(`the character ${JSON.stringify(first)} has no meaning here`, start);
    return { kind: "name", text: name.key, start, end: name.end };
  }

  #string(start: number, quote: string): Token {
    let end = start + 1;
    while (this.#text[end] !== quote) {
      if (end >= this.#text.length) throw this.error("the string has no closing quote", start);
      end += this.#text[end] === "\\" ? 2 : 1;
    }
    const text = this.#text.slice(start + 1, end).replaceAll(escape, (_, code: string) => {
      if (code.length === 5) return String.fromCharCode(Number.parseInt(code.slice(1), 16));
      if (code === "u") throw this.error("after \\u come four hexadecimal digits", start);
      return escapes[code] ?? code;
    });
    if (!isWellFormed(text)) throw this.error(loneSurrogate, start);
    return { kind: "string", text, start, end: end + 1 };
  }

  expected(what: string): Error {
    const { kind, text, start } = this.#token;
    const found = kind === "end" ? "the end" : kind === "string" ? JSON.stringify(text) : `"${text}"`;
    return this.error(`expected ${what}, found ${found}`, start);
  }

  /** The error with a caret under the character at a place. */
  error(problem: string, at: number): Error {
    const lineStart = at === 0 ? 0 : this.#text.lastIndexOf("\n", at - 1) + 1;
    const lineEnd = this.#text.indexOf("\n", at);
    const line = this.#text.slice(lineStart, lineEnd < 0 ? undefined : lineEnd);
    const before = [...this.#text.slice(lineStart, at)].length;
    const lineNumber = this.#text.slice(0, lineStart).split("\n").length;
    const where = lineNumber === 1 ? `column ${before + 1}` : `line ${lineNumber}, column ${before + 1}`;
    // Of a long line what stands around the place.
    const from = Math.max(0, before - 60);
    const shown = [...line]
      .slice(from, from + 100)
      .join("")
      .replaceAll("\t", " ");
    const caret = `${" ".repeat(before - from)}^`;
    return invalidFilter(where, `${problem}\n  ${shown}\n  ${caret}`, { line: lineNumber, column: before + 1 });
  }
}

function matchAt(pattern: RegExp, text: string, at: number): string | undefined {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0];
}
