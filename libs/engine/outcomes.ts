import { assert, KithError, type ErrorCode, isErrorCode } from "../base/index.js";
import type { ItemFailure, OperationOutcome } from "../model/index.js";

/** What one operation did, as it is remembered. `refused`: it had no effect, and a retry is not a duplicate of it. */
export interface Outcome {
  affected: number;
  /** Items refused by the operation's mode: position × 2, plus 1 for POINT_NOT_FOUND (else POINT_EXISTS). */
  failures: Uint32Array;
  refused?: { code: ErrorCode; message: string };
}

export const noFailures = new Uint32Array(0);

export function failureOf(index: number, code: ItemFailure["code"]): number {
  return index * 2 + (code === "POINT_NOT_FOUND" ? 1 : 0);
}

/** What a caller is told; rejects with the reason of a refusal. */
export function publicOutcome(outcome: Outcome | undefined): OperationOutcome {
  if (outcome === undefined) return { affected: 0, failures: [] };
  if (outcome.refused) throw new KithError(outcome.refused.code, outcome.refused.message);
  const failures = Array.from(outcome.failures, (packed): ItemFailure => {
    const index = packed >>> 1;
    return packed & 1
      ? { index, code: "POINT_NOT_FOUND", message: `item ${index}: no point has this id, and the mode is update only` }
      : { index, code: "POINT_EXISTS", message: `item ${index}: a point has this id, and the mode is insert only` };
  });
  return { affected: outcome.affected, failures };
}

interface RememberedRecord {
  sequence: number;
  timeMs: number;
  ids: string[];
  weight: number;
}

export interface OutcomeWindowOptions {
  /** How long an operation id is remembered, by the log's time. */
  timeMs: number;
  /** Most operations remembered; each failed item counts as one more, so that memory is bounded. */
  count: number;
}

/**
 * The operations of the recent past by id. What is remembered is a pure function of the records applied: it expires by
 * the log's time (the maximum of all appended_at_ms so far, since clocks of routers differ), never by the local clock.
 */
export class OutcomeWindow {
  readonly #options: OutcomeWindowOptions;
  readonly #byId = new Map<string, { sequence: number; outcome: Outcome }>();
  #records: RememberedRecord[] = [];
  #first = 0;
  #weight = 0;
  #logTimeMs = 0;

  constructor(options: OutcomeWindowOptions) {
    this.#options = options;
  }

  get logTimeMs(): number {
    return this.#logTimeMs;
  }

  get size(): number {
    return this.#byId.size;
  }

  /** The first effect of the operation, unless it was refused as a whole. */
  applied(id: string): Outcome | undefined {
    const found = this.#byId.get(id)?.outcome;
    return found?.refused ? undefined : found;
  }

  get(id: string): Outcome | undefined {
    return this.#byId.get(id)?.outcome;
  }

  /** Moves the log's time on. Returns the records that are forgotten. */
  advance(appendedAtMs: number): number[] {
    this.#logTimeMs = Math.max(this.#logTimeMs, appendedAtMs);
    return this.#forget((record) => record.timeMs < this.#logTimeMs - this.#options.timeMs);
  }

  /** Remembers what the operations of a record did. Returns the records that are forgotten for it. */
  remember(sequence: number, operations: readonly { id: string; outcome: Outcome }[]): number[] {
    let weight = 0;
    for (const { id, outcome } of operations) {
      weight += 1 + outcome.failures.length;
      this.#byId.set(id, { sequence, outcome });
    }
    this.#records.push({ sequence, timeMs: this.#logTimeMs, ids: operations.map(({ id }) => id), weight });
    this.#weight += weight;
    // The newest record stays, whatever it weighs: its writers are waiting for it.
    return this.#forget((record) => this.#weight > this.#options.count && record.sequence !== sequence);
  }

  /** Puts back what was stored. */
  restore(sequence: number, body: Uint8Array): void {
    const { timeMs, operations } = decodeOutcomes(body);
    this.#logTimeMs = Math.max(this.#logTimeMs, timeMs);
    this.remember(sequence, operations);
  }

  restoreTime(logTimeMs: number): void {
    assert(logTimeMs >= this.#logTimeMs, "the log's time runs backwards");
    this.#logTimeMs = logTimeMs;
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

/** Stored form: log time(8) count(4) { id length(1) id affected(4) failures(4) failure(4)* code length(1) code message length(2) message }*. */
export function encodeOutcomes(timeMs: number, operations: readonly { id: string; outcome: Outcome }[]): Uint8Array {
  const parts: Buffer[] = [];
  const head = Buffer.allocUnsafe(12);
  head.writeDoubleLE(timeMs, 0);
  head.writeUInt32LE(operations.length, 8);
  parts.push(head);
  for (const { id, outcome } of operations) {
    const code = outcome.refused?.code ?? "";
    const message = Buffer.from((outcome.refused?.message ?? "").slice(0, 1024));
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
  }
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
    const failures = new Uint32Array(u32());
    for (let n = 0; n < failures.length; n++) failures[n] = u32();
    const code = text(u8());
    const length = buffer.readUInt16LE((at += 2) - 2);
    const message = buffer.toString("utf8", at, (at += length));
    operations.push({ id, outcome: { affected, failures, ...(isErrorCode(code) && { refused: { code, message } }) } });
  }
  return { timeMs, operations };
}
