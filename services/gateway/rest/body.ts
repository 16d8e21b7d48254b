import type { IncomingMessage } from "node:http";
import { Readable, type Transform } from "node:stream";
import zlib from "node:zlib";
import { type Clock, KithError, limits, toKithError } from "../../../libs/base/index.js";
import { withStatus } from "./problem.js";
import { type Way, zstdCompressor, zstdDecompressor } from "./zstd.js";

/** A client that sends nothing of a body for so long is given up. */
const idleMs = 20_000;

async function decompressor(encoding: string): Promise<Way | undefined> {
  let known = "gzip and zstd";
  switch (encoding) {
    case "":
    case "identity":
      return undefined;
    case "gzip":
    case "x-gzip": {
      const gunzip = zlib.createGunzip();
      return { into: gunzip, from: gunzip };
    }
    case "zstd": {
      const way = await zstdDecompressor();
      if (way !== undefined) return way;
      known = "gzip (the optional package @cloudpss/zstd is not installed, or has no addon for this machine)";
    }
  }
  throw withStatus(
    new KithError(
      "INVALID_ARGUMENT",
      `the content encoding ${JSON.stringify(encoding.slice(0, 40))} is unknown; this server reads ${known}`,
    ),
    415,
  );
}

/** Of a request, without its parameters. */
export function mediaTypeOf(request: IncomingMessage): string {
  return (request.headers["content-type"] ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
}

/** Reads the chunks of a request's body, decompressed. At most `maxBytes` of them; Infinity for streams, whose reader bounds what it keeps. */
export async function* bodyChunks(
  request: IncomingMessage,
  clock: Clock,
  signal: AbortSignal,
  maxBytes: number,
): AsyncGenerator<Buffer, void, undefined> {
  const encoding = (request.headers["content-encoding"] ?? "").trim().toLowerCase();
  const way = await decompressor(encoding);
  const source: Readable = way?.from ?? request;
  const fail = (error: Error): void => void source.destroy(error);
  if (way !== undefined) {
    request.pipe(way.into);
    request.once("error", fail);
  }
  const onAbort = (): void => fail(signal.reason as Error);
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  let timer = clock.setTimer(() => fail(idleError()), idleMs).unref();
  let size = 0;
  try {
    for await (const chunk of source as AsyncIterable<Buffer>) {
      timer.close();
      size += chunk.length;
      if (size > maxBytes) throw tooLarge(maxBytes);
      yield chunk;
      timer = clock.setTimer(() => fail(idleError()), idleMs).unref();
    }
  } catch (cause) {
    throw bodyError(cause, encoding);
  } finally {
    timer.close();
    signal.removeEventListener("abort", onAbort);
    request.off("error", fail);
    way?.from.destroy();
  }
}

function bodyError(cause: unknown, encoding: string): KithError {
  if (cause instanceof KithError) return cause;
  const { code, message } = cause as NodeJS.ErrnoException;
  if (code === "ECONNRESET" || code === "ERR_STREAM_PREMATURE_CLOSE" || code === "ERR_HTTP2_STREAM_CANCEL") {
    return new KithError("CANCELLED", "the client went away before its request was complete", { cause });
  }
  if (encoding !== "") {
    return new KithError("INVALID_ARGUMENT", `the body is not valid ${encoding.slice(0, 40)}: ${message}`, { cause });
  }
  return new KithError("INVALID_ARGUMENT", `the body could not be read: ${message}`, { cause });
}

function idleError(): KithError {
  return withStatus(new KithError("DEADLINE_EXCEEDED", `nothing of the body came for ${idleMs} ms`), 408);
}

function tooLarge(maxBytes: number): KithError {
  return withStatus(
    new KithError(
      "BATCH_TOO_LARGE",
      `the body has more than ${maxBytes} bytes, decompressed: send less at once, or stream it to .../points/import`,
      { details: { limitBytes: maxBytes } },
    ),
    413,
  );
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text of a whole body; "" where there is none. */
export function readText(request: IncomingMessage, clock: Clock, signal: AbortSignal): Promise<string> {
  const length = Number(request.headers["content-length"] ?? Number.NaN);
  if (length === 0) return Promise.resolve("");
  if (length > limits.messageBytes) return Promise.reject(tooLarge(limits.messageBytes));
  return request.headers["content-encoding"] === undefined && length <= smallBytes
    ? readSmall(request, clock, signal)
    : readWhole(request, clock, signal);
}

/** Bodies of this size come in a chunk or two: the listeners cost a third of what the iterator does. */
const smallBytes = 64 * 1024;

function readSmall(request: IncomingMessage, clock: Clock, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const timer = clock.setTimer(() => done(idleError()), idleMs).unref();
    const done = (error?: unknown): void => {
      timer.close();
      signal.removeEventListener("abort", onAbort);
      request.off("data", onData).off("end", onEnd).off("error", onError).off("close", onClose);
      if (error !== undefined) {
        reject(toKithError(error));
        return;
      }
      try {
        resolve(decodeText(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)));
      } catch (thrown) {
        reject(toKithError(thrown));
      }
    };
    const onData = (chunk: Buffer): void => void chunks.push(chunk);
    const onEnd = (): void => done();
    const onError = (error: Error): void => done(bodyError(error, ""));
    const onClose = (): void =>
      done(new KithError("CANCELLED", "the client went away before its request was complete"));
    const onAbort = (): void => done(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    request.on("data", onData).on("end", onEnd).on("error", onError).on("close", onClose);
  });
}

