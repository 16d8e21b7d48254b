import { WireType } from "@bufbuild/protobuf/wire";
import { isJsonObject, jsonCharacters, parseJson } from "../../../../libs/model/index.js";
import type { BackwardWriter } from "../../../../libs/wire/index.js";
import { kind, writeEntries, writeValue } from "./json-value.js";

const {
  space,
  quote,
  comma,
  minus,
  dot,
  zero,
  nine,
  colon,
  openBracket,
  backslash,
  closeBracket,
  lowerE,
  lowerL,
  openBrace,
  closeBrace,
  shortDigits,
} = jsonCharacters;
/** The beginning of a longer string is searched for natively. */
const nearBytes = 24;

/**
 * Writes the bytes of a JSON object, from `start` to `end`, as a map<string, Value> that is the field `number`: as `writeEntries` of what `parseJson`
 * makes of them, without the objects and texts in between. It is read from its end, since messages are written so. In that direction JSON is just
 * as plain: the quote at which a string begins is the only one without a backslash before it. What is no JSON is left to `parseJson` to refuse.
 */
export function writeJsonEntries(
  writer: BackwardWriter,
  number: number,
  bytes: Buffer,
  start: number,
  end: number,
): void {
  const before = writer.length;
  const reader = new BackwardJson(writer, bytes, start, end);
  if (reader.wholeObject(number)) return;
  writer.dropTo(before);
  const object = parseJson(bytes.toString("utf8", start, end));
  if (isJsonObject(object)) writeEntries(writer, number, object);
}

/** Each method leaves the position before what it has read, and answers whether it was JSON. */
class BackwardJson {
  readonly #writer: BackwardWriter;
  readonly #bytes: Buffer;
  readonly #start: number;
  /** The end of what is not read yet. */
  #at: number;
  /** The last backslash before the end of the last long string, or something behind that. */
  #backslash: number;

  constructor(writer: BackwardWriter, bytes: Buffer, start: number, end: number) {
    this.#writer = writer;
    this.#bytes = bytes;
    this.#start = start;
    this.#at = end;
    this.#backslash = end;
  }

  wholeObject(number: number): boolean {
    if (this.#last() !== closeBrace || !this.#entries(number)) return false;
    return this.#last() === -1;
  }

  /** The byte before the position that is no white space, -1 where there is none. */
  #last(): number {
    const bytes = this.#bytes;
    let at = this.#at;
    let code = -1;
    while (at > this.#start) {
      code = bytes[at - 1] as number;
      if (code > space) break;
      code = -1;
      at--;
    }
    this.#at = at;
    return code;
  }

