import {
  type BackupCall,
  type BackupPart,
  ContentDigest,
  decodePoints,
  type FedFiles,
  type FeedPartJob,
  type FileStore,
  forEachPoint,
  type PointPart,
} from "../../../libs/backup/index.js";
import { abortReason, backoffMs, type KithError, type Runtime, sleep, toKithError } from "../../../libs/base/index.js";
import type { Log } from "../../../libs/log/index.js";
import type { ipb } from "../../../libs/wire/index.js";
import { type FedField, type FedRecord, FedRecords } from "./fed-records.js";

/** Records that are on their way to the logs at once. */
const appendsInFlight = 8;
/** A log that takes nothing is tried again so often before the work is given up, to be begun again where it stands. */
const appendAttempts = 8;
const appendBackoff = { initialMs: 100, maxMs: 5_000 };

/** Points by the file, with the number of each. */
export type PointSource = AsyncGenerator<{ number: number; points: ipb.BackupPoints }>;

/** The files of a part behind the first `skip`; the next is read while one is worked on. */
export async function* filesOf(store: FileStore, { files }: BackupPart, skip: number): PointSource {
  const read = async (number: number): Promise<ipb.BackupPoints | undefined> => {
    const entry = files[number];
    return entry && decodePoints(entry.file, await store.get(entry.file));
  };
  let next = read(skip);
  for (let number = skip; number < files.length; number++) {
    const points = await next;
    next = read(number + 1);
    // Awaited in its turn, unless the reader ends before.
    next.catch(() => undefined);
    if (points !== undefined) yield { number, points };
  }
}

/**
 * Appends points to the logs of the collection that is restored. `fields`: of the backup, by number; vectors of others were dropped. What has
 * expired is left out.
 */
export async function feedPart(
  source: PointSource,
  fields: ReadonlyMap<number, FedField>,
  job: FeedPartJob,
  runtime: Runtime & { log: Log },
  call: BackupCall,
): Promise<FedFiles> {
  const { clock } = runtime;
  const content = new ContentDigest(job.before);
  const appends = new Appends(job.target.collectionId, runtime, call.signal);
  let fed = job.before;
  let bytes = 0;
  for await (const { number, points } of source) {
    if (call.signal.aborted) throw abortReason(call.signal);
    const records = new FedRecords(job.target, `${job.operation}-${job.shard}-${number}`);
    const full: FedRecord[] = [];
    const nowMs = clock.nowMs();
    await forEachPoint(points, (row, parts) => {
      const id = points.ids[row] as Uint8Array;
      const expiresAtMs = points.expiresAtMs[row] ?? 0;
      if (expiresAtMs !== 0 && expiresAtMs <= nowMs) return;
      const fieldOf = (part: PointPart): FedField | undefined => fields.get(part.column.field);
      const kept = parts.filter((part) => part.column.kind === payloadKind || fieldOf(part) !== undefined);
      content.add(id, expiresAtMs, kept);
      const record = records.add(id, expiresAtMs, kept, fieldOf, nowMs);
      if (record !== undefined) full.push(record);
    });
    for (const record of [...full, ...records.rest(nowMs)]) {
      bytes += record.data.length;
      await appends.add(record);
    }
    await appends.drained();
    fed = { files: number + 1, points: content.points, expiring: content.expiring, content: content.text };
    call.onProgress({ points: content.points, bytes, fed });
  }
  return fed;
}

/** As in keys of the store. */
const payloadKind = 3;

/** Appends some records at once; the first failure ends it. */
class Appends {
  readonly #collectionId: string;
  readonly #runtime: Runtime & { log: Log };
  readonly #signal: AbortSignal;
  readonly #running = new Set<Promise<void>>();
  #failure: KithError | undefined;

  constructor(collectionId: string, runtime: Runtime & { log: Log }, signal: AbortSignal) {
    this.#collectionId = collectionId;
    this.#runtime = runtime;
    this.#signal = signal;
  }

  async add(record: FedRecord): Promise<void> {
    while (this.#running.size >= appendsInFlight) await Promise.race(this.#running);
    if (this.#failure !== undefined) throw this.#failure;
    const running = this.#append(record)
      .catch((error: unknown) => {
        this.#failure ??= toKithError(error);
      })
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  async drained(): Promise<void> {
    await Promise.all(this.#running);
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #append({ shard, data, messageId }: FedRecord): Promise<void> {
    const { log, clock, random } = this.#runtime;
    for (let attempt = 0; ; attempt++) {
      try {
        await log.append({ collectionId: this.#collectionId, shard }, data, { messageId, signal: this.#signal });
        return;
      } catch (error) {
        const { retryable, code } = toKithError(error);
        // The outcome of one that took too long is unknown: the same again is the same record.
        const isWorthIt = retryable || code === "DEADLINE_EXCEEDED";
        if (this.#signal.aborted || !isWorthIt || attempt >= appendAttempts) throw error;
        await sleep(clock, backoffMs(attempt, appendBackoff, random), this.#signal);
      }
    }
  }
}
