/** Files of backups whose stores hold what nobody of Kith has written: small ones that would unpack to much. */
import { deflateRawSync } from "node:zlib";
import { expect, test } from "vitest";
import { crc32c } from "../base/index.js";
import { chunkBytes, decodeChunk, decodePoints, encodeChunk } from "./index.js";

const mib = 1024 * 1024;
/** A block of deflate may follow the other: 8 MiB of zeros in 8 KiB each. */
const piece = deflateRawSync(Buffer.alloc(8 * mib), { finishFlush: 2 });
const bomb = Buffer.concat(Array.from({ length: 512 }, () => piece));

function file(magic: string, length: number, body: Buffer): Buffer {
  const head = Buffer.alloc(13);
  head.write(magic, 0, "latin1");
  head[8] = 1;
  head.writeUInt32LE(length, 9);
  const whole = Buffer.concat([head, body]);
  whole.writeUInt32LE(crc32c(whole.subarray(8)), 4);
  return whole;
}

test.each([
  ["a chunk that says so", "KBC1", 2 ** 32 - 1, bomb, /holds 4294967295 bytes, of 4194304 at most/],
  ["a chunk that says less", "KBC1", chunkBytes, bomb, /unpacks to more than the 4194304 bytes/],
  ["points that say so", "KBP1", 2 ** 32 - 1, bomb, /of 268435456 at most/],
  ["points that say less", "KBP1", 5, bomb, /unpacks to more than the 5 bytes/],
  ["no deflate", "KBC1", 5, Buffer.from("nonsense"), /does not unpack/],
] as const)("%s: 4 GiB in 4 MiB are not unpacked", async (_, magic, length, body, message) => {
  expect(bomb.length).toBeLessThan(8 * mib);
  const decode = magic === "KBC1" ? decodeChunk : decodePoints;
  const before = process.memoryUsage().rss;
  await expect(decode("a", file(magic, length, body))).rejects.toMatchObject({
    code: "CORRUPT_DATA",
    message: expect.stringMatching(message) as string,
  });
  expect(process.memoryUsage().rss - before).toBeLessThan(64 * mib);
});

test("the largest chunk there is comes back", async () => {
  const content = Buffer.alloc(chunkBytes, "word ");
  expect(Buffer.compare(await decodeChunk("a", await encodeChunk(content)), content)).toBe(0);
});
