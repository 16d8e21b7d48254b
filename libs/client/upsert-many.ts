import { setMaxListeners } from "node:events";
import {
  abortReason,
  assert,
  type Deferred,
  deferred,
  type ErrorCode,
  KithError,
  limits,
  toKithError,
} from "../base/index.js";
import { traceparentOf } from "../telemetry/index.js";
import type { pb } from "../wire/index.js";
import { ColumnBatch, describeId } from "./columns.js";
import { shownValue } from "./given.js";
import { idKey } from "./ids.js";
import { upsertFrame, type UpsertStream, upsertStream } from "./request-stream.js";
import { sameCollection, Session } from "./token.js";
import type { Call, Transport } from "./transport.js";
import type { Token, WriteAck } from "./types/calls.js";
import type { PointInput } from "./types/points.js";
import type { ItemError, WriteMode } from "./types/writes.js";
import type { Id } from "./types/values.js";
import { ackToWire, modeToWire, randomKey } from "./write.js";

export interface UpsertManyProgress {
  /** Points sent so far, those refused by the client included. */
  sent: number;
  upserted: number;
  failed: number;
  /** Bytes of ids, vectors and payloads sent. */
  bytes: number;
}

/** A run of the input that is settled: written, or refused item by item. */
export interface SettledBatch {
  /** Position of its first item in the input. */
  firstIndex: number;
  count: number;
  /** Every item before this position is settled: an import that stops here can resume at it. */
  resumeIndex: number;
}

export interface UpsertManyOptions {
  /** A message goes out when it has this many bytes. Default: 1 MiB. */
  batchBytes?: number;
  /** A message goes out when it has this many points. Default: 10 000, the most that the server takes. */
  batchPoints?: number;
  /** Messages that may be unanswered at a time; the source is not read further meanwhile. Default: 4. */
  inFlight?: number;
  ack?: WriteAck;
  mode?: WriteMode;
  /** Called after each message that was answered. */
  onProgress?: (progress: UpsertManyProgress) => void;
  /** Called for each point that was refused, by the client or by the server; the others go on. */
  onItemError?: (error: ItemError) => void;
  /** Called when a batch is settled, in the order of completion. */
  onBatch?: (batch: SettledBatch) => void;
  signal?: AbortSignal;
  /** Longest time for one message with all its retries, in milliseconds. Default: 60 000. */
  deadlineMs?: number;
}

export interface UpsertManyResult extends UpsertManyProgress {
  /** The first 100 refused points. */
  errors: ItemError[];
  /** Of what this run has written. */
  token: Token;
}

const errorsKept = 100;

/** The fault of single points: the batch is halved until they are found, and the others are written. */
const perItem = new Set<ErrorCode>([
  "INVALID_ID",
  "DUPLICATE_ID",
  "INVALID_PAYLOAD",
  "VECTOR_NOT_FINITE",
  "ZERO_VECTOR",
  "VECTOR_OUT_OF_RANGE",
  "PAYLOAD_TOO_LARGE",
  "BATCH_TOO_LARGE",
]);
/** The fault of every point of a batch, since all have the same shape. */
const perBatch = new Set<ErrorCode>(["DIMENSION_MISMATCH", "UNKNOWN_VECTOR"]);
/** What makes a single point unfit to be sent. */
const refusedByClient = new Set<ErrorCode>([...perItem, ...perBatch, "INVALID_ARGUMENT"]);

interface Batch {
  rows: ColumnBatch | undefined;
  /** Position in the input of each row; the run of input that the batch settles is longer where items were refused. */
  indexes: number[];
  firstIndex: number;
  count: number;
  /** Of its rows, as keys of `#holders`. */
  keys: (string | number | bigint)[];
  /** Batches with an earlier row of one of its ids: it goes out when they are settled, retries included. */
  after: Set<Batch>;
  settled: Deferred<void>;
}

