import { closeSync, openSync, readdirSync, readSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";

/** Turns all bits of one byte round, in place. `at` counts from the end where it is negative. */
export function flipByte(file: string, at: number): void {
  const size = statSync(file).size;
  const position = at < 0 ? size + at : at;
  if (position < 0 || position >= size) throw new Error(`${file} has ${size} bytes and none at ${at}`);
  const byte = Buffer.alloc(1);
  const handle = openSync(file, "r+");
  try {
    readSync(handle, byte, 0, 1, position);
    byte[0] = (byte[0] as number) ^ 0xff;
    writeSync(handle, byte, 0, 1, position);
  } finally {
    closeSync(handle);
  }
}

/** Files below a directory whose path matches, in order. */
export function filesBelow(directory: string, pattern: RegExp): string[] {
  return readdirSync(directory, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => pattern.test(path.slice(directory.length + 1)))
    .sort();
}

/** Whole numbers below `limit` from a seed (mulberry32), so that a failure can be repeated. */
export function randomFrom(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
}
