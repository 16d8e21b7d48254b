/** Large answers are made as their clients take them. */
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { createGunzip } from "node:zlib";
import { Decompressor } from "@cloudpss/zstd/napi";
import { expect, test } from "vitest";
import { systemClock } from "../../../libs/base/index.js";
import { ManualClock } from "../../../libs/base/testing.js";
import { streamOf } from "./large-body.js";

const piece = "é".repeat(32 * 1024);

function body(count: number): { pieces: Iterable<string>; sizeBytes: number; made: () => number } {
  let made = 0;
  function* pieces(): Generator<string> {
    for (; made < count; made++) yield piece;
  }
  return { pieces: pieces(), sizeBytes: 1, made: () => made };
}

test("an answer comes whole, compressed too", async () => {
  const plain = await streamOf(body(40), undefined, systemClock);
  expect(plain.encoding).toBe("");
  expect(await text(plain.stream)).toBe(piece.repeat(40));
  const squeezed = await streamOf(body(40), "br, gzip", systemClock);
  expect(squeezed.encoding).toBe("gzip");
  expect(await text(squeezed.stream.pipe(createGunzip()))).toBe(piece.repeat(40));
  const packed = await streamOf(body(40), "zstd", systemClock);
  expect(packed.encoding).toBe("zstd");
  expect(await text(packed.stream.pipe(new Decompressor()))).toBe(piece.repeat(40));
});

test("of an answer whose client does not read little is made, and after a minute it is given up", async () => {
  const clock = new ManualClock();
  const large = body(4_000);
  const { stream } = await streamOf(large, undefined, clock);
  const failed = once(stream, "error");
  const readable = once(stream, "readable");
  await clock.advance(1);
  await readable;
  expect(large.made()).toBeLessThan(40);
  await clock.advance(61_000);
  expect(await failed).toMatchObject([{ code: "DEADLINE_EXCEEDED" }]);
  expect(large.made()).toBeLessThan(40);
});

test("what cannot be printed ends the answer early, compressed too", async () => {
  for (const accepted of [undefined, "gzip"]) {
    const pieces = (function* (): Generator<string> {
      yield piece;
      throw new Error("no JSON is known");
    })();
    const { stream } = await streamOf({ pieces, sizeBytes: 1 }, accepted, systemClock);
    await expect(text(stream)).rejects.toThrow();
  }
});
