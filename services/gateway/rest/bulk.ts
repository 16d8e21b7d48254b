import type { FastifyRequest } from "fastify";
import { abortReason, KithError, limits, toKithError } from "../../../libs/base/index.js";
import { printJson } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import { checkText } from "../json/request.js";
import { bodyChunks, decodeText, mediaTypeOf } from "./body.js";
import { type Answer, parametersOf, type RestContext, withPart } from "./context.js";
import { decoded } from "./decoded.js";
import type { HttpCall } from "./http-call.js";
import { withStatus } from "./problem.js";

/** Batches that are being written at once; the body is not read further meanwhile. */
const inFlightMax = 4;
/** One batch ends at so many points, or bytes of text. */
const batchPoints = 1_000;
const batchBytes = 4 * 1024 * 1024;
/** One line, in bytes. */
const lineBytesMax = 8 * 1024 * 1024;
/** Refused items that the answer names; more are counted. */
const errorsMax = 100;

/** Header of a block of the packed form: u32 count, u32 dimension. */
const blockHeaderBytes = 8;

interface Batch {
  /** Position of its first item in the body. */
  readonly first: number;
  readonly count: number;
  readonly call: string;
  readonly request: Uint8Array;
}

/** What an import has done so far. */
class Progress {
  upserted = 0;
  errorCount = 0;
  readonly errors: { index: number; code: string; message: string }[] = [];
  readonly shards = new Map<number, number>();
  collectionId = "";

  take(batch: Batch, answer: Uint8Array): void {
    const { upserted, errors, token } = pb.UpsertResponse.decode(answer);
    this.upserted += upserted;
    this.errorCount += errors.length;
    for (const { index, code, message } of errors) {
      if (this.errors.length < errorsMax) this.errors.push({ index: batch.first + index, code, message });
    }
    this.collectionId = token?.collectionId ?? this.collectionId;
    for (const { shard, sequence } of token?.shards ?? []) {
      this.shards.set(shard, Math.max(sequence, this.shards.get(shard) ?? 0));
    }
  }

  get token(): string {
    const shards = [...this.shards].map(([shard, sequence]) => ({ shard, sequence }));
    return Buffer.from(pb.Token.encode({ shards, collectionId: this.collectionId }).finish()).toString("base64url");
  }
}

/** Writes what streams in, in batches; the answer is a summary with the first items that were refused. */
export async function importPoints(context: RestContext, call: HttpCall, request: FastifyRequest): Promise<Answer> {
  const params = request.params as Record<string, string>;
  const collection = checkText(params["collection"] ?? "", "the path");
  const options = optionsOf(request);
  const type = mediaTypeOf(request.raw);
  const chunks = bodyChunks(request.raw, context.clock, call.signal, Infinity);
  const batches =
    type === "application/x-ndjson" || type === "application/jsonl" || type === "application/json-lines"
      ? lineBatches(context, chunks, collection, options)
      : type === "application/vnd.kith.packed" || type === "application/octet-stream"
        ? packedBatches(chunks, collection, options, parametersOf(request).get("vector") ?? "")
        : undefined;
  if (batches === undefined) {
    throw withStatus(
      new KithError(
        "INVALID_ARGUMENT",
        `the content type ${JSON.stringify(type.slice(0, 60))} is unknown here: application/x-ndjson for points as lines of JSON, application/vnd.kith.packed for ids and vectors`,
      ),
      415,
    );
  }
  const progress = new Progress();
  let count = 0;
  try {
    count = await write(context, call, batches, progress);
  } catch (thrown) {
    const { upserted, errorCount } = progress;
    throw withPart(toKithError(thrown), { upserted, errorCount });
  }
  const { token } = progress;
  const body = printJson({
    items: count,
    upserted: progress.upserted,
    errorCount: progress.errorCount,
    errors: progress.errors,
    token,
  });
  return { body, headers: { "kith-token": token } };
}

function optionsOf(request: FastifyRequest): { ack: pb.Ack; mode: pb.UpsertMode } {
  const parameters = parametersOf(request);
  for (const name of parameters.keys()) {
    if (!["ack", "mode", "vector", "timeoutMs"].includes(name)) {
      throw new KithError(
        "INVALID_ARGUMENT",
        `the parameter ${JSON.stringify(name.slice(0, 64))} is unknown here; ack, mode and vector are`,
      );
    }
  }
  const acks = { log: pb.Ack.LOG, applied: pb.Ack.APPLIED, all: pb.Ack.ALL };
  const modes = {
    upsert: pb.UpsertMode.UNSPECIFIED,
    insert_only: pb.UpsertMode.INSERT_ONLY,
    update_only: pb.UpsertMode.UPDATE_ONLY,
  };
  return {
    ack: oneOf(acks, parameters.get("ack") ?? "applied", "ack"),
    mode: oneOf(modes, parameters.get("mode") ?? "upsert", "mode"),
  };
}

function oneOf<T>(values: Readonly<Record<string, T>>, text: string, name: string): T {
  const value = Object.hasOwn(values, text) ? values[text] : undefined;
  if (value !== undefined) return value;
  throw new KithError(
    "INVALID_ARGUMENT",
    `${name} is ${JSON.stringify(text.slice(0, 40))}; it is one of ${Object.keys(values).join(", ")}`,
  );
}

