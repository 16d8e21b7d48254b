import type { Random } from "../../libs/base/index.js";

/** Bytes that parsers have stumbled over: lengths that are none, ends of ranges, names of prototypes, steps of paths, ends of lines. */
const pieces = [
  ...[
    "",
    "\0",
    "\r\n",
    "../../",
    "%2e%2e%2f",
    "__proto__",
    "constructor",
    "\u2028",
    "\ud800",
    "kith",
    "*",
    "{",
    "]",
    '"',
  ],
  ...["99999999999999999999", "-1", "1e999", "NaN", "null"],
].map((text) => Buffer.from(text));
const numbers = [0, 1, 0x7f, 0x80, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

const below = (random: Random, count: number): number => Math.floor(random.float() * count);

/** One to four changes of some bytes, at places that chance gives; `other` is spliced in. */
export function mutate(bytes: Buffer, other: Buffer, random: Random): Buffer {
  let result: Buffer = Buffer.from(bytes);
  for (let left = 1 + below(random, 4); left > 0; left--) result = change(result, other, random);
  return result.length > bytesMax ? result.subarray(0, bytesMax) : result;
}

const bytesMax = 256 * 1024;

function change(bytes: Buffer, other: Buffer, random: Random): Buffer {
  const at = below(random, bytes.length + 1);
  const end = Math.min(bytes.length, at + 1 + below(random, 16));
  const [head, tail] = [bytes.subarray(0, at), bytes.subarray(end)];
  switch (below(random, 8)) {
    case 0:
      if (at < bytes.length) bytes[at] = (bytes[at] as number) ^ (1 << below(random, 8));
      return bytes;
    case 1:
      if (at < bytes.length) bytes[at] = (numbers[below(random, numbers.length)] as number) & 0xff;
      return bytes;
    case 2:
      if (at + 4 <= bytes.length) bytes.writeUInt32LE(numbers[below(random, numbers.length)] as number, at);
      return bytes;
    case 3:
      return Buffer.concat([head, tail]);
    case 4:
      return Buffer.concat([head, bytes.subarray(at, end), bytes.subarray(at)]);
    case 5:
      return Buffer.concat([head, pieces[below(random, pieces.length)] as Buffer, bytes.subarray(at)]);
    case 6:
      return Buffer.concat([head, other.subarray(below(random, other.length + 1)), tail]);
    default:
      return Buffer.concat([head, random.bytes(1 + below(random, 8)), tail]);
  }
}
