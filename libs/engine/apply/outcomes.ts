import { assert, type ErrorCode, isErrorCode, KithError } from "../../base/index.js";
import type { ItemFailure, OperationOutcome } from "../../model/index.js";

/** What one operation did, as it is remembered. */
export interface Outcome {
  affected: number;
  /** Items refused by the operation's mode: position × 2, plus 1 for POINT_NOT_FOUND (else POINT_EXISTS). */
  failures: Uint32Array;
  /** The operation had no effect, and a retry is not a duplicate of it. */
  refused?: { code: ErrorCode; message: string } | undefined;
  /** CRC-32C of the operation's content, as a signed number; undefined where it was stored without. */
  contentHash?: number | undefined;
}

export const noFailures = new Uint32Array(0);
/** Longest message of a refusal that is kept, in characters. */
const messageLengthMax = 1024;
/** Failed items, and characters of a refusal's message, that take up as much memory as one operation: 128 bytes and more. */
const weightUnit = 32;

export function failureOf(index: number, code: ItemFailure["code"]): number {
  return index * 2 + (code === "POINT_NOT_FOUND" ? 1 : 0);
}

/** The outcome of an operation that is not carried out. */
export function refusal({ code, message }: KithError): Outcome {
  return { affected: 0, failures: noFailures, refused: { code, message: message.slice(0, messageLengthMax) } };
}

/** What a caller is told. */
export function publicOutcome(outcome: Outcome | undefined): OperationOutcome {
  if (outcome === undefined) {
    return new KithError(
      "FAILED_PRECONDITION",
      "the write is in the log and has been applied, but what it did is no longer known, too much was written after it: read the " +
        "points to see what is there. Repeated now, even with the same idempotency key, it is a new write, and may undo later ones",
    );
  }
  if (outcome.refused) return new KithError(outcome.refused.code, outcome.refused.message);
  const failures = Array.from(outcome.failures, (packed): ItemFailure => {
    const index = packed >>> 1;
    return packed & 1
      ? { index, code: "POINT_NOT_FOUND", message: `item ${index}: no point has this id, and the mode is update only` }
      : { index, code: "POINT_EXISTS", message: `item ${index}: a point has this id, and the mode is insert only` };
  });
  return { affected: outcome.affected, failures };
}

/** Where a refusal is remembered that leaves alone what is remembered under the operation's id. No id is so long. */
export function reuseKey(id: string, sequence: number): string {
  return `${id}@${sequence}`;
}

interface RememberedRecord {
  sequence: number;
  timeMs: number;
  ids: string[];
  weight: number;
}

interface RememberedOutcome extends Outcome {
  sequence: number;
}

export interface OutcomeWindowOptions {
  /** How long an operation id is remembered, by the log's time. */
  timeMs: number;
  /** Most operations remembered; many failed items or a long message count as further ones, so that memory is bounded. */
  count: number;
}

/** The log's time, and the router's clock that it follows. */
export interface LogTime {
  logTimeMs: number;
  newestAppendedAtMs: number;
}

/** The most that one record moves the log's time: what a clock that jumps ahead can take from the window. */
const recordStepMs = 10_000;

/**
 * The operations of the recent past by id. What is remembered is a pure function of the records applied: it expires by
 * the log's time, never by the local clock.
 *
 * The log's time is the time that has passed on the routers' clocks, which differ and may jump: it follows the largest
 * appended_at_ms so far, but each record moves it by some seconds at most. So a jump ahead forgets nothing that a retry
 * may still need. Nor does an idle hour, which looks the same: to forget late costs memory, and the count bounds that.
 */
export class OutcomeWindow {
  readonly #options: OutcomeWindowOptions;
  readonly #byId = new Map<string, RememberedOutcome>();
  #records: RememberedRecord[] = [];
  #first = 0;
  #weight = 0;
  #time: LogTime = { logTimeMs: 0, newestAppendedAtMs: 0 };

  constructor(options: OutcomeWindowOptions) {
    this.#options = options;
  }

  get time(): LogTime {
    return this.#time;
  }

  /** The first effect of the operation, unless it was refused as a whole. */
  applied(id: string): Outcome | undefined {
    const found = this.#byId.get(id);
    return found?.refused ? undefined : found;
  }

  /** What the operation in the record `sequence` did, or the first one with its id. */
  get(id: string, sequence: number): Outcome | undefined {
    return this.#byId.get(reuseKey(id, sequence)) ?? this.#byId.get(id);
  }

