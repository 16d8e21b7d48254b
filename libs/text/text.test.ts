import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, it } from "vitest";
import { type AnalyzerOptions, analyzerDefaults, analyzerLanguages } from "../model/index.js";
import { analyzerOf, editDistance, FieldTexts, highlight, parseText } from "./index.js";

const tokens = (text: string, options: Partial<AnalyzerOptions> = {}): string[] =>
  analyzerOf({ ...analyzerDefaults, ...options }).tokens(text);

describe("an analyzer", () => {
  it.each<[string, Partial<AnalyzerOptions>, string, string[]]>([
    ["words", {}, "Don't panic: 42 is it!", ["don", "t", "panic", "42", "is", "it"]],
    ["case", { lowercase: false }, "Big BIG", ["Big", "BIG"]],
    ["NFKC", {}, "ﬁne Ｗｉｄｅ ①", ["fine", "wide", "1"]],
    ["accents", { foldAccents: true }, "Café Åre naïve", ["cafe", "are", "naive"]],
    ["case as Unicode folds it", {}, "Straße STRASSE ΟΔΟΣ οδός", ["strasse", "strasse", "οδοσ", "οδόσ"]],
    ["English", { language: "english" }, "The layers were running quickly", ["layer", "run", "quickli"]],
    ["stop words that stay", { language: "english", removeStopwords: false, stem: false }, "The end", ["the", "end"]],
    ["further stop words", { stopwords: ["Foo"] }, "foo bar FOO", ["bar"]],
    ["white space", { tokenizer: "whitespace" }, " C++ is, e.g. fast ", ["c++", "is,", "e.g.", "fast"]],
    ["keyword", { tokenizer: "keyword" }, "  New York ", ["new york"]],
    ["n-grams", { tokenizer: "ngram", minGram: 2, maxGram: 3 }, "abcd x", ["ab", "abc", "bc", "bcd", "cd", "x"]],
    ["edge n-grams", { tokenizer: "edgeNgram", minGram: 1, maxGram: 3 }, "Word", ["w", "wo", "wor"]],
    ["CJK by bigrams", { cjkBigrams: true }, "東京都 is 大", ["東京", "京都", "is", "大"]],
    ["Chinese by words", {}, "我们喜欢音乐", ["我们", "喜欢", "音乐"]],
    ["nothing", {}, " ...—! ", []],
  ])("splits: %s", (_name, options, text, expected) => {
    expect(tokens(text, options)).toEqual(expected);
  });

  it.each(analyzerLanguages)("has stop words and a stemmer: %s", (language) => {
    expect(tokens("example 123", { language }).length).toBeGreaterThan(0);
  });

  it("places what it finds", () => {
    const text = "Running, the Ｒunners run.";
    const placed = analyzerOf({ ...analyzerDefaults, language: "english" }).placed(text);
    expect(placed.map(({ token, start, end }) => [token, text.slice(start, end)])).toEqual([
      ["run", "Running"],
      ["runner", "Ｒunners"],
      ["run", "run"],
    ]);
  });
});

