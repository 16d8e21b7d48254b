import { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { open } from "node:fs/promises";
import { KithError, withAbort } from "../base/index.js";
import type { DatasetSource } from "./types.js";

/** Bytes of one read from a file. */
const chunkBytes = 256 * 1024;

/** Reads exact numbers of bytes, or lines, from a stream of chunks, and knows where it is. */
export class ByteReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #signal: AbortSignal | undefined;
  /** What came and was not taken yet: `#head` from `#at` on. */
  #head: Uint8Array = new Uint8Array(0);
  #at = 0;
  #ended = false;
  /** Bytes taken so far. */
  offset = 0;

  constructor(
    readonly name: string,
    source: AsyncIterable<Uint8Array>,
    signal?: AbortSignal,
    /** Lets go of what is behind the source, even where nothing was read from it. */
    private readonly release: () => Promise<void> | void = () => undefined,
  ) {
    this.#chunks = source[Symbol.asyncIterator]();
    this.#signal = signal;
  }

  /** Exactly `sizeBytes` bytes in memory of their own, aligned to 8; undefined at a clean end of the source. */
  async take(sizeBytes: number, expected: string): Promise<Uint8Array | undefined> {
    const got = await this.takeUpTo(sizeBytes);
    if (got.length === sizeBytes) return got;
    if (got.length === 0) return undefined;
    throw this.truncated(sizeBytes, got.length, expected);
  }

  /** As take, but the end of the source is an error too. */
  async need(sizeBytes: number, expected: string): Promise<Uint8Array> {
    const got = await this.take(sizeBytes, expected);
    if (got === undefined) throw this.truncated(sizeBytes, 0, expected);
    return got;
  }

  /** Up to `sizeBytes` bytes; fewer only at the end of the source. */
  async takeUpTo(sizeBytes: number): Promise<Uint8Array> {
    const out = new Uint8Array(sizeBytes);
    let filled = 0;
    while (filled < sizeBytes && (await this.#fill())) {
      const part = Math.min(sizeBytes - filled, this.#head.length - this.#at);
      out.set(this.#head.subarray(this.#at, this.#at + part), filled);
      this.#at += part;
      filled += part;
    }
    this.offset += filled;
    return out.subarray(0, filled);
  }

  /** Passes over `sizeBytes` bytes; how many there were. */
  async skip(sizeBytes: number): Promise<number> {
    let passed = 0;
    while (passed < sizeBytes && (await this.#fill())) {
      const part = Math.min(sizeBytes - passed, this.#head.length - this.#at);
      this.#at += part;
      passed += part;
    }
    this.offset += passed;
    return passed;
  }

  /** The next line without its end, or undefined at the end. A line beyond `maxBytes` is an error: memory is bounded. */
  async line(maxBytes: number, lineNumber: () => number): Promise<Uint8Array | undefined> {
    const parts: Uint8Array[] = [];
    let sizeBytes = 0;
    let any = false;
    while (await this.#fill()) {
      any = true;
      const newline = this.#head.indexOf(0x0a, this.#at);
      const end = newline === -1 ? this.#head.length : newline;
      sizeBytes += end - this.#at;
      if (sizeBytes > maxBytes) {
        throw new KithError(
          "INVALID_ARGUMENT",
          `${this.name}: line ${lineNumber()} is longer than ${maxBytes} bytes; is this a file of JSON lines, one object a line?`,
          { details: { file: this.name, line: lineNumber(), limitBytes: maxBytes } },
        );
      }
      parts.push(this.#head.subarray(this.#at, end));
      this.offset += end - this.#at;
      this.#at = end;
      if (newline !== -1) {
        this.#at++;
        this.offset++;
        break;
      }
    }
    if (!any) return undefined;
    return parts.length === 1 ? parts[0] : Buffer.concat(parts);
  }

  /** All that is left, in chunks as they come. */
  async *rest(): AsyncGenerator<Uint8Array, void, undefined> {
    while (await this.#fill()) {
      const chunk = this.#head.subarray(this.#at);
      this.#at = this.#head.length;
      this.offset += chunk.length;
      yield chunk;
    }
  }

  /** Whether the source has ended. */
  async atEnd(): Promise<boolean> {
    return !(await this.#fill());
  }

  /** Lets go of the source: a file is closed, a stream is destroyed. */
  async close(): Promise<void> {
    this.#ended = true;
    const returned = Promise.resolve(this.#chunks.return?.());
    // A source that waits for input (a terminal, a pipe) ends only when that comes: after an abort nobody waits for it.
    if (this.#signal?.aborted) returned.catch(() => undefined);
    else await returned;
    await this.release();
  }

  truncated(wanted: number, got: number, expected: string): KithError {
    return new KithError(
      "INVALID_ARGUMENT",
      `${this.name} ends in the middle: at byte ${this.offset - got} ${expected} of ${wanted} bytes was expected, and only ${got} are there; the file is truncated or of another format`,
      { details: { file: this.name, offset: this.offset - got, expectedBytes: wanted, gotBytes: got } },
    );
  }

  malformed(offset: number, message: string): KithError {
    return new KithError("INVALID_ARGUMENT", `${this.name}, byte ${offset}: ${message}`, {
      details: { file: this.name, offset },
    });
  }

  /** Makes sure that a byte is at hand; false at the end. */
  async #fill(): Promise<boolean> {
    while (this.#at >= this.#head.length) {
      if (this.#ended) return false;
      const next = await withAbort(this.#chunks.next(), this.#signal);
      if (next.done) {
        this.#ended = true;
        return false;
      }
      this.#head = next.value;
      this.#at = 0;
    }
    return true;
  }
}

/**
 * Opens a path, whose ending .gz means gzip, or takes the stream; `mayBeGzip` where gzip is told by its first bytes, which cannot be those
 * of the format. NOT_FOUND where there is no such file.
 */
export async function openSource(
  source: DatasetSource,
  options: { name?: string; signal?: AbortSignal; mayBeGzip?: boolean },
): Promise<{ reader: ByteReader; sizeBytes: number | undefined }> {
  if (typeof source !== "string") {
    const name = options.name ?? "standard input";
    const bytes = options.mayBeGzip === true ? maybeGunzipped(source, name) : source;
    return { reader: new ByteReader(name, bytes, options.signal), sizeBytes: undefined };
  }
  const name = options.name ?? source;
  let handle;
  try {
    handle = await open(source, "r");
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === "ENOENT") {
      throw new KithError("NOT_FOUND", `there is no file ${name}; check the path`, { details: { file: name }, cause });
    }
    throw new KithError("INVALID_ARGUMENT", `${name} cannot be read: ${(cause as Error).message}`, {
      details: { file: name },
      cause,
    });
  }
  const stat = await handle.stat();
  if (stat.isDirectory()) {
    await handle.close();
    throw new KithError("INVALID_ARGUMENT", `${name} is a directory; name a file`, { details: { file: name } });
  }
  const stream = handle.createReadStream({ highWaterMark: chunkBytes });
  const release = async (): Promise<void> => {
    if (stream.closed) return;
    // Errors of reading have reached the reader; what a half-read stream reports of its end is of no interest.
    stream.on("error", () => undefined);
    await new Promise<void>((resolve) => {
      stream.once("close", () => resolve());
      stream.destroy();
    });
  };
  if (source.endsWith(".gz")) {
    return { reader: new ByteReader(name, gunzipped(stream, name), options.signal, release), sizeBytes: undefined };
  }
  return {
    reader: new ByteReader(name, stream, options.signal, release),
    sizeBytes: stat.isFile() ? stat.size : undefined,
  };
}

/** What a gzip file holds; INVALID_ARGUMENT where it is none, or not whole. */
async function* gunzipped(file: Readable, name: string): AsyncGenerator<Uint8Array, void, undefined> {
  const gunzip = createGunzip({ chunkSize: chunkBytes });
  file.on("error", (error) => gunzip.destroy(error));
  try {
    yield* file.pipe(gunzip) as AsyncIterable<Uint8Array>;
  } catch (cause) {
    if (!String((cause as NodeJS.ErrnoException).code).startsWith("Z_")) throw cause;
    throw new KithError("INVALID_ARGUMENT", `${name} is not a whole gzip file: ${(cause as Error).message}`, {
      details: { file: name },
      cause,
    });
  }
}

/** The first bytes of gzip with deflate, its only method: https://www.rfc-editor.org/rfc/rfc1952 */
const gzipMagic = Buffer.from([0x1f, 0x8b, 0x08]);

/** What the stream holds, decompressed where it begins as gzip does. */
async function* maybeGunzipped(
  source: AsyncIterable<Uint8Array>,
  name: string,
): AsyncGenerator<Uint8Array, void, undefined> {
  const chunks = source[Symbol.asyncIterator]();
  let head = Buffer.alloc(0);
  let ended = false;
  while (head.length < gzipMagic.length && !ended) {
    const next = await chunks.next();
    ended = next.done === true;
    if (!next.done) head = Buffer.concat([head, next.value]);
  }
  const all = joined(head, ended ? undefined : chunks);
  if (head.subarray(0, gzipMagic.length).equals(gzipMagic)) yield* gunzipped(Readable.from(all), name);
  else yield* all;
}

async function* joined(
  head: Uint8Array,
  rest: AsyncIterator<Uint8Array> | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (head.length > 0) yield head;
  if (rest !== undefined) yield* { [Symbol.asyncIterator]: () => rest };
}
