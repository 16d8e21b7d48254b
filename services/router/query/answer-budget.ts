import {
  type Clock,
  type Deferred,
  deferred,
  KithError,
  limits,
  type Timer,
  withAbort,
} from "../../../libs/base/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import type { Hit, StoredPoint } from "../../../libs/model/index.js";
import type { pb } from "../../../libs/wire/index.js";

/** What a result holds besides payload and vectors, in bytes. */
const bareResultBytes = 64;
/** Expected of a result with payload or vectors as long as none of its collection was seen, in bytes, and of a whole such answer. */
const unknownResultBytes = 4 * 1024;
const unknownAnswerBytes = 4 * 1024 * 1024;
/** Answers of no more results are not waited for, though nothing is known of them: each is at most a payload. */
const smallCount = 16;
/** Answers of more bytes are made in turns: so many bytes of them at once, or one that is larger, so that small ones are answered in between. */
const largeBytes = 1024 * 1024;
const atOnceBytes = 32 * 1024 * 1024;
/** The last part of the room is left to answers of at most `largeBytes`: clients that read slowly, or not at all, keep large ones out, not these. */
const smallShare = 1 / 8;
/** How long a large answer waits for room at most, and for which part of the time that its caller gives. */
const roomMs = 15_000;
const roomShare = 0.5;
/** How often it is seen whether clients have taken something. */
const lookEveryMs = 10;
/** How much of a smaller answer the expectation takes over; of a larger one it takes all. */
const lowering = 0.05;
/** Collections and what is selected of them whose answers are remembered; the oldest is forgotten first. */
const rememberedMax = 4_096;

/** What is asked of points, and of which collection. */
export interface AnswerShape {
  collectionId: string;
  select: pb.Select | undefined;
  /** Results wanted at most. */
  count: number;
  /** For answers that are no points: what tells like ones apart, such as the field of a facet. */
  kind?: string;
}

/** What is needed of a call that may wait. */
type Waiting = Pick<CallContext, "signal" | "deadlineMs">;

/** A large answer for which there is no room yet. */
interface Waiter {
  readonly bytes: number;
  readonly giveUpMs: number;
  readonly room: Deferred<void>;
}

/** What was seen of answers of one collection and selection. Changed in its place: it is looked up for each query. */
interface Seen {
  /** Bytes of a result. */
  resultBytes: number;
}

/** The share of one answer in the budget, until it is released. */
export interface Reservation {
  /** The answer is there, and has so many bytes. */
  settle(sizeBytes: number): void;
  release(): void;
}

/**
 * Bytes of all answers of one router, from before anything is read for them until they have left: expected ones, by what like answers of
 * their collection had, and those that clients have not taken yet. Beyond `limitBytes` more are refused before they cost anything; large ones wait
 * a while before, as long as others have room.
 */
export class AnswerBudget {
  readonly #clock: Clock;
  readonly #limitBytes: number;
  /** By collection and selection. */
  readonly #seen = new Map<string, Seen>();
  /** The first answers of their shapes, which will tell how large others are. */
  readonly #firsts = new Map<string, Deferred<void>>();
  /** Large answers that are not begun yet, in order, and the bytes of those that are being made. */
  readonly #waiting = new Set<{ readonly bytes: number; readonly begin: Deferred<void> }>();
  /** Large answers without room, in order. */
  readonly #roomless = new Set<Waiter>();
  #looking: Timer | undefined;
  #turnBytes = 0;
  #reservedBytes = 0;
  #passingBytes = 0;
  #unsentBytes: () => number = () => 0;

  constructor(clock: Clock, limitBytes: number = limits.inFlightAnswerBytes) {
    this.#clock = clock;
    this.#limitBytes = limitBytes;
  }

  /** Counts what a server has encoded and its clients have not taken. */
  countUnsent(bytes: () => number): void {
    this.#unsentBytes = bytes;
  }

  get inFlightBytes(): number {
    return this.#reservedBytes + this.#unsentBytes();
  }

  /** Whether like answers were seen, or there is nothing to know. */
  isKnown(shape: AnswerShape): boolean {
    const key = keyOf(shape);
    return key === undefined || this.#seen.has(key);
  }

  /** What an answer of this shape will probably have, in bytes. */
  expectedBytes(shape: AnswerShape): number {
    const key = keyOf(shape);
    return expectedOf(shape, key, this.#seenOf(key));
  }

  #seenOf(key: string | undefined): Seen | undefined {
    return key === undefined ? undefined : this.#seen.get(key);
  }

