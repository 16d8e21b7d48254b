import { type ErrorCode, KithError } from "../../../libs/base/index.js";
import { isWellFormed } from "../../../libs/model/index.js";

/** Arrays and objects of a request within each other, those of payloads apart: what reads them is recursive. */
const depthMax = 128;

const quote = 0x22;
const backslash = 0x5c;
const closers = /[[\]{}"]/g;
const numeral = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;

/**
 * Walks over JSON text once, from left to right, without making objects of it: what is a payload passes through as it was written, a number
 * keeps its digits, and no key of a client's becomes a property of anything.
 */
export class JsonScanner {
  readonly text: string;
  at = 0;
  /** Where in the request this is, for errors: `points`, `[3]`, `.vector`. */
  readonly path: string[] = [];
  #depth = 0;

  constructor(text: string) {
    this.text = text;
  }

  /** The character code of what comes next, after spaces; NaN at the end. */
  peek(): number {
    const { text } = this;
    let code = text.charCodeAt(this.at);
    while (code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09) code = text.charCodeAt(++this.at);
    return code;
  }

  take(code: number): boolean {
    if (this.peek() !== code) return false;
    this.at++;
    return true;
  }

  expect(code: number): void {
    if (!this.take(code)) throw this.syntax(JSON.stringify(String.fromCharCode(code)));
  }

  end(): void {
    if (!Number.isNaN(this.peek())) throw this.syntax("the end");
  }

  takeNull(): boolean {
    this.peek();
    if (!this.text.startsWith("null", this.at)) return false;
    this.at += 4;
    return true;
  }

  /** Calls `read` for each key of the object that comes next, with the position at its value. */
  object(read: (key: string) => void): void {
    this.#enter(0x7b, "an object");
    if (!this.take(0x7d)) {
      do {
        if (this.peek() !== quote) throw this.syntax("a key in quotes");
        const key = this.#quoted();
        this.expect(0x3a);
        this.path.push(`.${key.slice(0, 64)}`);
        read(key);
        this.path.pop();
      } while (this.take(0x2c));
      this.expect(0x7d);
    }
    this.#depth--;
  }

  /** Calls `read` for each element of the array that comes next. */
  array(read: (index: number) => void): void {
    this.#enter(0x5b, "a list");
    if (!this.take(0x5d)) {
      let index = 0;
      do {
        this.path.push(`[${index}]`);
        read(index++);
        this.path.pop();
      } while (this.take(0x2c));
      this.expect(0x5d);
    }
    this.#depth--;
  }

  #enter(code: number, what: string): void {
    if (this.peek() !== code) throw this.wrong(what);
    if (++this.#depth > depthMax) throw this.refuse(`more than ${depthMax} lists and objects are within each other`);
    this.at++;
  }

  /** `malformed`: what a text is refused with that UTF-8 cannot hold. */
  string(what = "a text", malformed: ErrorCode = "INVALID_ARGUMENT"): string {
    if (this.peek() !== quote) throw this.wrong(what);
    return this.#quoted(malformed);
  }

  #quoted(malformed: ErrorCode = "INVALID_ARGUMENT"): string {
    const { text } = this;
    const start = this.at;
    let end = text.indexOf('"', start + 1);
    if (end < 0) throw this.syntax("a text with its closing quote");
    const escape = text.indexOf("\\", start);
    if (escape < 0 || escape > end) {
      // Control characters must be escaped; JSON.parse() knows.
      const plain = text.slice(start + 1, end);
      // eslint-disable-next-line no-control-regex -- what JSON forbids
      if (/[\u0000-\u001f]/.test(plain)) throw this.syntax("a text without control characters");
      this.at = end + 1;
      return plain;
    }
    end = this.#afterString(start) - 1;
    try {
      const value = JSON.parse(text.slice(start, end + 1)) as string;
      if (!isWellFormed(value)) throw this.refuse("the text has a lone surrogate, which UTF-8 cannot hold", malformed);
      this.at = end + 1;
      return value;
    } catch (cause) {
      if (cause instanceof KithError) throw cause;
      throw this.syntax("a text with valid escapes");
    }
  }

  #afterString(from: number): number {
    const { text } = this;
    let at = from + 1;
    for (let code = text.charCodeAt(at); code !== quote; code = text.charCodeAt(at)) {
      if (at >= text.length) throw this.syntax("a text with its closing quote");
      at += code === backslash ? 2 : 1;
    }
    return at + 1;
  }

  boolean(): boolean {
    this.peek();
    for (const word of ["true", "false"]) {
      if (!this.text.startsWith(word, this.at)) continue;
      this.at += word.length;
      return word === "true";
    }
    throw this.wrong("true or false");
  }

  /** The numeral that comes next, as it was written; undefined where there is none. */
  numeral(): string | undefined {
    this.peek();
    numeral.lastIndex = this.at;
    const match = numeral.exec(this.text);
    if (match === null) return undefined;
    this.at = numeral.lastIndex;
    return match[0];
  }

  /** A number as a double. */
  number(): number {
    const text = this.numeral();
    if (text === undefined) throw this.wrong("a number");
    return Number(text);
  }

  /** The digits of a whole number, however large, from a numeral or a text; a float that is whole counts. */
  whole(): string {
    if (this.peek() === quote) {
      const text = this.string();
      if (!/^-?\d{1,20}$/.test(text)) throw this.refuse(`expected a whole number, not the text ${show(text)}`);
      return text;
    }
    const text = this.numeral();
    if (text === undefined) throw this.wrong("a whole number");
    if (/^-?\d+$/.test(text)) return text;
    const value = Number(text);
    if (Number.isSafeInteger(value)) return String(value);
    throw this.refuse(`expected a whole number, not ${text.slice(0, 40)}`);
  }

  /** Whether the list that comes next begins with a list. */
  isNested(): boolean {
    if (this.peek() !== 0x5b) return false;
    return /^\[\s*\[/.test(this.text.slice(this.at, this.at + 64));
  }

  /** Lists of numbers, all of one length, one behind the other: the rows of a matrix. */
  rows(): { values: Float32Array; rows: number } {
    const rows: Float32Array[] = [];
    this.array((i) => {
      const row = this.floats();
      const width = rows[0]?.length ?? row.length;
      if (row.length !== width) {
        throw this.refuse(`row ${i} has ${row.length} numbers, and row 0 has ${width}`, "DIMENSION_MISMATCH");
      }
      rows.push(row);
    });
    const width = rows[0]?.length ?? 0;
    const values = new Float32Array(rows.length * width);
    for (const [i, row] of rows.entries()) values.set(row, i * width);
    return { values, rows: rows.length };
  }

  /** Numbers in one list, as f32. */
  floats(): Float32Array {
    if (this.peek() !== 0x5b) throw this.wrong("a list of numbers");
    const { text } = this;
    const end = text.indexOf("]", this.at);
    let values: unknown[];
    try {
      values = JSON.parse(text.slice(this.at, end + 1)) as unknown[];
    } catch {
      throw this.refuse("expected a list of numbers");
    }
    const floats = new Float32Array(values.length);
    for (let i = 0; i < values.length; i++) {
      const value = values[i];
      if (typeof value !== "number") {
        this.path.push(`[${i}]`);
        throw this.refuse(`expected a number, not ${show(JSON.stringify(value) ?? "nothing")}`);
      }
      floats[i] = value;
    }
    this.at = end + 1;
    return floats;
  }

  /** Any value as it was written. What is within it is not looked at: whoever takes it does that. */
  raw(): string {
    const start = (this.peek(), this.at);
    const { text } = this;
    const first = text[start];
    if (first === '"') this.at = this.#afterString(start);
    else if (first === "{" || first === "[") {
      let depth = 0;
      let at = start;
      closers.lastIndex = start;
      for (;;) {
        const match = closers.exec(text);
        if (match === null) throw this.syntax("the end of what was opened");
        at = match.index;
        const char = match[0];
        if (char === '"') closers.lastIndex = this.#afterString(at);
        else if (char === "{" || char === "[") depth++;
        else if (--depth === 0) break;
      }
      this.at = at + 1;
    } else {
      while (this.at < text.length && !/[\s,\]}]/.test(text[this.at] as string)) this.at++;
      if (this.at === start) throw this.syntax("a value");
    }
    return text.slice(start, this.at);
  }

  /** Where the scanner is, as a reader would write it: `points[3].vector`. */
  get where(): string {
    const joined = this.path.join("");
    return joined.startsWith(".") ? joined.slice(1) : joined;
  }

  /** The value that is found is of another type; or it is no JSON. */
  wrong(expected: string): KithError {
    this.peek();
    const found = this.at < this.text.length ? show(this.raw()) : "the end";
    return this.refuse(`expected ${expected}, found ${found}`);
  }

  refuse(message: string, code: ErrorCode = "INVALID_ARGUMENT"): KithError {
    const { where } = this;
    if (where === "") return new KithError(code, message);
    return new KithError(code, `${where}: ${message}`, { details: { field: where } });
  }

  syntax(expected: string): KithError {
    const found = this.at < this.text.length ? show(this.text.slice(this.at, this.at + 24)) : "the end";
    return this.refuse(`the request is not JSON: expected ${expected} at character ${this.at + 1}, found ${found}`);
  }
}

function show(text: string): string {
  return JSON.stringify(text.length <= 40 ? text : `${text.slice(0, 37)}...`);
}
