import { once } from "node:events";
import { buffer } from "node:stream/consumers";
import { Readable } from "node:stream";
import { compress, Compressor, decompress } from "@cloudpss/zstd/napi";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { zstdDecompressor } from "./zstd.js";
import { ZstdFrames } from "./zstd-frames.js";

const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");

/** Cut where chance says, so that headers come in parts. */
function cut(bytes: Uint8Array, lengths: readonly number[]): Buffer[] {
  const parts: Buffer[] = [];
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const length = lengths[i % lengths.length] ?? 1;
    parts.push(Buffer.from(bytes.subarray(at, at + length)));
    at += length;
  }
  return parts;
}

async function unpacked(parts: readonly Buffer[]): Promise<Buffer> {
  const way = await zstdDecompressor();
  if (way === undefined) throw new Error("this machine has no zstd");
  Readable.from(parts).pipe(way.into);
  return buffer(way.from);
}

const failureOf = (parts: readonly Buffer[]): Promise<string> =>
  unpacked(parts).then(
    (bytes) => `${bytes.length} bytes`,
    (error: unknown) => (error as Error).message,
  );

/** A frame without a size or a checksum, whose window descriptor is `window`. */
const frame = (window: number, ...blocks: readonly (readonly number[])[]): Buffer =>
  Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, window, ...blocks.flat()]);
/** A byte as often as `size` says. */
const repeated = (size: number, isLast: boolean): number[] => {
  const header = (size << 3) | (1 << 1) | (isLast ? 1 : 0);
  return [header & 0xff, (header >> 8) & 0xff, header >> 16, 0x20];
};
const skippable = Buffer.from([0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);

describe("frames of zstd", () => {
  test("of a chunk with thousands of blocks a few are passed on in one turn of the event loop", async () => {
    const count = 2_000;
    const blocks = Array.from({ length: count }, (_, i) => repeated(128 * 1024, i === count - 1));
    const frames = new ZstdFrames();
    let inTurn = 0;
    let most = 0;
    let pieces = 0;
    frames.on("data", () => {
      pieces++;
      most = Math.max(most, ++inTurn);
    });
    const nextTurn = (): void => {
      inTurn = 0;
      if (!frames.readableEnded) setImmediate(nextTurn);
    };
    nextTurn();
    frames.end(frame(0x58, ...blocks));
    await once(frames, "end");
    expect(pieces).toBeGreaterThanOrEqual(count);
    // Turns of two loops may fall together.
    expect(most).toBeLessThanOrEqual(16);
  });

  test("whatever was packed comes out, however it is cut and by whatever levels, in one frame or many", async () => {
    const text = fc
      .tuple(fc.uint8Array({ maxLength: 3_000 }), fc.nat(200))
      .map(([bytes, times]) => Buffer.concat(Array.from({ length: times }, () => bytes)));
    const lengths = fc.array(fc.integer({ min: 1, max: 70_000 }), { minLength: 1, maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(
        fc.array(text, { minLength: 1, maxLength: 3 }),
        fc.integer({ min: -5, max: 12 }),
        lengths,
        async (texts, level, at) => {
          const frames = texts.flatMap((each) => [compress(each, level), skippable]);
          const all = await unpacked(cut(Buffer.concat(frames), at));
          expect(textOf(all) === textOf(Buffer.concat(texts))).toBe(true);
        },
      ),
      { numRuns: 40 },
    );
  });

  test("what ends before its end is refused, wherever that is", async () => {
    const whole = Buffer.concat([
      compress(Buffer.from("a text of some length, of some length")),
      compress(Buffer.from("another")),
    ]);
    const first = compress(Buffer.from("a text of some length, of some length")).length;
    for (let length = 1; length < whole.length; length++) {
      const failure = await failureOf([whole.subarray(0, length)]);
      if (length === first) expect(failure).toBe("37 bytes");
      else expect(failure, String(length)).toMatch(/ends within a frame/);
    }
  });

  test("changed bytes are refused or give other bytes, and nothing hangs", async () => {
    const whole = compress(Buffer.from("a text of some length, of some length, of some length"), 3);
    for (let at = 0; at < whole.length; at++) {
      for (const bit of [1, 8, 128]) {
        const changed = Buffer.from(whole);
        changed[at] = (changed[at] as number) ^ bit;
        expect(await failureOf([changed])).not.toBe("");
      }
    }
  });

  test.each([
    [frame(0x6f, repeated(1, true)), /window has 15728640 bytes, and 8388608/],
    [frame(0xff, repeated(1, true)), /window has/],
    [Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x7f, 1, 0, 0]), /window has 2130706432 bytes/],
    [Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x01, 0x40, 7, 1, 0, 0]), /dictionary/],
    [Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x08, 0x40, 1, 0, 0]), /reserved/],
    [frame(0x40, [0x07, 0, 0]), /no valid header/],
    [frame(0x58, repeated(200_000, true)), /no valid header/],
    [Buffer.from("this is none"), /does not begin/],
  ])("%j is refused", async (bytes, message) => {
    expect(await failureOf([bytes])).toMatch(message);
  });

  test("no piece unpacks to more than a block, and a reader that stops stops the unpacking", async () => {
    const blocks = Array.from({ length: 4_000 }, (_, i) => repeated(128 * 1024, i === 3_999));
    const bomb = frame(0x38, ...blocks);
    const pieces: Buffer[] = [];
    for await (const piece of Readable.from([bomb]).pipe(new ZstdFrames()) as AsyncIterable<Buffer>) pieces.push(piece);
    expect(pieces).toHaveLength(4_000);
    expect(Buffer.concat(pieces).equals(bomb)).toBe(true);
    const way = await zstdDecompressor();
    if (way === undefined) throw new Error("this machine has no zstd");
    way.into.end(bomb);
    let bytes = 0;
    for await (const chunk of way.from as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      expect(way.from.readableLength).toBeLessThan(512 * 1024);
      if (bytes > 1_000_000) break;
    }
    // What is left of the chunk is not passed on any more.
    if (!way.into.closed) await new Promise((resolve) => way.into.once("close", resolve));
    expect(way.from.destroyed && way.into.destroyed).toBe(true);
  });

  test("what streams out is a frame that others read", async () => {
    const compressor = new Compressor(1);
    const text = Buffer.from("again and again ".repeat(50_000));
    const packed = await buffer(Readable.from(cut(text, [60_000])).pipe(compressor));
    // Without a size in its header, as streams are.
    expect(textOf(await unpacked([packed])) === textOf(text)).toBe(true);
    expect(decompress(compress(text)).length).toBe(text.length);
  });
});