  /**
   * RESOURCE_EXHAUSTED where the answers in flight leave no room for one more; a single one always has room. `copies`: shards that each
   * give as much.
   */
  reserve(shape: AnswerShape, copies = 1): Reservation {
    const key = keyOf(shape);
    const seen = this.#seenOf(key);
    return this.#reserve(expectedOf(shape, key, seen) * copies, shape.count, key, seen);
  }

  /**
   * As `reserve`, when it is the turn of the answer, where that is a large one. Where nothing is known of answers of this shape, and they may be large,
   * one goes first, and the others wait until it has told: thirty at once of 24 MB each, expected to have 2 MB, took 1.1 GB.
   */
  reserveKnown(shape: AnswerShape, copies: number, call: Waiting): Reservation | Promise<Reservation> {
    const key = keyOf(shape);
    const isSmall = shape.kind === undefined && shape.count <= smallCount;
    const seen = this.#seenOf(key);
    if (key === undefined || isSmall || seen !== undefined) return this.#inTurn(shape, key, seen, copies, call);
    return this.#firsts.has(key) ? this.#reserveAfter(key, shape, copies, call) : this.#goFirst(key, shape);
  }

  #inTurn(
    shape: AnswerShape,
    key: string | undefined,
    seen: Seen | undefined,
    copies: number,
    call: Waiting,
  ): Reservation | Promise<Reservation> {
    const expected = expectedOf(shape, key, seen) * copies;
    return this.#turnOf(expected, shape.count, key, seen, call);
  }

  #turnOf(
    bytes: number,
    count: number,
    key: string | undefined,
    seen: Seen | undefined,
    call: Waiting,
  ): Reservation | Promise<Reservation> {
    if (bytes <= largeBytes) return this.#reserve(bytes, count, key, seen);
    const reserve = (): Reservation => this.#reserve(bytes, count, key, seen);
    if (this.#roomless.size > 0 || !this.#hasRoom(bytes)) {
      return this.#whenRoom(bytes, call).then(() => this.#afterOthers(reserve(), bytes, call));
    }
    return this.#afterOthers(reserve(), bytes, call);
  }

  /**
   * As `reserveKnown`, for answers that leave together and will have so many bytes: one that is large as a whole is none of the small ones, however small
   * its parts are, and it waits before anything is read for it. Each of its parts has `within`.
   */
  reserveTogether(bytes: number, call: Waiting): Reservation | Promise<Reservation> {
    return this.#turnOf(bytes, 1, undefined, undefined, call);
  }

  /** For an answer that is part of one which has its share: what it had is learnt, and not counted. */
  within(shape: AnswerShape): Reservation {
    const key = keyOf(shape);
    return new Share(this.#learn, ignore, 0, shape.count, key, this.#seenOf(key));
  }

  #hasRoom(bytes: number): boolean {
    const isLarge = bytes > largeBytes;
    const inFlight = this.inFlightBytes + (isLarge ? this.#passingBytes : 0);
    const limitBytes = isLarge ? this.#limitBytes * (1 - smallShare) : this.#limitBytes;
    return inFlight === 0 || inFlight + bytes <= limitBytes;
  }

  /** Waits for clients to take what is there. Where none does, it ends without room: RESOURCE_EXHAUSTED. */
  async #whenRoom(bytes: number, { signal, deadlineMs = Infinity }: Waiting): Promise<void> {
    const nowMs = this.#clock.monotonicMs();
    const giveUpMs = nowMs + Math.min(roomMs, (deadlineMs - nowMs) * roomShare);
    const waiter = { bytes, giveUpMs, room: deferred<void>() };
    this.#roomless.add(waiter);
    this.#looking ??= this.#clock.every(this.#look, lookEveryMs);
    try {
      await withAbort(waiter.room.promise, signal);
    } finally {
      this.#roomless.delete(waiter);
    }
  }

  /** Lets in the first of those that wait, where there is room; its bytes are reserved before the next look. */
  readonly #look = (): void => {
    const nowMs = this.#clock.monotonicMs();
    let isFirst = true;
    for (const waiter of this.#roomless) {
      const isLate = nowMs >= waiter.giveUpMs;
      if (isLate || (isFirst && this.#hasRoom(waiter.bytes))) {
        this.#roomless.delete(waiter);
        waiter.room.resolve();
      }
      if (!isLate) isFirst = false;
    }
    if (this.#roomless.size > 0) return;
    this.#looking?.close();
    this.#looking = undefined;
  };

  async #afterOthers(reservation: Reservation, bytes: number, call: Waiting): Promise<Reservation> {
    if (this.#turnBytes > 0 && this.#turnBytes + bytes > atOnceBytes) {
      const turn = { bytes, begin: deferred<void>() };
      this.#waiting.add(turn);
      try {
        await withAbort(turn.begin.promise, call.signal);
      } catch (error) {
        // Where both came at once, it has the turn and gives it back.
        if (!this.#waiting.delete(turn)) this.#endTurn(bytes);
        reservation.release();
        throw error;
      }
    } else this.#turnBytes += bytes;
    let isOver = false;
    return {
      settle: (sizeBytes) => reservation.settle(sizeBytes),
      release: () => {
        reservation.release();
        if (!isOver) this.#endTurn(bytes);
        isOver = true;
      },
    };
  }

  #endTurn(bytes: number): void {
    this.#turnBytes -= bytes;
    for (const next of this.#waiting) {
      if (this.#turnBytes > 0 && this.#turnBytes + next.bytes > atOnceBytes) return;
      this.#turnBytes += next.bytes;
      this.#waiting.delete(next);
      next.begin.resolve();
    }
  }

  async #reserveAfter(key: string, shape: AnswerShape, copies: number, call: Waiting): Promise<Reservation> {
    // The first one may have failed: then the next one goes first.
    for (let first = this.#firsts.get(key); first !== undefined; first = this.#firsts.get(key)) {
      await withAbort(first.promise, call.signal);
    }
    const seen = this.#seen.get(key);
    return seen === undefined ? this.#goFirst(key, shape) : this.#inTurn(shape, key, seen, copies, call);
  }

  /** What one shard gives is guess enough: a page of 100 results is no large answer because there are three of them. */
  #goFirst(key: string, shape: AnswerShape): Reservation {
    const reservation = this.reserve(shape);
    const first = deferred<void>();
    this.#firsts.set(key, first);
    const told = (): void => {
      if (this.#firsts.get(key) === first) this.#firsts.delete(key);
      first.resolve();
    };
    return {
      settle: (sizeBytes) => {
        reservation.settle(sizeBytes);
        told();
      },
      release: () => {
        reservation.release();
        told();
      },
    };
  }

  /** As `reserve`, for an answer that takes so many bytes while it is made. */
  reserveBytes(sizeBytes: number): Reservation {
    return this.#reserve(sizeBytes, 1, undefined, undefined);
  }

  #reserve(expected: number, count: number, key: string | undefined, seen: Seen | undefined): Reservation {
    if (!this.#hasRoom(expected)) throw tooMuch(this.inFlightBytes, this.#limitBytes);
    this.#reservedBytes += expected;
    return new Share(this.#change, this.#free, expected, count, key, seen);
  }

  readonly #change: Change = (byBytes, resultBytes, key, seen) => {
    this.#reservedBytes += byBytes;
    this.#learn(byBytes, resultBytes, key, seen);
  };

  readonly #learn: Change = (_byBytes, resultBytes, key, seen) => {
    if (seen !== undefined) learn(seen, resultBytes);
    else if (key !== undefined) this.#learnFirst(key, resultBytes);
  };

  /** A large answer passes to whoever has it next, and counts there, within this turn of the event loop. Until then it keeps other large ones out. */
  readonly #free = (bytes: number): void => {
    this.#reservedBytes -= bytes;
    if (bytes <= largeBytes) return;
    this.#passingBytes += bytes;
    this.#clock.soon(() => (this.#passingBytes -= bytes));
  };

  #learnFirst(key: string, resultBytes: number): void {
    const seen = this.#seen.get(key);
    if (seen !== undefined) {
      learn(seen, resultBytes);
      return;
    }
    this.#seen.set(key, { resultBytes });
    if (this.#seen.size <= rememberedMax) return;
    for (const oldest of this.#seen.keys()) {
      this.#seen.delete(oldest);
      return;
    }
  }

  /** Keeps bytes of answers that were reserved one by one and leave together. */
  hold(): { add(sizeBytes: number): void; release(): void } {
    let bytes = 0;
    return {
      add: (sizeBytes) => {
        bytes += sizeBytes;
        this.#reservedBytes += sizeBytes;
      },
      release: () => {
        this.#free(bytes);
        bytes = 0;
      },
    };
  }
}

