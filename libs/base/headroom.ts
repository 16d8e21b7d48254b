/** Buffers in which nobody uses what lies before the bytes that were made there. */
const unused = new WeakSet<ArrayBufferLike>();

/** Tells that nobody uses what lies before the bytes in their buffer, which holds nothing but them: whoever stores them may write a header there. */
export function giveHeadroom(bytes: Uint8Array): void {
  unused.add(bytes.buffer);
}

/** The bytes with `count` more before them, without a copy; undefined where there are none. They are given once: who comes next copies. */
export function takeHeadroom(bytes: Uint8Array, count: number): Buffer | undefined {
  if (bytes.byteOffset < count || !unused.delete(bytes.buffer)) return undefined;
  return Buffer.from(bytes.buffer, bytes.byteOffset - count, count + bytes.byteLength);
}
