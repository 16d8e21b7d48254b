import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, it } from "vitest";
import { SeededRandom } from "../base/index.js";
import { type AnalyzerOptions, analyzerDefaults, analyzerLanguages } from "../model/index.js";
import { analyzerOf, editDistance, FieldTexts, highlight, type HighlightOptions, parseText } from "./index.js";

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
    ["Turkish", { language: "turkish", stem: false }, "IŞIK ışık İZMİR izmir", ["ışık", "ışık", "izmir", "izmir"]],
    ["letters without an accent to fold", { foldAccents: true }, "Łódź Øre Þór Æsir", ["lodz", "ore", "thor", "aesir"]],
    ["contractions", { language: "english" }, "It's O'Neil's, they'll see", ["o", "neil", "see"]],
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

it.each<[string, Partial<AnalyzerOptions>, [string, string][]]>([
  [
    "北京北京",
    {},
    [
      ["北京", "北京"],
      ["北京", "北京"],
    ],
  ],
  [
    "½ Kith™ ㎏",
    {},
    [
      ["1", "½"],
      ["2", "½"],
      ["kithtm", "Kith™"],
      ["kg", "㎏"],
    ],
  ],
  [
    "ｶﾞｽ 가요",
    {},
    [
      ["ガス", "ｶﾞｽ"],
      ["가요", "가요"],
    ],
  ],
])("places the tokens of %s", (text, options, expected) => {
  const analyzer = analyzerOf({ ...analyzerDefaults, ...options });
  const placed = analyzer.placed(text);
  expect(placed.map(({ token, start, end }) => [token, text.slice(start, end)])).toEqual(expected);
  expect(placed.map(({ token }) => token)).toEqual(analyzer.tokens(text));
  expect(placed.every(({ start }, i) => i === 0 || start >= (placed[i - 1]?.start ?? 0))).toBe(true);
  expect(new Set(placed.map(({ start, token }) => `${start} ${token}`)).size).toBe(placed.length);
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

it("distances are those of the whole table, up to the most that is asked for", () => {
  const random = new SeededRandom(11);
  const word = (most: number): string =>
    Array.from({ length: random.below(most) }, () => "ab😀"[random.below(4)]).join("");
  const table = (a: string, b: string): number => {
    const rows = [Array.from({ length: b.length + 1 }, (_, j) => j)];
    const at = (i: number, j: number): number => rows[i]?.[j] ?? Infinity;
    for (let i = 1; i <= a.length; i++) {
      rows.push([i]);
      for (let j = 1; j <= b.length; j++) {
        const isSwapped = a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
        const changed = at(i - 1, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1);
        const swapped = i > 1 && j > 1 && isSwapped ? at(i - 2, j - 2) + 1 : Infinity;
        rows[i]?.push(Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, changed, swapped));
      }
    }
    return at(a.length, b.length);
  };
  for (let i = 0; i < 3_000; i++) {
    const a = word(9);
    const b = random.float() < 0.5 ? word(9) : `${a.slice(1)}${word(3)}`;
    const max = random.below(4);
    expect(editDistance(a, b, max), `${a} and ${b}, up to ${max}`).toBe(Math.min(table(a, b), max + 1));
  }
  const long = "x".repeat(300);
  expect([editDistance(long, `${long}y`, 2), editDistance(`a${long}`, `${long}b`, 1)]).toEqual([1, 2]);
});

describe("highlighting", () => {
  const analyzer = analyzerOf({ ...analyzerDefaults, language: "english" });
  const marked = (text: string, query: string): string[] =>
    highlight([text], parseText(query, analyzer, false), analyzer, {
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

  it.each([
    ["layer of boundary layers", '"boundary layer"', "layer of [boundary] [layers]"],
    ["layer of boundary layers", '"boundary layer" layer', "[layer] of [boundary] [layers]"],
    ["layer of boundary layers", '"boundary layer" AND layer', "[layer] of [boundary] [layers]"],
    ["layer of boundary layers", 'layer -"boundary layer" -of', "[layer] of boundary [layers]"],
    ["wing winglet wang", "wing*", "[wing] [winglet] wang"],
    ["wing winglet wang", "wing~1", "[wing] winglet [wang]"],
  ])("marks in %s what %s asks for", (text, query, expected) => expect(marked(text, query)).toEqual([expected]));

  const highlighted = (text: string, query: string, options: Partial<AnalyzerOptions>, more: HighlightOptions = {}) => {
    const own = analyzerOf({ ...analyzerDefaults, ...options });
    return highlight([text], parseText(query, own, false), own, { before: "[", after: "]", ...more });
  };

  it.each<[string, string, Partial<AnalyzerOptions>, string]>([
    ["北京大学", "京大学", { cjkBigrams: true }, "北[京大学]"],
    ["北京大学", '"京大学"', { cjkBigrams: true }, "北[京大学]"],
    ["Häuser an STRAẞEN", "haus strasse", { language: "german" }, "[Häuser] an [STRAẞEN]"],
    ["Cafe\u0301 Łódź", "café lodz", { foldAccents: true }, "[Cafe\u0301] [Łódź]"],
  ])("marks %s for %s", (text, query, options, expected) => {
    expect(highlighted(text, query, options)).toEqual([expected]);
  });

  it("can be put into a page", () => {
    const [found] = highlighted("<b>Tom & 'Tim'</b>", "tim", {}, { before: "<em>", after: "</em>", escapeHtml: true });
    expect(found).toBe("&lt;b&gt;Tom &amp; &#39;<em>Tim</em>&#39;&lt;/b&gt;");
  });

  it("has no part of the text twice, and marks all of a part", () => {
    const text = Array.from({ length: 60 }, (_, i) => (i % 7 === 0 ? "wing" : `filler${i}`)).join(" ");
    const parts = highlighted(text, "wing", {}, { fragmentLength: 30, fragmentCount: 20 });
    const numbers = parts.flatMap((part) => part.match(/filler\d+/g) ?? []);
    expect(new Set(numbers).size).toBe(numbers.length);
    expect(parts.join(" ").match(/\[wing\]/g)).toHaveLength(9);
    expect(parts.join(" ").replaceAll("[wing]", "")).not.toContain("wing");
  });

  it("cuts no character in two, in a text without spaces", () => {
    const [part] = highlighted(`${"😀".repeat(50)}wing${"😀".repeat(50)}`, "wing", {}, { fragmentLength: 21 });
    expect(part).toMatch(/^(?:😀)+\[wing\](?:😀)+$/u);
  });

  it.each([{ fragmentLength: 0 }, { fragmentCount: Number.NaN }])("refuses %o", (options) => {
    expect(() => highlighted("wing", "wing", {}, options)).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT" }) as Error,
    );
  });
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
