import { type Clock, sleep } from "../../base/index.js";
import type { Filter, RecallStatus } from "../../model/index.js";
import { type BeamChoice, RecallCurve } from "./curve.js";
import { type Measured, recallsOf } from "./measure.js";

/** A search that asks for a recall. */
export interface TargetedSearch {
  field: string;
  query: Float32Array;
  k: number;
  filter: Filter | undefined;
  /** Points that the filter lets through, of all. */
  allowed: { count: number; of: number };
  target: number;
}

export interface RecallKeeperOptions {
  clock: Clock;
  /** The index of the field as it is now; undefined while there is none. */
  indexOf(field: string): (Measured & { rowCount: number }) | undefined;
  /** The slots that pass now. */
  maskOf(filter: Filter, signal: AbortSignal): Promise<Uint8Array>;
  /** Told of what ends a measurement. */
  onError(error: unknown): void;
  /** Told once for each kind of search whose target cannot be held, and again after it could. */
  onUnheld(message: string): void;
  signal: AbortSignal;
}

/** Searches of one kind: of a field, with about so many results, and a filter that lets through about such a share. */
interface Bin {
  field: string;
  k: number;
  /** Upper end of the share of points that filters let through. */
  share: number;
  curve: RecallCurve;
  /** Rows of the index when the curve was begun, or faded last for their growth. */
  rowCount: number;
  /** The latest searches that are to be measured. */
  waiting: TargetedSearch[];
  /** Searches since the last one that was taken for a sample. */
  passed: number;
  target: number;
  /** By recall that was asked for lately: the narrowest beam that was chosen since the last widening for it. */
  widths: Map<number, number>;
  isUnheld: boolean;
}

/** Numbers of results, and shares that filters let through, that are told apart. */
const kBands = [1, 10, 30, 100, 300, 1_000, 10_001];
const shareBands = [0.003, 0.01, 0.03, 0.1, 0.3, 1];
const binsMax = 128;
/** Searches of one kind that wait to be measured. */
const waitingMax = 8;
/** So many samples are wanted soon; then one of so many searches is taken. */
const samplesWanted = 64;
const sampledEvery = 10;
/** Share of one thread that measuring takes, while there are few samples and later. */
const earlyShare = 0.25;
const steadyShare = 0.05;
/** Recalls of one kind that are told apart. */
const targetsMax = 16;
/** A beam wider by more than this share finds more than chance explains: answers of before are not to be given again. */
const widening = 1 / 8;
/** Rows more or fewer, as a share, from which on what was measured before counts a quarter. */
const growth = 0.25;

/**
 * Holds recall where queries ask for it: keeps, for each kind of search, how recall grows with the beam width, from searches of clients that are run again
 * exactly, one at a time and with pauses. Known of this replica's data alone, and learned again after a start.
 */
export class RecallKeeper {
  readonly #options: RecallKeeperOptions;
  readonly #bins = new Map<string, Bin>();
  #measuring: Promise<void> | undefined;
  #widenings = 0;

  constructor(options: RecallKeeperOptions) {
    this.#options = options;
  }

  /** The beam width for a search that asks for a recall; the search may be measured later. */
  choose(search: TargetedSearch): BeamChoice {
    const bin = this.#binOf(search);
    bin.target = search.target;
    this.#follow(bin, search.target);
    const choice = bin.curve.choose(search.target, search.k);
    this.#judge(bin, choice);
    bin.passed++;
    if (bin.curve.samples < samplesWanted || bin.passed >= sampledEvery) {
      if (bin.waiting.length < waitingMax) {
        bin.passed = 0;
        // The caller's memory may be used again.
        bin.waiting.push({ ...search, query: search.query.slice() });
        this.#wake();
      }
    }
    return choice;
  }

  /** Another number as soon as wider beams than before are chosen for some recall: an answer of before may miss what one of now finds. */
  get widenings(): number {
    return this.#widenings;
  }

