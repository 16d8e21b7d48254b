import { type Clock, deferred, type Deferred, KithError } from "../../base/index.js";
import type { IdKey } from "../../model/index.js";
import type { ChangeKind } from "../../shard-api/index.js";
import type { PointStore } from "../../storage/index.js";

/** What one record did to a point. */
export interface PointChange {
  kind: ChangeKind;
  id: IdKey;
}

/** A point as it was at one sequence. */
export interface PointImage {
  version: number;
  payload: Uint8Array;
  /** By number of the field, as they are stored. */
  vectors: ReadonlyMap<number, Uint8Array>;
}

/** A change with what the point was and is. */
export interface SeenChange extends PointChange {
  /** Undefined where it was not there, or nobody wanted to know. */
  before: PointImage | undefined;
  after: PointImage | undefined;
}

export interface SeenRecord {
  sequence: number;
  changes: readonly SeenChange[];
}

/** What a watcher wants to know of changes. */
export interface ChangeWants {
  before: boolean;
  vectors: boolean;
}

/** Bytes of changes that are kept in memory for those who keep up. */
const recentBytesMax = 16 * 1024 * 1024;
/** Nobody watches where nobody has asked for so long. */
const watchedMs = 30_000;
/** What a change costs in memory beside its point. */
const changeOverhead = 200;

/**
 * What records changed, for those who watch: which points, of the last `kept` changes, in the store; and what these were and are, of the
 * latest, in memory, while somebody watches. Who falls behind the latest reads the store, which has points as they are now.
 */
export class ChangeFeed {
  readonly #clock: Clock;
  readonly #store: PointStore;
  readonly #kept: number;
  #from: number;
  /** Changes since the last mark, and the sequences of the marks: half of what is kept lies between two. */
  #count = 0;
  #mark: number | undefined;
  /** To be removed when the next batch has written that it is not kept any more. */
  #forgotten: number | undefined;
  /** In order; all behind `recentFrom`. */
  #recent: SeenRecord[] = [];
  #recentBytes = 0;
  #recentFrom: number | undefined;
  #wants: ChangeWants = { before: false, vectors: false };
  #watchedUntilMs = Number.NEGATIVE_INFINITY;
  #changed: Deferred<void> | undefined;

  constructor(clock: Clock, store: PointStore, from: number, kept: number) {
    this.#clock = clock;
    this.#store = store;
    this.#from = from;
    this.#kept = kept;
  }

  /** The changes of all records behind this one are known. */
  get from(): number {
    return this.#from;
  }

  /** What those who watch want; undefined where nobody does. */
  get wants(): ChangeWants | undefined {
    if (this.#clock.monotonicMs() < this.#watchedUntilMs) return this.#wants;
    if (this.#recentFrom !== undefined) this.#forgetRecent();
    return undefined;
  }

  /** Somebody watches, at the sequence that is applied now. */
  watch({ before, vectors }: ChangeWants, appliedSequence: number): void {
    const now = this.wants ?? { before: false, vectors: false };
    this.#wants = { before: now.before || before, vectors: now.vectors || vectors };
    this.#watchedUntilMs = this.#clock.monotonicMs() + watchedMs;
    this.#recentFrom ??= appliedSequence;
  }

  /** What came behind a sequence, with all that is wanted; undefined where memory does not reach back so far. */
  recent(after: number): readonly SeenRecord[] | undefined {
    if (this.#recentFrom === undefined || after < this.#recentFrom) return undefined;
    let at = this.#recent.length;
    while (at > 0 && (this.#recent[at - 1] as SeenRecord).sequence > after) at--;
    return this.#recent.slice(at);
  }

  /** The first sequence that memory knows of is behind this one; undefined where it knows none. */
  get recentFrom(): number | undefined {
    return this.#recentFrom;
  }

  /** A batch of records has become visible. `seen`: undefined where nobody watched when it was evaluated. */
  applied(sequence: number, changeCount: number, seen: readonly SeenRecord[] | undefined): void {
    if (this.#recentFrom !== undefined) {
      if (seen === undefined) {
        this.#forgetRecent();
        this.#recentFrom = sequence;
      } else for (const record of seen) this.#remember(record);
    }
    this.#changed?.resolve();
    this.#changed = undefined;
    if (this.#forgotten !== undefined) {
      // What stays, because the store was closed meanwhile, goes with the next ones.
      void this.#store.clearChanges(this.#forgotten).catch(() => undefined);
      this.#forgotten = undefined;
    }
    this.#count += changeCount;
    if (this.#count >= this.#kept) this.#trim(sequence);
  }

  /** Nothing up to this record is told of. */
  beginBehind(sequence: number): void {
    this.#from = sequence;
    this.#count = 0;
    this.#mark = undefined;
    if (this.#recentFrom !== undefined) this.#forgetRecent();
  }

  /** Resolves with the next batch that becomes visible. */
  next(): Promise<void> {
    this.#changed ??= deferred();
    return this.#changed.promise;
  }

  #remember(record: SeenRecord): void {
    this.#recent.push(record);
    this.#recentBytes += bytesOf(record);
    while (this.#recentBytes > recentBytesMax) {
      const oldest = this.#recent.shift();
      if (oldest === undefined) break;
      this.#recentBytes -= bytesOf(oldest);
      this.#recentFrom = oldest.sequence;
    }
  }

  #forgetRecent(): void {
    this.#recent = [];
    this.#recentBytes = 0;
    this.#recentFrom = undefined;
    this.#wants = { before: false, vectors: false };
  }

  /** What lies before the last mark goes: as many changes as are to be kept came behind it. */
  #trim(sequence: number): void {
    const through = this.#mark;
    this.#mark = sequence;
    this.#count = 0;
    if (through === undefined) return;
    this.#from = through;
    this.#forgotten = through;
  }
}

function bytesOf({ changes }: SeenRecord): number {
  let bytes = changeOverhead;
  for (const { id, before, after } of changes) {
    bytes += id.length + changeOverhead;
    for (const image of [before, after]) {
      if (image === undefined) continue;
      bytes += image.payload.length;
      for (const vector of image.vectors.values()) bytes += vector.length;
    }
  }
  return bytes;
}

const kinds: readonly ChangeKind[] = ["insert", "update", "delete", "truncate"];
/** Changes that stand in one value of the store; in the last one of a record fewer. */
export const partChanges = 4_096;

/** { kind(1) id length(2) id }*, in values of so many; little-endian. */
export function* encodeChanges(changes: readonly PointChange[]): Generator<Buffer> {
  for (let from = 0; from < changes.length; from += partChanges) {
    const part = changes.slice(from, from + partChanges);
    const body = Buffer.allocUnsafe(part.reduce((sum, { id }) => sum + 3 + id.length, 0));
    let at = 0;
    for (const { kind, id } of part) {
      body[at] = kinds.indexOf(kind);
      body.writeUInt16LE(id.length, at + 1);
      body.set(id, at + 3);
      at += 3 + id.length;
    }
    yield body;
  }
}

export function decodeChanges(body: Uint8Array): PointChange[] {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const changes: PointChange[] = [];
  for (let at = 0; at < bytes.length; ) {
    const kind = kinds[bytes[at] as number];
    const end = at + 3 + bytes.readUInt16LE(at + 1);
    if (kind === undefined || end > bytes.length) {
      throw new KithError("CORRUPT_DATA", "the changes of a record cannot be read");
    }
    changes.push({ kind, id: body.subarray(at + 3, end) });
    at = end;
  }
  return changes;
}