/** Takes what a share grows by, and what is learnt of answers like this one: bytes of a result. */
type Change = (byBytes: number, resultBytes: number, key: string | undefined, seen: Seen | undefined) => void;

class Share implements Reservation {
  readonly #change: Change;
  readonly #free: (bytes: number) => void;
  readonly #count: number;
  readonly #key: string | undefined;
  readonly #seen: Seen | undefined;
  #bytes: number;

  constructor(
    change: Change,
    free: (bytes: number) => void,
    bytes: number,
    count: number,
    key: string | undefined,
    seen: Seen | undefined,
  ) {
    this.#change = change;
    this.#free = free;
    this.#bytes = bytes;
    this.#count = count;
    this.#key = key;
    this.#seen = seen;
  }

  settle(sizeBytes: number): void {
    // By what was wanted, not by what was found: fewer are found where there are few, or few pass the filter.
    this.#change(sizeBytes - this.#bytes, sizeBytes / this.#count, this.#key, this.#seen);
    this.#bytes = sizeBytes;
  }

  release(): void {
    this.#free(this.#bytes);
    this.#bytes = 0;
  }
}

function ignore(): void {}

function learn(seen: Seen, resultBytes: number): void {
  const before = seen.resultBytes;
  seen.resultBytes = resultBytes > before ? resultBytes : before + (resultBytes - before) * lowering;
}