/** Writes the batches, some at once; gives how many items there were. The first error ends it, once those in flight are over. */
async function write(
  context: RestContext,
  call: HttpCall,
  batches: AsyncGenerator<Batch, void, undefined>,
  progress: Progress,
): Promise<number> {
  const running = new Set<Promise<void>>();
  let failure: { thrown: unknown } | undefined;
  let count = 0;
  try {
    for await (const batch of batches) {
      count += batch.count;
      const work = context.backend
        .unary(batch.call, batch.request, call)
        .then((answer) => progress.take(batch, answer))
        .catch((thrown: unknown) => {
          failure ??= { thrown };
        })
        .finally(() => running.delete(work));
      running.add(work);
      if (running.size >= inFlightMax) await Promise.race(running);
      if (failure !== undefined) break;
      if (call.aborted) throw abortReason(call);
    }
  } finally {
    await Promise.all(running);
  }
  if (failure !== undefined) throw failure.thrown;
  return count;
}

const newline = 0x0a;

/** Points as lines of JSON, each as in an upsert. */
async function* lineBatches(
  context: RestContext,
  chunks: AsyncGenerator<Buffer, void, undefined>,
  collection: string,
  options: { ack: pb.Ack; mode: pb.UpsertMode },
): AsyncGenerator<Batch, void, undefined> {
  const message = context.descriptors.message("kith.v1.Point");
  let points: pb.Point[] = [];
  let bytes = 0;
  let line = 0;
  let first = 0;
  const take = (text: string): void => {
    line++;
    if (text.trim() === "") throw new KithError("INVALID_ARGUMENT", `line ${line} is empty`);
    try {
      points.push(decoded(pb.Point, context.readers.encode(message, text)));
    } catch (thrown) {
      const { code, message: why, details } = toKithError(thrown);
      throw new KithError(code, `line ${line}: ${why}`, { details: { ...details, line } });
    }
    bytes += text.length;
  };
  const batch = (): Batch => {
    const request = pb.UpsertRequest.encode({
      ...pb.UpsertRequest.fromPartial({ collection, mode: options.mode }),
      points,
      options: { ack: options.ack, idempotencyKey: "" },
    }).finish();
    const made = { first, count: points.length, call: "kith.v1.Points/Upsert", request };
    first += points.length;
    points = [];
    bytes = 0;
    return made;
  };
  /** Of a line that goes on in the next chunk: put together once, when it ends. */
  let parts: Buffer[] = [];
  let partBytes = 0;
  for await (const chunk of chunks) {
    let from = 0;
    for (let end = chunk.indexOf(newline); end >= 0; end = chunk.indexOf(newline, from)) {
      const part = chunk.subarray(from, end);
      take(decodeText(parts.length === 0 ? part : Buffer.concat([...parts, part])));
      if (parts.length > 0) parts = [];
      partBytes = 0;
      from = end + 1;
      if (points.length >= batchPoints || bytes >= batchBytes) yield batch();
    }
    if (from < chunk.length) {
      parts.push(chunk.subarray(from));
      partBytes += chunk.length - from;
    }
    if (partBytes > lineBytesMax) {
      throw withStatus(new KithError("BATCH_TOO_LARGE", `line ${line + 1} has more than ${lineBytesMax} bytes`), 413);
    }
  }
  if (partBytes > 0) take(decodeText(Buffer.concat(parts)));
  if (points.length > 0) yield batch();
}

/** Blocks of `u32 count, u32 dimension, count × u64 id, count × dimension × f32`, all little-endian. */
async function* packedBatches(
  chunks: AsyncGenerator<Buffer, void, undefined>,
  collection: string,
  options: { ack: pb.Ack; mode: pb.UpsertMode },
  vector: string,
): AsyncGenerator<Batch, void, undefined> {
  let parts: Buffer[] = [];
  let size = 0;
  let first = 0;
  for await (const chunk of chunks) {
    parts.push(chunk);
    size += chunk.length;
    for (;;) {
      if (size < blockHeaderBytes) break;
      if ((parts[0] as Buffer).length < blockHeaderBytes) parts = [Buffer.concat(parts)];
      const head = parts[0] as Buffer;
      const count = head.readUInt32LE(0);
      const dimension = head.readUInt32LE(4);
      const wanted = blockBytes(count, dimension, first);
      if (size < wanted) break;
      const all = parts.length === 1 ? head : Buffer.concat(parts);
      const ids = all.subarray(blockHeaderBytes, blockHeaderBytes + count * 8);
      const matrix = all.subarray(blockHeaderBytes + count * 8, wanted);
      const request = pb.UpsertColumnsRequest.encode({
        ...pb.UpsertColumnsRequest.fromPartial({ collection, mode: options.mode }),
        idColumn: { $case: "nums", value: ids },
        vectors: [{ name: vector, matrix, rows: [] }],
        options: { ack: options.ack, idempotencyKey: "" },
      }).finish();
      yield { first, count, call: "kith.v1.Points/UpsertColumns", request };
      first += count;
      const left = all.subarray(wanted);
      parts = left.length === 0 ? [] : [left];
      size = left.length;
    }
  }
  if (size > 0) {
    throw new KithError("INVALID_ARGUMENT", `the body ends amid the block that begins with item ${first}`, {
      details: { items: first },
    });
  }
}

function blockBytes(count: number, dimension: number, first: number): number {
  const at = `the block that begins with item ${first}`;
  if (count === 0) throw new KithError("INVALID_ARGUMENT", `${at} has no points; give at least one`);
  if (count > limits.batchPoints) {
    throw new KithError("BATCH_TOO_LARGE", `${at} has ${count} points; at most ${limits.batchPoints} are allowed`);
  }
  if (dimension < 1 || dimension > limits.dimensionMax) {
    throw new KithError(
      "DIMENSION_MISMATCH",
      `${at} has the dimension ${dimension}; 1..${limits.dimensionMax} are allowed`,
    );
  }
  const size = blockHeaderBytes + count * 8 + count * dimension * 4;
  if (size <= limits.messageBytes) return size;
  throw withStatus(
    new KithError("BATCH_TOO_LARGE", `${at} has ${size} bytes; at most ${limits.messageBytes} are allowed`),
    413,
  );
}