  /** An object, from the brace at its end to that at its beginning. */
  #entries(number: number): boolean {
    const writer = this.#writer;
    this.#at--;
    let code = this.#last();
    if (code === openBrace) {
      this.#at--;
      return true;
    }
    for (;;) {
      const end = writer.length;
      if (!this.#value(code)) return false;
      writer.nested(2, end);
      if (this.#last() !== colon) return false;
      this.#at--;
      const keyEnd = writer.length;
      if (this.#last() !== quote || !this.#text()) return false;
      writer.nested(1, keyEnd);
      writer.nested(number, end);
      code = this.#last();
      this.#at--;
      if (code === openBrace) return true;
      if (code !== comma) return false;
      code = this.#last();
    }
  }

  #items(): boolean {
    const writer = this.#writer;
    this.#at--;
    let code = this.#last();
    if (code === openBracket) {
      this.#at--;
      return true;
    }
    for (;;) {
      const end = writer.length;
      if (!this.#value(code)) return false;
      writer.nested(1, end);
      code = this.#last();
      this.#at--;
      if (code === openBracket) return true;
      if (code !== comma) return false;
      code = this.#last();
    }
  }

  /** The fields of the Value whose last byte is `code`. */
  #value(code: number): boolean {
    const writer = this.#writer;
    const end = writer.length;
    switch (code) {
      case quote:
        if (!this.#text()) return false;
        writer.nested(kind.text, end);
        return true;
      case closeBrace:
        if (!this.#entries(1)) return false;
        writer.nested(kind.struct, end);
        return true;
      case closeBracket:
        if (!this.#items()) return false;
        writer.nested(kind.list, end);
        return true;
      case lowerE:
        return this.#flag();
      case lowerL:
        if (!this.#word("null")) return false;
        writer.varint(0);
        writer.tag(kind.null, WireType.Varint);
        return true;
      default:
        return this.#number();
    }
  }

  /** A string between its quotes. */
  #text(): boolean {
    const bytes = this.#bytes;
    const end = this.#at - 1;
    const near = Math.max(this.#start, end - nearBytes);
    let hasEscapes = false;
    let at = end - 1;
    for (; at >= near; at--) {
      const code = bytes[at] as number;
      if (code === backslash) hasEscapes = true;
      else if (code === quote && bytes[at - 1] !== backslash) break;
    }
    if (at < near) {
      if (this.#backslash >= end) this.#backslash = bytes.lastIndexOf(backslash, end - 1);
      do at = bytes.lastIndexOf(quote, at);
      while (at > this.#start && bytes[at - 1] === backslash && --at > 0);
      hasEscapes = this.#backslash > at;
    }
    // An object begins before any string of it.
    if (at <= this.#start) return false;
    this.#at = at;
    if (!hasEscapes) this.#writer.copy(bytes, at + 1, end);
    else {
      try {
        this.#writer.text(JSON.parse(bytes.toString("utf8", at, end + 1)) as string);
      } catch (error) {
        if (error instanceof SyntaxError) return false;
        throw error;
      }
    }
    return true;
  }

  #flag(): boolean {
    const isTrue = this.#word("true");
    if (!isTrue && !this.#word("false")) return false;
    this.#writer.varint(isTrue ? 1 : 0);
    this.#writer.tag(kind.boolean, WireType.Varint);
    return true;
  }

  #word(word: string): boolean {
    const from = this.#at - word.length;
    if (from < this.#start) return false;
    for (let i = 0; i < word.length; i++) if (this.#bytes[from + i] !== word.charCodeAt(i)) return false;
    this.#at = from;
    return true;
  }

  /** Whole numbers and decimal fractions of a few digits by arithmetic, which loses nothing: both parts of a fraction are doubles. Others by their text. */
  #number(): boolean {
    const writer = this.#writer;
    const bytes = this.#bytes;
    const end = this.#at;
    let at = end;
    let value = 0;
    let code = 0;
    let point = -1;
    for (let scale = 1; at > this.#start; at--) {
      code = bytes[at - 1] as number;
      if (code >= zero && code <= nine) {
        value += (code - zero) * scale;
        scale *= 10;
      } else if (code === dot && point < 0) point = at;
      else break;
    }
    const wholeDigits = point < 0 ? end - at : point - 1 - at;
    const isShort = end - at <= shortDigits && wholeDigits > 0 && (wholeDigits === 1 || bytes[at] !== zero);
    const isNegative = code === minus;
    if (isShort && point !== end && (at === this.#start || !isOfNumber(code) || (isNegative && value > 0))) {
      if (isNegative) {
        at--;
        value = -value;
        if (at > this.#start && isOfNumber(bytes[at - 1] as number)) return false;
      }
      this.#at = at;
      if (point < 0) {
        writer.whole(value);
        writer.tag(kind.integer, WireType.Varint);
      } else {
        writer.double(value / 10 ** (end - point));
        writer.tag(kind.double, WireType.Bit64);
      }
      return true;
    }
    while (at > this.#start && isOfNumber(bytes[at - 1] as number)) at--;
    if (at === end) return false;
    this.#at = at;
    writeValue(writer, parseJson(bytes.toString("latin1", at, end)));
    return true;
  }
}

/** "0123456789+-.eE" */
function isOfNumber(code: number): boolean {
  return (
    (code >= zero && code <= nine) ||
    code === minus ||
    code === dot ||
    code === 0x2b ||
    code === lowerE ||
    code === 0x45
  );
}
