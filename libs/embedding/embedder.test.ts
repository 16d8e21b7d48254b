import { describe, expect, test } from "vitest";
import { Embedder, fitEmbedder } from "./index.js";

const corpus = [
  "The server closes idle connections after a timeout of thirty seconds.",
  "Install the package with npm and import it from your TypeScript code.",
  "Whales are the largest animals and live in all oceans.",
  "A vector index finds the nearest neighbours of a query.",
  "Bake the bread for forty minutes until the crust is brown.",
  "Metrics are exported in the Prometheus text format.",
  "The parser reports the line and column of every syntax error.",
  "Sparrows build their nests under the roofs of houses.",
  "Compression reduces the size of messages on the wire.",
  "The orchestra rehearsed the symphony until midnight.",
  "Streams can be paused, and back-pressure slows the producer down.",
  "東京は日本の首都です。",
  "Погода в Москве сегодня холодная.",
];

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, value, i) => sum + value * (b[i] as number), 0);
}

function nearest(embedder: Embedder, query: string): string | undefined {
  const vector = embedder.embed(query);
  return [...corpus].sort((a, b) => dot(embedder.embed(b), vector) - dot(embedder.embed(a), vector))[0];
}

describe("an embedder", () => {
  const embedder = fitEmbedder(corpus);

  test.each([
    ["closing an idle connection", 0],
    ["installing packages for typescript", 1],
    ["whale", 2],
    ["indexing vectors to find neighbors", 3],
    ["baking bread", 4],
    ["prometheus metric exporter", 5],
    ["syntax errors while parsing", 6],
    ["where do sparrows nest", 7],
    ["compressing a message", 8],
    ["symphonies", 9],
    ["what does backpressure do to a paused stream", 10],
    ["日本の首都", 11],
    ["погода москва", 12],
  ])("finds the sentence that shares words or parts of words: %s", (query, index) => {
    expect(nearest(embedder, query)).toBe(corpus[index]);
  });

  test("words that every text has weigh less than rare ones", () => {
    const common = fitEmbedder(["the cat", "the dog", "the bird", "the fish"]);
    const [cat, the, dog] = ["the cat", "the", "dog"].map((text) => common.embed(text));
    const rare = common.embed("cat");
    expect(dot(cat as Float32Array, rare)).toBeGreaterThan(2 * dot(cat as Float32Array, the as Float32Array));
    expect(Math.abs(dot(rare, dog as Float32Array))).toBeLessThan(0.2);
  });

  test("every text that is not blank has a vector of length 1", () => {
    const odd = [
      "a",
      "!!!",
      "🙂",
      "\u0000",
      "\ud800",
      "ｆｕｌｌ",
      "ﬁ",
      "\u200b",
      "x".repeat(100_000),
      "é\u0301",
      "<>",
      "日",
    ];
    for (const text of [...corpus, ...odd]) {
      const vector = embedder.embed(text);
      expect(vector).toHaveLength(512);
      expect(Math.abs(dot(vector, vector) - 1)).toBeLessThan(1e-5);
    }
    for (const blank of ["", " \n\t", "\u3000"]) expect(() => embedder.embed(blank)).toThrow(/blank text/);
  });

  test("no vector is zero even where all signs could cancel", () => {
    // Two features of equal weight in 16 elements: one pair in 32 meets in one element with opposite signs.
    const small = fitEmbedder([], { dimension: 16 });
    for (let i = 0; i < 1_000; i++) {
      const vector = small.embed(`${String.fromCodePoint(0x4e00 + i)} ${String.fromCodePoint(0x6000 + i)}`);
      expect(dot(vector, vector)).toBeGreaterThan(0.99);
    }
  });

  test("forms of the same character and upper case are one", () => {
    expect(embedder.embed("ＦＵＬＬ caf\u00e9")).toEqual(embedder.embed("full CAFE\u0301"));
  });

  test("one text does not change the vector of the next", () => {
    const before = embedder.embed("idle connections");
    embedder.embed("idle idle idle symphony");
    expect(embedder.embed("idle connections")).toEqual(before);
  });

  test("it can be saved and read again", () => {
    const json = JSON.stringify(embedder);
    const again = Embedder.fromJSON(JSON.parse(json) as ReturnType<Embedder["toJSON"]>);
    expect(again.embed("idle connections")).toEqual(embedder.embed("idle connections"));
    expect(JSON.stringify(again)).toBe(json);
    for (const wrong of [null, {}, { ...embedder.toJSON(), version: 9 }, { ...embedder.toJSON(), idf: "AAAA" }]) {
      expect(() => Embedder.fromJSON(wrong as ReturnType<Embedder["toJSON"]>)).toThrow(/not an embedder/);
    }
    expect(() => fitEmbedder([], { dimension: 0 })).toThrow(/dimension/);
  });
});
