import { describe, expect, test } from "vitest";
import { SeededRandom } from "../base/index.js";
import { idFromName, idFromNum, type ShardQuery, type ShardQueryResult } from "../model/index.js";
import { ByteReader, ByteWriter } from "./bytes.js";
import { readCodecs } from "./codec.js";
import { beginFrame, finishFrame, frameHeaderBytes, FrameReader } from "./frames.js";

/** What a reader is given for one frame, copied: the body is only valid while it is read. */
interface Seen {
  type: number;
  flags: number;
  slot: number;
  serial: number;
  body: string;
}

function readAll(chunks: readonly Buffer[]): Seen[] {
  const seen: Seen[] = [];
  const reader = new FrameReader((header, body) => {
    const length = body.u32();
    seen.push({ ...header, body: Buffer.from(body.bytes(length)).toString("latin1") });
  });
  for (const chunk of chunks) reader.push(chunk);
  return seen;
}

function cut(bytes: Buffer, random: SeededRandom, most: number): Buffer[] {
  const chunks: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = 1 + random.below(most);
    // A copy: the next chunk of a socket may lie where this one lay.
    chunks.push(Buffer.from(bytes.subarray(at, at + length)));
    at += length;
  }
  return chunks;
}

describe("frames", () => {
  test.each([1, 7, 20, 300, 70_000, 1_000_000])(
    "are the same however they are cut, into pieces of up to %d bytes",
    (most) => {
      const random = new SeededRandom(most);
      const writer = new ByteWriter();
      const sent: Seen[] = [];
      for (let serial = 0; serial < 200; serial++) {
        // Some are larger than a slab of the writer, and than one read of a socket.
        const size = serial % 50 === 49 ? 200_000 : random.below(300);
        const body = Buffer.from(random.bytes(size)).toString("latin1");
        const header = { type: serial % 256, flags: serial % 2, slot: random.below(65_536), serial };
        beginFrame(writer, header.type, header.flags, header.slot, serial);
        writer.u32(size);
        writer.bytes(Buffer.from(body, "latin1"));
        finishFrame(writer, "request");
        sent.push({ ...header, body });
      }
      expect(readAll(cut(Buffer.concat(writer.take()), random, most))).toEqual(sent);
      expect(writer.take()).toEqual([]);
    },
  );

  test("what was dropped leaves nothing, also across slabs", () => {
    const writer = new ByteWriter();
    const sent: number[] = [];
    for (let serial = 0; serial < 100; serial++) {
      beginFrame(writer, 1, 0, 0, serial);
      writer.u32(5_000);
      writer.bytes(Buffer.alloc(5_000, serial));
      if (serial % 3 === 0) {
        writer.rollback();
        continue;
      }
      finishFrame(writer, "request");
      sent.push(serial);
    }
    const seen = readAll([Buffer.concat(writer.take())]);
    expect(seen.map(({ serial }) => serial)).toEqual(sent);
    for (const { body, serial } of seen) expect(new Set(Buffer.from(body, "latin1"))).toEqual(new Set([serial]));
  });

  test("a body larger than any message ends the reading", () => {
    const bytes = Buffer.alloc(frameHeaderBytes);
    bytes.writeUInt32LE(0x7fff_ffff, 0);
    expect(() => readAll([bytes])).toThrow(/a frame of 2147483647 bytes/);
  });
});

describe("bytes", () => {
  test("numbers, texts and floats come back as they were", () => {
    const writer = new ByteWriter();
    writer.mark();
    const texts = ["", "a", "käse", "日本", "x".repeat(5_000), "ends with é"];
    writer.u8(255);
    for (const text of texts) writer.text(text);
    for (const value of [0, 1, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER]) writer.u64(value);
    writer.align();
    writer.f32(0.1);
    const bytes = Buffer.concat(writer.take());
    const reader = new ByteReader();
    reader.reset(bytes, 0, bytes.length);
    expect(reader.u8()).toBe(255);
    for (const text of texts) expect(reader.text()).toBe(text);
    for (const value of [0, 1, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER]) expect(reader.u64()).toBe(value);
    reader.align();
    expect(reader.f32()).toBe(Math.fround(0.1));
    expect(reader.left).toBe(0);
    expect(() => reader.u8()).toThrow(/ends too early/);
  });

  test("what cannot be written is refused", () => {
    const writer = new ByteWriter();
    expect(() => writer.u32(-1)).toThrow(RangeError);
    expect(() => writer.u32(1.5)).toThrow(RangeError);
    expect(() => writer.u16(65_536)).toThrow(RangeError);
    expect(() => writer.u64(2 ** 53)).toThrow(RangeError);
    expect(() => writer.text("x".repeat(70_000))).toThrow(RangeError);
  });

  test("a text that is read again and again is the last one that came", () => {
    const writer = new ByteWriter();
    const texts = ["one", "one", "two", "twos", "", "one"];
    for (const text of texts) writer.text(text);
    const bytes = Buffer.concat(writer.take());
    const reader = new ByteReader();
    reader.reset(bytes, 0, bytes.length);
    const last = { bytes: new Uint8Array(0), text: "" };
    expect(texts.map(() => reader.textAgain(last))).toEqual(texts);
  });
});

