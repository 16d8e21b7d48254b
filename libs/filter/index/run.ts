import { type Cancellation, abortReason, type Clock } from "../../base/index.js";
import type { PointTest } from "../matches.js";
import type { FilterPoint } from "../point.js";
import { countBits, setBit, type Words } from "./bits.js";
import type { FilterSelection } from "./evaluate.js";
import type { Steps } from "./sorted-entries.js";

/** How long work may hold the event loop at a time, in milliseconds: half of what evaluations are allowed. */
const sliceMs = 1;
/** Points read and tested at a time. */
const pointsPerRead = 256;

export interface RunOptions {
  readonly clock: Clock;
  /** Ends the work with CANCELLED or DEADLINE_EXCEEDED at its next step. */
  readonly signal?: Cancellation;
}

/** Runs steps to their end; gives the event loop to others when they have held it for a millisecond. */
export async function runSteps<T>(steps: Steps<T>, { clock, signal }: RunOptions): Promise<T> {
  let startedMs = clock.monotonicMs();
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
    if (clock.monotonicMs() - startedMs < sliceMs) continue;
    await new Promise<void>((resolve) => clock.soon(resolve));
    if (signal?.aborted) {
      // Lets the evaluation end what it has begun.
      steps.return(undefined as never);
      throw abortReason(signal);
    }
    startedMs = clock.monotonicMs();
  }
}

/** A set of slots as a native index takes it: one bit for each slot, and how many there are. */
export interface SlotMask {
  readonly words: Words;
  readonly count: number;
}

/**
 * The exact mask of a selection: points of which the indexes cannot tell are read and tested. `read` gives the points of slots
 * in their order, undefined for slots that hold none any more.
 */
export async function refineSelection(
  selection: FilterSelection,
  test: PointTest,
  read: (slots: Uint32Array) => Promise<readonly (FilterPoint | undefined)[]>,
  options: RunOptions,
): Promise<SlotMask> {
  const { sure, possible } = selection;
  if (sure === possible) return { words: possible, count: selection.possibleCount };
  const words = sure.slice();
  const open = possible.slice();
  for (let i = 0; i < open.length; i++) open[i] = (open[i] as number) & ~(sure[i] as number);
  for (const slots of slotRuns(open)) {
    if (options.signal?.aborted) throw abortReason(options.signal);
    const points = await read(slots);
    await runSteps(testAll(slots, points, test, words), options);
  }
  return { words, count: countBits(words) };
}

function* testAll(
  slots: Uint32Array,
  points: readonly (FilterPoint | undefined)[],
  test: PointTest,
  words: Words,
): Steps<void> {
  for (const [i, slot] of slots.entries()) {
    const point = points[i];
    if (point !== undefined && test(point)) setBit(words, slot);
    if (i % 16 === 15) yield;
  }
}

/** The slots of a set, some at a time. */
function* slotRuns(words: Words): Generator<Uint32Array> {
  let run = new Uint32Array(pointsPerRead);
  let length = 0;
  for (let i = 0; i < words.length; i++) {
    for (let word = words[i] as number; word !== 0; ) {
      const low = word & -word;
      word ^= low;
      run[length++] = (i << 5) + (31 - Math.clz32(low));
      if (length < pointsPerRead) continue;
      yield run;
      run = new Uint32Array(pointsPerRead);
      length = 0;
    }
  }
  if (length > 0) yield run.subarray(0, length);
}
