import * as fc from "fast-check";
import { expect, test } from "vitest";
import { defaultTokenizer, hasAllWords, hasAnyWord, hasPhrase, Tokenizer, type TokenizerOptions } from "./tokens.js";

const word = new Tokenizer(defaultTokenizer);

test.each<[string, string[]]>([
  ["", []],
  [" ,.! ", []],
  ["Hello, World!", ["hello", "world"]],
  ["don't foo_bar 3.14 a-b", ["don", "t", "foo", "bar", "3", "14", "a", "b"]],
  ["Ｆｕｌｌｗｉｄｔｈ ﬁne", ["fullwidth", "fine"]],
  ["Cafe\u0301 CAFÉ", ["café", "café"]],
  ["Привет, МИР", ["привет", "мир"]],
  ["\u039F\u0394\u039F\u03A3", ["\u03BF\u03B4\u03BF\u03C2"]],
  ["हिन्दी भाषा", ["हिन्दी", "भाषा"]],
  ["東京都に住む x2", ["東京", "都", "に", "住む", "x2"]],
  ["สวัสดีครับ", ["สวัสดี", "ครับ"]],
  ["x² ½", ["x2", "1", "2"]],
])("the words of %j", (text, expected) => {
  expect(word.words(text)).toEqual(expected);
});

test("options bound the length of words in characters, and keep case", () => {
  const bounded = new Tokenizer({ kind: "word", minLength: 2, maxLength: 4 });
  expect(bounded.words("a ab abcd abcde 𝒳 𠀀𠀁𠀂")).not.toContain("abcde");
  expect(bounded.words("a ab abcd abcde")).toEqual(["ab", "abcd"]);
  expect(new Tokenizer({ kind: "word", lowercase: false }).words("Ab aB")).toEqual(["Ab", "aB"]);
  expect(new Tokenizer({ kind: "whitespace" }).words(" a-b,\tC.d\n")).toEqual(["a-b,", "c.d"]);
});

test("a prefix tokenizer finds longer words, within its lengths", () => {
  const prefix = new Tokenizer({ kind: "prefix", minLength: 2, maxLength: 4 });
  expect(hasAllWords(prefix, prefix.words("hel wo"), "Hello world")).toBe(true);
  expect(hasAllWords(prefix, prefix.words("hellish"), "Hello world")).toBe(true);
  expect(hasAllWords(prefix, prefix.words("h"), "Hello world")).toBe(false);
  expect(hasPhrase(prefix, prefix.words("hel wo"), "Hello world")).toBe(true);
  expect(hasPhrase(prefix, prefix.words("hel wo"), "Hello my world")).toBe(false);
});

test("all, any, and in a row", () => {
  const ask = (query: string, text: string): boolean[] =>
    [hasAllWords, hasAnyWord, hasPhrase].map((has) => has(word, word.words(query), text));
  expect(ask("good cheap", "cheap and good")).toEqual([true, true, false]);
  expect(ask("good cheap", "good, cheap!")).toEqual([true, true, true]);
  expect(ask("good cheap", "goods, cheap")).toEqual([false, true, false]);
  expect(ask("a b", "a a b")).toEqual([true, true, true]);
  expect(ask("a a", "a b")).toEqual([true, true, false]);
  expect(ask(" ,", "a b")).toEqual([false, false, false]);
});

test("a text has each of its words, and all of them in a row, with every tokenizer", () => {
  const options = fc.record<TokenizerOptions>({
    kind: fc.constantFrom("word" as const, "whitespace" as const, "prefix" as const),
    minLength: fc.constantFrom(0, 2),
    maxLength: fc.constantFrom(3, 100),
  });
  const letters = fc.string({ unit: fc.constantFrom(..."aB éÉ_-.’ßſ９ﬁ東京の都ไทยक़्"), maxLength: 30 });
  fc.assert(
    fc.property(options, letters, (options, text) => {
      const tokenizer = new Tokenizer(options);
      const words = tokenizer.words(text);
      for (const each of words) expect(hasAllWords(tokenizer, [each], text)).toBe(true);
      if (words.length > 0) expect(hasPhrase(tokenizer, words, text)).toBe(true);
    }),
  );
});