  /** Moves the log's time on. Returns the records that are forgotten. */
  advance(appendedAtMs: number): number[] {
    const { logTimeMs, newestAppendedAtMs } = this.#time;
    const passedMs = Math.max(0, appendedAtMs - newestAppendedAtMs);
    this.#time = {
      logTimeMs: logTimeMs + Math.min(passedMs, recordStepMs),
      newestAppendedAtMs: newestAppendedAtMs + passedMs,
    };
    const oldestMs = this.#time.logTimeMs - this.#options.timeMs;
    return this.#forget((record) => record.timeMs < oldestMs);
  }

  /** Remembers what the operations of a record did. Returns the records that are forgotten for it. */
  remember(sequence: number, operations: readonly { id: string; outcome: Outcome }[]): number[] {
    return this.#remember(sequence, this.#time.logTimeMs, operations);
  }

  /** Puts back what was stored, in order of sequence. */
  restore(sequence: number, body: Uint8Array): void {
    const { timeMs, operations } = decodeOutcomes(body);
    this.#remember(sequence, timeMs, operations);
  }

  restoreTime(time: LogTime): void {
    const last = this.#records.at(-1);
    assert(last === undefined || time.logTimeMs >= last.timeMs, "the log's time runs backwards");
    this.#time = time;
  }

  #remember(sequence: number, timeMs: number, operations: readonly { id: string; outcome: Outcome }[]): number[] {
    let weight = 0;
    for (const { id, outcome } of operations) {
      weight += weightOf(outcome);
      const { affected, failures, refused, contentHash } = outcome;
      this.#byId.set(id, { sequence, affected, failures, refused, contentHash });
    }
    this.#records.push({ sequence, timeMs, ids: operations.map(({ id }) => id), weight });
    this.#weight += weight;
    // The newest record stays, whatever it weighs: its writers are waiting for it.
    return this.#forget((record) => this.#weight > this.#options.count && record.sequence !== sequence);
  }

  #forget(isOver: (record: RememberedRecord) => boolean): number[] {
    const forgotten: number[] = [];
    for (; this.#first < this.#records.length; this.#first++) {
      const record = this.#records[this.#first] as RememberedRecord;
      if (!isOver(record)) break;
      forgotten.push(record.sequence);
      this.#weight -= record.weight;
      for (const id of record.ids) if (this.#byId.get(id)?.sequence === record.sequence) this.#byId.delete(id);
    }
    if (this.#first > 1024 && this.#first * 2 > this.#records.length) {
      this.#records = this.#records.slice(this.#first);
      this.#first = 0;
    }
    return forgotten;
  }
}

function weightOf({ failures, refused }: Outcome): number {
  return 1 + Math.floor((failures.length + (refused?.message.length ?? 0)) / weightUnit);
}

/**
 * Stored form: log time(8) count(4) { id length(1) id affected(4) failures(4) failure(4)* code length(1) code message length(2) message }*
 * { content hash(4) }*. The hashes are missing where an earlier version wrote it.
 */
export function encodeOutcomes(timeMs: number, operations: readonly { id: string; outcome: Outcome }[]): Uint8Array {
  const parts: Buffer[] = [];
  const head = Buffer.allocUnsafe(12);
  head.writeDoubleLE(timeMs, 0);
  head.writeUInt32LE(operations.length, 8);
  parts.push(head);
  const hashes = Buffer.allocUnsafe(operations.length * 4);
  for (const [i, { id, outcome }] of operations.entries()) {
    const code = outcome.refused?.code ?? "";
    const message = Buffer.from(outcome.refused?.message ?? "");
    const part = Buffer.allocUnsafe(1 + id.length + 8 + outcome.failures.length * 4 + 1 + code.length + 2);
    let at = part.writeUInt8(id.length, 0);
    at += part.write(id, at, "latin1");
    at = part.writeUInt32LE(outcome.affected, at);
    at = part.writeUInt32LE(outcome.failures.length, at);
    for (const failure of outcome.failures) at = part.writeUInt32LE(failure, at);
    at = part.writeUInt8(code.length, at);
    at += part.write(code, at, "latin1");
    part.writeUInt16LE(message.length, at);
    parts.push(part, message);
    hashes.writeInt32LE(outcome.contentHash ?? 0, i * 4);
  }
  parts.push(hashes);
  return Buffer.concat(parts);
}

export function decodeOutcomes(body: Uint8Array): { timeMs: number; operations: { id: string; outcome: Outcome }[] } {
  const buffer = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const timeMs = buffer.readDoubleLE(0);
  const count = buffer.readUInt32LE(8);
  const operations: { id: string; outcome: Outcome }[] = [];
  let at = 12;
  const text = (length: number): string => buffer.toString("latin1", at, (at += length));
  const u8 = (): number => buffer.readUInt8(at++);
  const u32 = (): number => buffer.readUInt32LE((at += 4) - 4);
  for (let i = 0; i < count; i++) {
    const id = text(u8());
    const affected = u32();
    const failureCount = u32();
    const failures = failureCount === 0 ? noFailures : new Uint32Array(failureCount);
    for (let n = 0; n < failureCount; n++) failures[n] = u32();
    const code = text(u8());
    const length = buffer.readUInt16LE((at += 2) - 2);
    const message = buffer.toString("utf8", at, (at += length));
    operations.push({ id, outcome: { affected, failures, ...(isErrorCode(code) && { refused: { code, message } }) } });
  }
  if (at < buffer.length) for (const { outcome } of operations) outcome.contentHash = buffer.readInt32LE((at += 4) - 4);
  return { timeMs, operations };
}