async function readWhole(request: IncomingMessage, clock: Clock, signal: AbortSignal): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of bodyChunks(request, clock, signal, limits.messageBytes)) chunks.push(chunk);
  return decodeText(Buffer.concat(chunks));
}

export function decodeText(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch (cause) {
    throw new KithError("INVALID_ARGUMENT", "the body is not valid UTF-8", { cause });
  }
}

/** Answers below this size are not worth compressing, in bytes. */
const compressedMin = 8 * 1024;

/** The answer as the client takes it, with the name of its encoding ("": none). */
export async function compressed(
  text: string,
  accepted: string | undefined,
): Promise<{ bytes: Buffer | string; encoding: string }> {
  if (accepted === undefined || text.length < compressedMin) return { bytes: text, encoding: "" };
  const found = await compressorFor(accepted);
  if (found === undefined) return { bytes: text, encoding: "" };
  return { bytes: await packed(found.compressor, Buffer.from(text)), encoding: found.encoding };
}

/** What the client takes, by its Accept-Encoding. Level 1: the time of higher ones is not worth what a network saves. */
export async function compressorFor(
  accepted: string,
): Promise<{ compressor: Transform; encoding: string } | undefined> {
  if (accepts(accepted, "zstd")) {
    const compressor = await zstdCompressor();
    if (compressor !== undefined) return { compressor, encoding: "zstd" };
  }
  return accepts(accepted, "gzip")
    ? { compressor: zlib.createGzip({ level: 1, chunkSize: pieceBytes }), encoding: "gzip" }
    : undefined;
}

/** zstd packs on this thread: about a millisecond for so many bytes, and then it is another's turn. */
const pieceBytes = 256 * 1024;

async function* pieces(bytes: Buffer): AsyncGenerator<Buffer, void, undefined> {
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    if (at > 0) await new Promise<void>((resolve) => setImmediate(resolve));
    yield bytes.subarray(at, at + pieceBytes);
  }
}

async function packed(compressor: Transform, bytes: Buffer): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of Readable.from(pieces(bytes)).pipe(compressor) as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function accepts(header: string, encoding: string): boolean {
  return header.split(",").some((part) => {
    const [name, ...parameters] = part.split(";").map((each) => each.trim().toLowerCase());
    return name === encoding && !parameters.some((each) => /^q=0(\.0*)?$/.test(each));
  });
}