function expectedOf({ count, kind }: AnswerShape, key: string | undefined, seen: Seen | undefined): number {
  if (key === undefined) return count * bareResultBytes;
  if (seen !== undefined) return count * seen.resultBytes;
  if (kind !== undefined) return count * bareResultBytes;
  return Math.min(count * unknownResultBytes, unknownAnswerBytes);
}

/** Undefined where neither payload nor vectors are selected. */
function keyOf({ collectionId, select, kind }: AnswerShape): string | undefined {
  if (kind !== undefined) return `${collectionId} ${kind}`;
  if (select === undefined) return undefined;
  const { allVectors, vectors, include, exclude } = select;
  const isPlain = !allVectors && vectors.length === 0 && include.length === 0 && exclude.length === 0;
  if (isPlain) return select.payload ? `${collectionId} p` : undefined;
  const payload = select.payload || include.length > 0 || exclude.length > 0;
  const parts = [...include.map((path) => `+${path}`), ...exclude.map((path) => `-${path}`)].join();
  return `${collectionId} ${payload ? `p${parts}` : ""}${allVectors ? "*" : vectors.join()}`;
}

/** Bytes that results hold, about as many as they have on the wire. */
export function sizeOf(results: readonly (Hit | StoredPoint)[]): number {
  let bytes = 0;
  for (const result of results) {
    const { payload, vectors, sparse } = result;
    bytes += bareResultBytes + payload.length;
    if ("highlights" in result && result.highlights !== undefined) bytes += lengthOf(result.highlights);
    if (vectors !== undefined && vectors.size > 0) for (const values of vectors.values()) bytes += values.byteLength;
    if (sparse !== undefined && sparse.size > 0)
      for (const { indices } of sparse.values()) bytes += 2 * indices.byteLength;
  }
  return bytes;
}

function lengthOf(highlights: NonNullable<Hit["highlights"]>): number {
  let bytes = 0;
  for (const path in highlights) for (const fragment of highlights[path] ?? []) bytes += 2 * fragment.length;
  return bytes;
}

/** Bytes that the counts of a facet hold, of all shards. */
export function facetBytes(counts: readonly { value: string | number | bigint | boolean }[]): number {
  let bytes = 0;
  for (const { value } of counts) bytes += bareResultBytes + (typeof value === "string" ? 2 * value.length : 0);
  return bytes;
}

function tooMuch(inFlightBytes: number, limitBytes: number): KithError {
  return new KithError(
    "RESOURCE_EXHAUSTED",
    `answers of ${inFlightBytes} bytes are in flight, and ${limitBytes} are allowed at a time; try again shortly, or ask for fewer results, or without payloads and vectors`,
    { details: { inFlightBytes, limitBytes }, retryAfterMs: 200 },
  );
}
