import { abortReason, deferred, KithError, toKithError } from "../../base/index.js";
import { pendingAppendBytesMax, pendingAppendsMax } from "../limits.js";
import type { Append, AppendOptions } from "../port.js";
import type { ShardLog } from "./shard-log.js";

/** One synced batch: at most so many records and bytes, so that a long queue does not delay its first. */
const batchRecordsMax = 1_024;
const batchBytesMax = 8 * 1024 * 1024;

interface Waiter {
  duplicate: boolean;
  resolve(append: Append): void;
  reject(error: unknown): void;
}

/** A record on its way to the disk. Appends of the same message id wait for the same one. */
export interface PendingRecord {
  log: ShardLog;
  data: Uint8Array;
  messageId: string;
  traceparent: string | undefined;
  expectedSequence: number | undefined;
  waiters: Set<Waiter>;
}

/** Writes the records durably, in order; gives each one's sequence, or why that one was not written. */
export type WriteBatch = (records: readonly PendingRecord[]) => Promise<(number | KithError)[]>;

/**
 * Group commit across all logs of the process: records that arrive while a synced batch is in flight go out together
 * in the next one, so one fsync serves all who wait.
 */
export class GroupCommit {
  readonly #write: WriteBatch;
  readonly #byId = new Map<ShardLog, Map<string, PendingRecord>>();
  #queue: PendingRecord[] = [];
  #queuedBytes = 0;
  #isRunning = false;
  /** Resolved after each batch, and at the end of the last one. */
  #batchOver = deferred<void>();

  constructor(write: WriteBatch) {
    this.#write = write;
  }

  append(log: ShardLog, data: Uint8Array, options: AppendOptions): Promise<Append> {
    const { signal, messageId, traceparent, expectedSequence } = options;
    if (signal?.aborted) return Promise.reject(abortReason(signal));
    let record = this.#byId.get(log)?.get(messageId);
    const duplicate = record !== undefined;
    if (record === undefined) {
      if (
        this.#queue.length >= pendingAppendsMax ||
        (this.#queue.length > 0 && this.#queuedBytes + data.byteLength > pendingAppendBytesMax)
      ) {
        return Promise.reject(
          new KithError(
            "RESOURCE_EXHAUSTED",
            `${this.#queue.length} appends (${this.#queuedBytes} bytes) already wait for the disk; try again later`,
            { retryAfterMs: 100 },
          ),
        );
      }
      record = { log, data, messageId, traceparent, expectedSequence, waiters: new Set() };
      this.#remember(record);
      this.#queue.push(record);
      this.#queuedBytes += data.byteLength;
    }
    const result = this.#wait(record, duplicate, signal);
    if (!this.#isRunning) void this.#run();
    return result;
  }

  /** Resolves when nothing that was queued before this call is under way any more, whatever is queued after it. */
  async drained(): Promise<void> {
    const records = [...this.#byId.values()].flatMap((byId) => [...byId.values()]);
    while (records.some((record) => this.#byId.get(record.log)?.get(record.messageId) === record)) {
      await this.#batchOver.promise;
    }
  }

  #wait(record: PendingRecord, duplicate: boolean, signal: AbortSignal | undefined): Promise<Append> {
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        record.waiters.delete(waiter);
        if (record.waiters.size === 0) this.#withdraw(record);
        reject(abortReason(signal as AbortSignal));
      };
      const settle = <T>(end: (value: T) => void) => {
        return (value: T): void => {
          signal?.removeEventListener("abort", onAbort);
          end(value);
        };
      };
      const waiter: Waiter = { duplicate, resolve: settle(resolve), reject: settle(reject) };
      record.waiters.add(waiter);
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }

  /** Takes a record out that nobody waits for any more, if it is not in flight yet. */
  #withdraw(record: PendingRecord): void {
    const at = this.#queue.indexOf(record);
    if (at < 0) return;
    this.#queue.splice(at, 1);
    this.#queuedBytes -= record.data.byteLength;
    this.#forget(record);
  }

  #remember(record: PendingRecord): void {
    let records = this.#byId.get(record.log);
    if (records === undefined) {
      records = new Map();
      this.#byId.set(record.log, records);
    }
    records.set(record.messageId, record);
  }

  #forget(record: PendingRecord): void {
    const records = this.#byId.get(record.log);
    records?.delete(record.messageId);
    if (records?.size === 0) this.#byId.delete(record.log);
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    // Appends made in the same turn of the event loop share the first batch.
    await Promise.resolve();
    while (this.#queue.length > 0) {
      const batch = this.#take();
      let outcomes: (number | KithError)[];
      try {
        outcomes = await this.#write(batch);
      } catch (error) {
        const failure = toKithError(error);
        outcomes = batch.map(() => failure);
      }
      batch.forEach((record, index) => {
        this.#forget(record);
        const outcome = outcomes[index] as number | KithError;
        for (const waiter of record.waiters) {
          if (typeof outcome === "number") waiter.resolve({ sequence: outcome, duplicate: waiter.duplicate });
          else waiter.reject(outcome);
        }
      });
      this.#announce();
    }
    this.#isRunning = false;
    // What was queued may have been withdrawn without a batch.
    this.#announce();
  }

  #announce(): void {
    this.#batchOver.resolve();
    this.#batchOver = deferred();
  }

  #take(): PendingRecord[] {
    let count = 0;
    let bytes = 0;
    while (count < this.#queue.length && count < batchRecordsMax && (count === 0 || bytes < batchBytesMax)) {
      bytes += (this.#queue[count] as PendingRecord).data.byteLength;
      count++;
    }
    this.#queuedBytes -= bytes;
    return this.#queue.splice(0, count);
  }
}
