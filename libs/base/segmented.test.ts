import { afterEach, expect, test, vi } from "vitest";
import { SeededRandom, segmented } from "./index.js";

const whole = new Intl.Segmenter("en", { granularity: "word" });

afterEach(() => vi.restoreAllMocks());

function wholly(text: string): string[] {
  return Array.from(whole.segment(text)).flatMap(({ segment, isWordLike }) => (isWordLike ? [segment] : []));
}

/** Phrases one after the other without anything in between, as in a text that has lost its punctuation. */
function runOf(phrases: readonly string[], length: number): string {
  const random = new SeededRandom(13);
  let text = "";
  while (text.length < length) text += phrases[random.below(phrases.length)] as string;
  return text;
}

test.each<[string, string[]]>([
  ["Chinese", ["我们在北京大学学习计算机科学", "中华人民共和国成立了", "今天的天气很好", "人工智能的理论与实践"]],
  ["Japanese", ["日本語の文章を解析する", "コンピュータサイエンス", "東京都に住む", "インターネットとデータベース"]],
  ["Thai", ["ภาษาไทยเป็นภาษาที่ไม่มีการเว้นวรรค", "ประเทศไทยมีกรุงเทพมหานคร", "การตัดคำจึงเป็นเรื่องสำคัญ"]],
])("a long run is split into the words that it has as a whole: %s", (_script, phrases) => {
  for (const length of [0, 100, 511, 512, 513, 5_000]) {
    const text = runOf(phrases, length);
    expect(segmented(text)).toEqual(wholly(text));
  }
});

test("a word may be longer than what is split at a time", () => {
  const text = `北京${"a".repeat(3_000)}大学`;
  expect(segmented(text)).toEqual(wholly(text));
});

test("no segment holds a copy of a long text", () => {
  const given: number[] = [];
  const segment = whole.segment.bind(whole);
  vi.spyOn(Intl.Segmenter.prototype, "segment").mockImplementation((text) => {
    given.push(text.length);
    return segment(text);
  });
  const text = runOf(["我们在北京大学学习"], 20_000);
  expect(segmented(text).join("")).toBe(text);
  expect(Math.max(...given)).toBeLessThanOrEqual(1_024);
  expect(given.reduce((sum, length) => sum + length)).toBeLessThan(2 * text.length);
});
