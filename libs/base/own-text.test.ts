import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { ownText } from "./index.js";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

function heapBytes(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed;
}

test("parts of texts do not keep the texts alive", () => {
  const kept: string[] = [];
  const before = heapBytes();
  for (let i = 0; i < 64; i++) {
    const document = `${i} and a word, `.repeat(64 * 1024);
    kept.push(ownText(document.slice(0, 14)));
  }
  expect(heapBytes() - before).toBeLessThan(8 * 1024 * 1024);
  expect(kept[63]).toBe("63 and a word,");
  for (const text of ["", "short", "long enough, \ud800 and ü", "😀".repeat(20)]) expect(ownText(text)).toBe(text);
});