describe("queries", () => {
  const { query } = readCodecs;
  /** Behind so many bytes, so that vectors do not lie where they can be used in place. */
  function crossed<T>(shift: number, write: (to: ByteWriter) => void, read: (from: ByteReader) => T): T {
    const writer = new ByteWriter();
    writer.mark();
    write(writer);
    const bytes = Buffer.concat([Buffer.alloc(shift), ...writer.take()]);
    const reader = new ByteReader();
    reader.reset(bytes, shift, bytes.length);
    return read(reader);
  }

  test.each([0, 1, 3])("and results cross whole, %d bytes from where vectors are aligned", (shift) => {
    const random = new SeededRandom(shift + 1);
    const vector = (length: number): Float32Array => Float32Array.from({ length }, () => random.gaussian());
    for (let round = 0; round < 50; round++) {
      const select = {
        payload: round % 2 === 0,
        vectors: round % 3 === 0 ? ("all" as const) : round % 3 === 1 ? [] : ["a", "größe"],
      };
      const asked: ShardQuery = {
        field: round % 4 === 0 ? "" : `field${round % 3}`,
        vector: vector(1 + random.below(200)),
        k: 1 + random.below(10_000),
        ef: random.below(8_000),
        exact: round % 5 === 0,
        select,
        minSequence: round % 2 === 0 ? 0 : 2 ** 40 + round,
      };
      expect(
        crossed(
          shift,
          (to) => query.writeRequest(to, asked),
          (from) => query.readRequest(from),
        ),
      ).toEqual(asked);
      const result: ShardQueryResult = {
        hits: Array.from({ length: random.below(40) }, (_, i) => ({
          id: i % 2 === 0 ? idFromNum(random.below(2 ** 31)) : idFromName("n".repeat(1 + random.below(200))),
          score: Math.fround(random.gaussian()),
          version: random.below(2 ** 31),
          payload: new Uint8Array(random.bytes(round % 3 === 0 ? 0 : random.below(50))),
          ...(round % 4 === 0 && i % 3 !== 0
            ? {
                vectors: new Map([
                  ["", vector(3)],
                  ["b", vector(5)],
                ]),
              }
            : {}),
        })),
        plan: round % 2 === 0 ? "graph" : "",
        sequence: 2 ** 33 + round,
      };
      // A hit without vectors beside one with them has none, as a map.
      const anyVectors = result.hits.some(({ vectors }) => vectors !== undefined);
      const expected = {
        ...result,
        hits: result.hits.map((hit) => (anyVectors ? { ...hit, vectors: hit.vectors ?? new Map() } : hit)),
      };
      expect(
        crossed(
          shift,
          (to) => query.writeAnswer(to, result),
          (from) => query.readAnswer(from),
        ),
      ).toEqual(expected);
    }
  });

  test("a result that is cut off anywhere, or claims too much, is malformed", () => {
    const writer = new ByteWriter();
    writer.mark();
    const hit = {
      id: idFromNum(1),
      score: 1,
      version: 2,
      payload: new Uint8Array([1]),
      vectors: new Map([["", vector3]]),
    };
    query.writeAnswer(writer, { hits: [hit, hit], plan: "scan", sequence: 3 });
    const bytes = Buffer.concat(writer.take());
    const reader = new ByteReader();
    for (let end = 0; end < bytes.length; end++) {
      reader.reset(bytes, 0, end);
      expect(() => query.readAnswer(reader), `${end} of ${bytes.length} bytes`).toThrow(/malformed/);
    }
    bytes.writeUInt32LE(0xffff_ffff, 0);
    reader.reset(bytes, 0, bytes.length);
    expect(() => query.readAnswer(reader)).toThrow(/4294967295 hits/);
  });
});
const vector3 = new Float32Array(3);
