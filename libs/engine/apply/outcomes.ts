import { assert } from "../../base/index.js";
import type { Outcome } from "./outcome.js";
import { decodeOutcomes } from "./outcome-codec.js";

/** Failed items, and characters of a refusal's message, that take up as much memory as one operation: 128 bytes and more. */
const weightUnit = 32;

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

export interface RememberedOutcome extends Outcome {
  /** Of the record that it was in. */
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
  #mayHaveOpen = false;
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
  applied(id: string): RememberedOutcome | undefined {
    const found = this.#byId.get(id);
    return found?.refused ? undefined : found;
  }

  /** Whether some operation may be known of which other shards have done a part, and this one not yet the rest. */
  get mayHaveOpen(): boolean {
    return this.#mayHaveOpen;
  }

  /** What the operation in the record `sequence` did, or the first one with its id. */
  get(id: string, sequence: number): RememberedOutcome | undefined {
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
      const { affected, failures, refused, contentHash, former, isOpen } = outcome;
      this.#mayHaveOpen ||= isOpen === true;
      this.#byId.set(id, { sequence, affected, failures, refused, contentHash, former, isOpen });
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

function weightOf({ failures, refused, former = [] }: Outcome): number {
  const others = former.reduce((sum, each) => sum + 1 + Math.floor(each.failures.length / weightUnit), 0);
  return 1 + others + Math.floor((failures.length + (refused?.message.length ?? 0)) / weightUnit);
}