describe("the text of a query", () => {
  const analyzer = analyzerOf(analyzerDefaults);
  const read = (text: string, plain = false): string =>
    parseText(text, analyzer, plain)
      .clauses.map(({ kind, terms }) => {
        const sign = kind === "must" ? "+" : kind === "mustNot" ? "-" : "";
        const each = terms.map(
          (term) =>
            `${term.text}${term.kind === "prefix" ? "*" : term.kind === "fuzzy" ? `~${term.distance}` : ""}${term.boost === 1 ? "" : `^${term.boost}`}`,
        );
        return `${sign}${each.join("|")}`;
      })
      .join(" ");

  it.each([
    ["boundary layer layer", "boundary layer^2"],
    ["+a -b c^2.5", "+a -b c^2.5"],
    ["a AND b", "+a +b"],
    ["a OR b", "a b"],
    ["a NOT b", "a -b"],
    ["+(a OR b*) -c", "+a|b* -c"],
    ["helo~1 wrold~ Hel*", "helo~1 wrold~1 hel*"],
    ['"in a row"', "+in +a +row"],
    ["state-of-the-art", "state of the art"],
    ['+ - " *', ""],
  ])("%s", (text, expected) => expect(read(text)).toBe(expected));

  it("takes signs for nothing where it is plain", () => expect(read('+a -b "c d" e*', true)).toBe("a b c d e"));

  it("keeps phrases", () => {
    expect(parseText('"a b" -"c d"', analyzer, false).phrases).toEqual([
      { tokens: ["a", "b"], isExcluded: false },
      { tokens: ["c", "d"], isExcluded: true },
    ]);
  });

  it.each([
    ...["(a", "a)", "(a (b))"],
    // All of these would be taken for one of which any is enough.
    ...["(a AND b)", "(a NOT b)", "(a -b)", "(+a b)", '(a "b c")', '(a -"b")'],
  ])("refuses %s", (text) => {
    expect(() => parseText(text, analyzer, false)).toThrow(/parenthesis/);
    expect(() => parseText(text, analyzer, true)).not.toThrow();
  });

  it("folds what stands before * as terms are", () => {
    const folding = analyzerOf({ ...analyzerDefaults, foldAccents: true });
    const terms = parseText("Naï* STRASS* straßen*", folding, false).clauses.flatMap((clause) => clause.terms);
    expect(terms.map(({ text }) => text)).toEqual(["nai", "strass", "strassen"]);
  });
});

it("finds the texts of a field, of an array those of its elements", () => {
  const texts = new FieldTexts({
    fields: [
      { path: "tags", weight: 1, b: 0.75 },
      { path: "a[].b", weight: 1, b: 0.75 },
    ],
    ...{ k1: 1.2, analyzer: analyzerDefaults },
  });
  expect(texts.of({ tags: ["one", 2, null, "two", ["three"]], a: [{ b: "x" }, { b: ["y"] }] })).toEqual([
    ["one", "two"],
    ["x", "y"],
  ]);
  expect(texts.of({ tags: "one", a: 7 })).toEqual([["one"], []]);
});

it.each([
  ["abc", "abc", 0],
  ["abc", "abd", 1],
  ["abc", "acb", 1],
  ["abc", "ab", 1],
  ["kitten", "sitting", 3],
  ["abcdef", "uvwxyz", 3],
])("the distance of %s and %s", (a, b, expected) => expect(editDistance(a, b, 2)).toBe(Math.min(expected, 3)));

describe("highlighting", () => {
  const analyzer = analyzerOf({ ...analyzerDefaults, language: "english" });
  const marked = (text: string, query: string): string[] =>
    highlight(text, parseText(query, analyzer, false), analyzer, {
      before: "[",
      after: "]",
      fragmentLength: 40,
      fragmentCount: 2,
    });

  it("marks words by their stems, the best part first", () => {
    const text = `A layer stands alone here. ${"Filler words. ".repeat(10)}Boundary layers are thin, said Prandtl.`;
    const [first, second] = marked(text, "boundary layer");
    expect(first).toContain("[Boundary] [layers] are");
    expect(second).toContain("A [layer] stands");
  });

  it("gives nothing where nothing is found", () => expect(marked("nothing here", "absent")).toEqual([]));
});

it("keeps no large text alive by the tokens that it gave", () => {
  setFlagsFromString("--expose-gc");
  const heapBytes = (): number => {
    (runInNewContext("gc") as () => void)();
    return process.memoryUsage().heapUsed;
  };
  const analyzer = analyzerOf({ ...analyzerDefaults, stem: false });
  const kept: string[] = [];
  const before = heapBytes();
  for (let i = 0; i < 24; i++) {
    const word = `unusualnumber${i}`;
    const found = analyzer.tokens(`${word} ${"and so on ".repeat(50_000)}${i}${"x".repeat(500_000)}`);
    kept.push(...found.filter((token) => token === word));
  }
  expect(heapBytes() - before).toBeLessThan(4 * 1024 * 1024);
  expect(kept).toHaveLength(24);
});
