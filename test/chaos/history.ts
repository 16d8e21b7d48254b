/**
 * What was asked of a cluster and what it answered: one entry for each write, with its outcome as the client knows it. The checkers
 * (check.ts) judge by this and by what is read, and by nothing that the cluster says of itself.
 */
import type { ErrorCode, KithError } from "../../libs/client/index.js";

/** `ok`: acknowledged. `failed`: refused, and nowhere. `unknown`: it may have taken effect. */
export type Outcome = "ok" | "failed" | "unknown";

export interface Write {
  /** Unique; points carry the serial of the write that made them what they are. */
  readonly serial: number;
  readonly kind: "upsert" | "delete";
  readonly ids: readonly number[];
  /** The ids are used by this write alone: whether all of them are there tells whether it took effect as a whole. */
  readonly isFresh: boolean;
  readonly startMs: number;
  endMs: number;
  outcome: Outcome;
  code?: string;
}

/** After these nothing was appended, whatever else goes on: the request is checked before. */
const refusals: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "INVALID_ARGUMENT",
  "INVALID_ID",
  "DIMENSION_MISMATCH",
  "VECTOR_NOT_FINITE",
  "DUPLICATE_ID",
  "COLLECTION_NOT_READY",
  "UNAUTHENTICATED",
]);

export function outcomeOf({ code }: KithError): Outcome {
  return refusals.has(code) ? "failed" : "unknown";
}

export class History {
  readonly writes: Write[] = [];
  readonly #bySerial = new Map<number, Write>();
  readonly #byId = new Map<number, Write[]>();
  /** What a read showed that must not be, in the words of whoever saw it. */
  readonly violations: string[] = [];
  /** Searches and other reads that were answered, and those that failed, by code. */
  readsOk = 0;
  readonly readFailures = new Map<string, number>();
  /** Longest time between two acknowledged writes, in milliseconds. */
  longestWriteGapMs = 0;
  #lastAcknowledgedMs: number | undefined;
  #serial = 0;
  readonly #running = new Set<Write>();
  /** The newest version of each id that was read with a token, or at the end. */
  readonly #versions = new Map<number, number>();

  begin(kind: Write["kind"], ids: readonly number[], options: { isFresh: boolean; nowMs: number }): Write {
    const write: Write = {
      ...{ serial: ++this.#serial, kind, ids, isFresh: options.isFresh },
      ...{ startMs: options.nowMs, endMs: options.nowMs, outcome: "unknown" as const },
    };
    this.writes.push(write);
    this.#running.add(write);
    this.#bySerial.set(write.serial, write);
    for (const id of ids) {
      const all = this.#byId.get(id);
      if (all === undefined) this.#byId.set(id, [write]);
      else all.push(write);
    }
    return write;
  }

  end(write: Write, outcome: Outcome, nowMs: number, code?: string): void {
    this.#running.delete(write);
    write.outcome = outcome;
    write.endMs = nowMs;
    if (code !== undefined) write.code = code;
    if (outcome !== "ok") return;
    if (this.#lastAcknowledgedMs !== undefined) {
      this.longestWriteGapMs = Math.max(this.longestWriteGapMs, nowMs - this.#lastAcknowledgedMs);
    }
    this.#lastAcknowledgedMs = nowMs;
  }

  /** The time until now is no pause of writes: nobody wrote. */
  restartGap(): void {
    this.#lastAcknowledgedMs = undefined;
    this.longestWriteGapMs = 0;
  }

  bySerial(serial: number): Write | undefined {
    return this.#bySerial.get(serial);
  }

  /** Writes of an id, in the order in which they were begun: each id has one writer, which waits for each answer. */
  of(id: number): readonly Write[] {
    return this.#byId.get(id) ?? [];
  }

  ids(): IterableIterator<number> {
    return this.#byId.keys();
  }

  /** Writes that have ended so; those under way do not count. */
  count(outcome: Outcome): number {
    return this.writes.filter((write) => write.outcome === outcome && !this.#running.has(write)).length;
  }

  /** A read that waits for what was seen before shows no older version of a point. */
  seeVersion(id: number, version: number): void {
    const before = this.#versions.get(id) ?? 0;
    if (version < before) this.violate(`point ${id} is shown in version ${version} after it was in ${before}`);
    else this.#versions.set(id, version);
  }

  readFailed(code: string): void {
    this.readFailures.set(code, (this.readFailures.get(code) ?? 0) + 1);
  }

  get readsFailed(): number {
    return [...this.readFailures.values()].reduce((sum, count) => sum + count, 0);
  }

  violate(message: string): void {
    // Enough to understand it.
    if (this.violations.length < 100) this.violations.push(message);
  }
}