  /** What is known of each kind of search. */
  status(): RecallStatus[] {
    return Array.from(this.#bins.values(), ({ field, k, share, curve, target, isUnheld }) => {
      const { ef, recall = 0 } = curve.choose(target, 1);
      const near = curve.points().find((point) => point.ef >= ef);
      const samples = Math.round(curve.samples);
      return { field, k, share, target, ef, recall, margin: near?.margin ?? 1, samples, isHeld: !isUnheld };
    });
  }

  /** Resolves when nothing waits to be measured. For tests. */
  async settled(): Promise<void> {
    while (this.#measuring !== undefined) await this.#measuring;
  }

  #binOf({ field, k, allowed }: TargetedSearch): Bin {
    const band = kBands.find((each) => k <= each) ?? k;
    const part = allowed.of === 0 ? 1 : allowed.count / allowed.of;
    const share = shareBands.find((each) => part <= each) ?? 1;
    const key = `${field} ${band} ${share}`;
    let bin = this.#bins.get(key);
    if (bin === undefined) {
      if (this.#bins.size >= binsMax) {
        this.#bins.delete(this.#bins.keys().next().value as string);
        this.#widenings++;
      }
      const rowCount = this.#options.indexOf(field)?.rowCount ?? 0;
      const state = { waiting: [], passed: 0, target: 1, widths: new Map<number, number>(), isUnheld: false, rowCount };
      bin = { field, k: band, share, curve: new RecallCurve(), ...state };
      this.#bins.set(key, bin);
    }
    return bin;
  }

  /** From now on it is noticed where wider beams are chosen for the recall. */
  #follow({ widths, curve }: Bin, target: number): void {
    if (widths.has(target)) return;
    if (widths.size >= targetsMax) {
      widths.delete(widths.keys().next().value as number);
      this.#widenings++;
    }
    widths.set(target, curve.choose(target, 1).ef);
  }

  #noticeWidening({ widths, curve }: Bin): void {
    for (const [target, before] of widths) {
      const { ef } = curve.choose(target, 1);
      if (ef > before * (1 + widening)) this.#widenings++;
      if (ef < before || ef > before * (1 + widening)) widths.set(target, ef);
    }
  }

  #judge(bin: Bin, { canHold, recall }: BeamChoice): void {
    if (canHold) {
      bin.isUnheld = false;
      return;
    }
    if (bin.isUnheld) return;
    bin.isUnheld = true;
    const of = bin.share === 1 ? "" : ` and filters of ${bin.share * 100} %`;
    this.#options.onUnheld(
      `recall ${bin.target} of the vector field "${bin.field}" with up to ${bin.k} results${of} cannot be held: the widest beam gives ${recall?.toFixed(3)}`,
    );
  }

  #wake(): void {
    if (this.#measuring !== undefined || this.#options.signal.aborted) return;
    this.#measuring = this.#measureAll()
      .catch((error: unknown) => {
        for (const bin of this.#bins.values()) bin.waiting.length = 0;
        // What was measured stays.
        if (!this.#options.signal.aborted) this.#options.onError(error);
      })
      .finally(() => {
        this.#measuring = undefined;
      });
  }

  async #measureAll(): Promise<void> {
    const { clock, signal } = this.#options;
    for (;;) {
      // Those of which least is known come first.
      const due = [...this.#bins.values()].filter(({ waiting }) => waiting.length > 0);
      due.sort((a, b) => a.curve.samples - b.curve.samples);
      const [bin] = due;
      const search = bin?.waiting.shift();
      if (bin === undefined || search === undefined || signal.aborted) return;
      const startMs = clock.monotonicMs();
      await this.#measure(bin, search);
      const share = bin.curve.samples < samplesWanted ? earlyShare : steadyShare;
      await sleep(clock, (clock.monotonicMs() - startMs) * (1 / share - 1), signal);
    }
  }

  async #measure(bin: Bin, { query, k, filter }: TargetedSearch): Promise<void> {
    const options = this.#options;
    const { signal } = options;
    const index = options.indexOf(bin.field);
    if (index === undefined) return;
    const mask = filter === undefined ? undefined : await options.maskOf(filter, signal);
    const recalls = await recallsOf(index, { query, k, filter: mask }, signal);
    if (recalls === undefined) return;
    const { rowCount } = index;
    if (Math.abs(rowCount - bin.rowCount) > growth * bin.rowCount) {
      bin.curve.fade(0.25);
      bin.rowCount = rowCount;
    }
    bin.curve.add(recalls);
    this.#noticeWidening(bin);
  }
}