/** One run of `upsertMany`: reads the source, keeps a bounded number of messages in flight, reports. */
export class BulkUpsert {
  readonly #transport: Transport;
  readonly #collection: string;
  /** Of the client: what it has written by this and other calls. */
  readonly #session: Session;
  /** Of this run alone. */
  readonly #written = new Session();
  readonly #options: UpsertManyOptions;
  readonly #limits: { bytes: number; points: number; inFlight: number };
  readonly #stop = new AbortController();
  readonly #progress: UpsertManyProgress = { sent: 0, upserted: 0, failed: 0, bytes: 0 };
  readonly #errors: ItemError[] = [];
  readonly #settled = new Map<number, number>();
  /** The latest batch of each id that is not settled. */
  readonly #holders = new Map<string | number | bigint, Batch>();
  readonly #running = new Set<Promise<void>>();
  #stream: UpsertStream | undefined;
  #call: Call | undefined;
  #resumeIndex = 0;
  #capacity = 64;
  #room: Deferred<void> | undefined;
  #stopReading: ((error: KithError) => void) | undefined;
  #failure: KithError | undefined;

  constructor(transport: Transport, collection: string, session: Session, options: UpsertManyOptions) {
    this.#transport = transport;
    // Each message in flight listens.
    setMaxListeners(0, this.#stop.signal);
    this.#collection = collection;
    this.#session = session;
    this.#options = options;
    for (const key of ["onBatch", "onItemError"] as const) {
      if (options[key] === undefined || typeof options[key] === "function") continue;
      throw new KithError("INVALID_ARGUMENT", `${key} is ${shownValue(options[key])}; it must be a function`, {
        details: { field: key },
      });
    }
    this.#limits = {
      bytes: positive(options.batchBytes ?? 1024 * 1024, "batchBytes", limits.messageBytes / 2),
      points: positive(options.batchPoints ?? limits.batchPoints, "batchPoints", limits.batchPoints),
      inFlight: positive(options.inFlight ?? 4, "inFlight", 256),
    };
  }

