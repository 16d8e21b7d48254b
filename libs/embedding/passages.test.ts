import { describe, expect, test } from "vitest";
import { splitPassages } from "./index.js";

const page = `Badge line.

# Guide *to* [Kith](https://example.org)

Intro paragraph.

## Install

\`\`\`sh
# not a heading
npm ci
\`\`\`

~~~~
\`\`\`
# nor this
~~~
~~~~

After the code.

### Options ###

- one
---
- two

Second Title
============

Last words.
#hashtag is text
`;

describe("passages", () => {
  test("follow the headings and are not confused by code", () => {
    const passages = splitPassages(page);
    expect(passages.map(({ title }) => title)).toEqual([
      "",
      "Guide to Kith",
      "Guide to Kith › Install",
      "Guide to Kith › Install › Options",
      "Second Title",
    ]);
    expect(passages[2]?.text).toBe(
      "```sh\n# not a heading\nnpm ci\n```\n\n~~~~\n```\n# nor this\n~~~\n~~~~\n\nAfter the code.",
    );
    expect(passages[2]?.headings).toEqual(["Guide to Kith", "Install"]);
    expect(passages[3]?.text).toBe("- one\n---\n- two");
    expect(passages[4]?.text).toBe("Last words.\n#hashtag is text");
  });

  test("a fence that is never closed swallows the rest, as Markdown has it", () => {
    expect(splitPassages("# A\n\n```\n# B\n\ntext")).toEqual([
      { headings: ["A"], title: "A", text: "```\n# B\n\ntext" },
    ]);
  });

  test("paragraphs are joined up to the limit and long ones are cut at sentences, words, or anywhere", () => {
    const short = splitPassages("one two three\n\nfour five six\n\nseven eight nine\n\nten", { maxChars: 40 });
    expect(short.map(({ text }) => text)).toEqual(["one two three\n\nfour five six", "seven eight nine\n\nten"]);
    const sentences = "The first sentence is here. The second one is too. And a third.";
    expect(splitPassages(sentences, { maxChars: 52 }).map(({ text }) => text)).toEqual([
      "The first sentence is here. The second one is too.",
      "And a third.",
    ]);
    const emoji = splitPassages("😀".repeat(50), { maxChars: 41 }).map(({ text }) => text);
    expect(emoji.join("")).toBe("😀".repeat(50));
    expect(emoji.every((text) => text.length % 2 === 0)).toBe(true);
  });

  test.each([0, 20, 100])("nothing is lost and nothing is too long, with an overlap of %i", (overlap) => {
    const words = Array.from({ length: 3_000 }, (_, i) => `w${i}`);
    const text = words.map((word, i) => word + (i % 40 === 39 ? "\n\n" : i % 9 === 8 ? ".\n" : " ")).join("");
    const passages = splitPassages(text, { maxChars: 250, overlap });
    const seen = new Set(passages.flatMap((passage) => passage.text.match(/w\d+/g) ?? []));
    expect(seen.size).toBe(3_000);
    expect(Math.max(...passages.map((passage) => passage.text.length))).toBeLessThanOrEqual(250);
    for (let i = 1; i < passages.length && overlap > 0; i++) {
      const first = /w\d+/.exec(passages[i]?.text ?? "")?.[0];
      expect(passages[i - 1]?.text).toContain(first);
    }
  });

  test("small pieces can be dropped, and odd input is no error", () => {
    expect(splitPassages("# A\n\nx\n\n# B\n\nlonger text", { minChars: 5 }).map(({ title }) => title)).toEqual(["B"]);
    expect(splitPassages("")).toEqual([]);
    expect(splitPassages("\ufeff# A\r\n\r\ntext\r\n")).toEqual([{ headings: ["A"], title: "A", text: "text" }]);
    expect(() => splitPassages("x", { maxChars: 3 })).toThrow(/maxChars/);
    expect(() => splitPassages("x", { maxChars: 100, overlap: 90 })).toThrow(/overlap/);
  });
});