  async run<P>(source: Iterable<PointInput<P>> | AsyncIterable<PointInput<P>>, call: Call): Promise<UpsertManyResult> {
    const { signal } = call;
    const onAbort = (): void => this.#fail(abortReason(signal as AbortSignal));
    signal?.addEventListener("abort", onAbort, { once: true });
    const { closing } = this.#transport;
    const onClose = (): void => this.#fail(abortReason(closing));
    closing.addEventListener("abort", onClose, { once: true });
    this.#call = call;
    this.#stream = upsertStream(this.#transport, this.#limits.inFlight, call.span);
    try {
      await this.#read(source);
      while (this.#running.size > 0) await Promise.race(this.#running);
    } catch (thrown) {
      this.#fail(toKithError(thrown));
    } finally {
      signal?.removeEventListener("abort", onAbort);
      closing.removeEventListener("abort", onClose);
      // After a failure the rest is told to stop, and ends at once.
      await Promise.allSettled(this.#running);
      this.#stream.close();
    }
    if (this.#failure !== undefined) throw this.#withTotals(this.#failure);
    return { ...this.#progress, errors: this.#errors, token: this.#written.token };
  }

  #fail(error: KithError): void {
    this.#failure ??= error;
    this.#stop.abort(this.#failure);
    this.#room?.resolve();
    this.#stopReading?.(this.#failure);
  }

  async #read<P>(source: Iterable<PointInput<P>> | AsyncIterable<PointInput<P>>): Promise<void> {
    const given = source as object | null | undefined;
    if (typeof given !== "object" || given === null || !(Symbol.asyncIterator in given || Symbol.iterator in given)) {
      throw new KithError(
        "INVALID_ARGUMENT",
        `the points are ${shownValue(given)}; they must be an iterable, or an async one`,
      );
    }
    const iterator = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
    let ended = false;
    let batch = emptyBatch(0);
    try {
      for (;;) {
        const next = iterator.next();
        const result = "then" in next ? await this.#orStopped(next) : next;
        if (result.done === true) {
          ended = true;
          break;
        }
        if (!this.#take(batch, result.value)) {
          // Another shape, which the matrix of this batch cannot hold, or an id that it has: one message holds each id once.
          const point = result.value;
          batch = await this.#flush(batch);
          const taken = this.#take(batch, point);
          assert(taken, "a point does not fit a batch of its own shape");
        }
        const { rows } = batch;
        const full = rows !== undefined && (rows.sizeBytes >= this.#limits.bytes || rows.count >= this.#limits.points);
        if (full || batch.count >= limits.batchPoints) batch = await this.#flush(batch);
      }
      if (batch.count > 0) await this.#flush(batch);
    } finally {
      // A generator that is waiting for its own source ends only when that does: nobody waits for it.
      if (!ended) void Promise.resolve(iterator.return?.()).catch((error: unknown) => this.#fail(toKithError(error)));
    }
  }

  /** Waits for the source, but no longer than the run goes on. Costs less per item than a listener on a signal. */
  #orStopped<T>(next: Promise<T>): Promise<T> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise<T>((resolve, reject) => {
      this.#stopReading = reject;
      next.then(resolve, reject);
    });
  }

  /** Adds a point to the batch, or reports it as refused; false where it has another shape than the batch, or an id that is there. */
  #take(batch: Batch, point: PointInput<unknown>): boolean {
    const index = batch.firstIndex + batch.count;
    try {
      const rows = batch.rows ?? ColumnBatch.like(point, this.#capacity);
      // What is no point at all is refused below.
      const key = idKey((point as PointInput<unknown> | null)?.id as Id);
      const holder = this.#holders.get(key);
      if (holder === batch || !rows.add(point)) return false;
      if (holder !== undefined) batch.after.add(holder);
      this.#holders.set(key, batch);
      batch.keys.push(key);
      batch.rows = rows;
      batch.indexes.push(index);
    } catch (thrown) {
      const error = toKithError(thrown);
      if (!refusedByClient.has(error.code)) throw error;
      this.#progress.sent++;
      this.#refuse({ index, code: error.code, message: `point ${describeId(point?.id)}: ${error.message}` });
    }
    batch.count++;
    return true;
  }

  /** Sends the batch as soon as there is room in flight; returns an empty one for what follows. */
  async #flush(batch: Batch): Promise<Batch> {
    const next = emptyBatch(batch.firstIndex + batch.count);
    while (this.#running.size >= this.#limits.inFlight && this.#failure === undefined) {
      this.#room = deferred<void>();
      await this.#room.promise;
    }
    if (this.#failure !== undefined) throw this.#failure;
    if (batch.rows !== undefined) this.#capacity = Math.max(64, batch.rows.count);
    const running = this.#deliver(batch).catch((error: unknown) => this.#fail(toKithError(error)));
    this.#running.add(running);
    void running.then(() => {
      this.#running.delete(running);
      for (const key of batch.keys) if (this.#holders.get(key) === batch) this.#holders.delete(key);
      batch.settled.resolve();
      this.#room?.resolve();
    });
    return next;
  }

  async #deliver(batch: Batch): Promise<void> {
    // Only batches before this one, so that no two wait for each other.
    for (const { settled } of batch.after) await settled.promise;
    if (this.#failure !== undefined) return;
    if (batch.rows !== undefined) {
      this.#progress.sent += batch.rows.count;
      this.#progress.bytes += batch.rows.sizeBytes;
      await this.#deliverRows(batch, batch.rows, 0, batch.rows.count);
    }
    this.#settle(batch);
    this.#options.onProgress?.({ ...this.#progress });
  }

  async #deliverRows(batch: Batch, rows: ColumnBatch, from: number, to: number): Promise<void> {
    const { epoch } = this.#session;
    let response: pb.UpsertResponse;
    try {
      response = await this.#send(rows, from, to);
    } catch (thrown) {
      const error = toKithError(thrown);
      if (perItem.has(error.code) && to - from > 1) {
        // Nothing of a refused request was written. Halving finds the faulty points in a few messages.
        const middle = (from + to) >> 1;
        await this.#deliverRows(batch, rows, from, middle);
        await this.#deliverRows(batch, rows, middle, to);
        return;
      }
      if (!perItem.has(error.code) && !perBatch.has(error.code)) throw error;
      // The server tells which row of this message it is; what the caller has is the position in the input.
      const message = to - from === 1 ? error.message.replace(/^row 0(?: \(.*?\))?: /, "") : error.message;
      for (let row = from; row < to; row++) this.#refuse(itemError(batch, row, error.code, message));
      return;
    }
    this.#session.wrote(response.token, epoch);
    sameCollection(this.#collection, this.#written.collectionId, response.token);
    this.#written.wrote(response.token, this.#written.epoch);
    this.#progress.upserted += response.upserted;
    for (const { index, code, message } of response.errors) this.#refuse(itemError(batch, from + index, code, message));
  }

  async #send(rows: ColumnBatch, from: number, to: number): Promise<pb.UpsertResponse> {
    const { ack, mode, deadlineMs } = this.#options;
    const stream = this.#stream;
    assert(stream !== undefined && this.#call !== undefined, "the stream is open while batches are sent");
    const call: Call = {
      span: this.#call.span,
      signal: this.#stop.signal,
      endMs: this.#transport.endMs(deadlineMs ?? 60_000),
    };
    // Built for each try: a broken stream is rare, and a second copy of what is in flight would double the memory.
    const columns = {
      collection: this.#collection,
      ...rows.columns(from, to),
      mode: modeToWire(mode),
      onlyIf: undefined,
      options: { ack: ackToWire(ack), idempotencyKey: randomKey(this.#transport.random) },
    };
    const frame = upsertFrame(columns, traceparentOf(call.span.trace));
    return this.#transport.retrier.run(call, async () => (await stream.send(frame, call)).value);
  }

  #refuse(error: ItemError): void {
    this.#progress.failed++;
    if (this.#errors.length < errorsKept) this.#errors.push(error);
    this.#options.onItemError?.(error);
  }

  #settle({ firstIndex, count }: Batch): void {
    this.#settled.set(firstIndex, count);
    for (let run = this.#settled.get(this.#resumeIndex); run !== undefined; ) {
      this.#settled.delete(this.#resumeIndex);
      this.#resumeIndex += run;
      run = this.#settled.get(this.#resumeIndex);
    }
    this.#options.onBatch?.({ firstIndex, count, resumeIndex: this.#resumeIndex });
  }

  #withTotals(error: KithError): KithError {
    const { upserted, failed } = this.#progress;
    const resumeIndex = this.#resumeIndex;
    return new KithError(
      error.code,
      `${error.message} (upsertMany stopped after ${upserted} points; every item before position ${resumeIndex} is settled, later ones may be written or not)`,
      {
        cause: error,
        details: { ...error.details, upserted, failed, resumeIndex },
        ...(error.retryAfterMs !== undefined && { retryAfterMs: error.retryAfterMs }),
      },
    );
  }
}

function emptyBatch(firstIndex: number): Batch {
  return {
    rows: undefined,
    indexes: [],
    firstIndex,
    count: 0,
    keys: [],
    after: new Set(),
    settled: deferred<void>(),
  };
}

function itemError(batch: Batch, row: number, code: string, message: string): ItemError {
  const index = batch.indexes[row];
  assert(index !== undefined, `the server reported row ${row} of a batch of ${batch.indexes.length}`);
  return { index, code, message };
}

function positive(value: number, what: string, max: number): number {
  if (Number.isInteger(value) && value >= 1 && value <= max) return value;
  throw new KithError("LIMIT_OUT_OF_RANGE", `${what} is ${value}; it must be a whole number in 1..${max}`, {
    details: { field: what, value: String(value), limit: max },
  });
}
