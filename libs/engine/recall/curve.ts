/** Beam widths at which recall is measured, each about 1.4 times the one before. */
export const beamLadder = [
  16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1_024, 1_536, 2_048, 3_072, 4_096, 6_144, 8_192,
] as const;

/** Of one beam width: queries by weight, and the sums of their recalls and of the squares of these. */
interface Rung {
  weight: number;
  recall: number;
  squares: number;
}

/** What is known of one beam width. */
export interface CurvePoint {
  ef: number;
  /** Mean of recall@k over the queries. */
  recall: number;
  /** Half of the width of its interval of 95 % confidence. */
  margin: number;
}

/** What a search is to be run with for a target. */
export interface BeamChoice {
  ef: number;
  /** At that beam width, as far as it was measured. */
  recall: number | undefined;
  /** False where the widest beam that was measured does not reach it, by more than chance explains. */
  canHold: boolean;
}

/** So many queries weigh as much as what was not measured yet: with few, a wider beam is taken than they ask for. */
const caution = 16;
/** A query loses this share of its weight with each one that comes after it, so that what the data have become counts: about 200 do. */
const fading = 0.005;
/** Below, a failure may be chance. */
const judgedSamples = 40;

/** How recall@k grows with the beam width, as sampled queries tell it. */
export class RecallCurve {
  readonly #rungs: readonly Rung[];
  /** Queries by weight. */
  #samples = 0;

  constructor() {
    this.#rungs = beamLadder.map(() => ({ weight: 0, recall: 0, squares: 0 }));
  }

  /** Queries that count, those that fade in part. */
  get samples(): number {
    return this.#samples;
  }

  /** Takes in one query: its recall at each beam width of the ladder in order; the last one stands for all wider ones. */
  add(recalls: readonly number[]): void {
    this.fade(1 - fading);
    this.#samples += 1;
    for (const [i, rung] of this.#rungs.entries()) {
      const recall = recalls[i] ?? recalls.at(-1) ?? 1;
      rung.weight += 1;
      rung.recall += recall;
      rung.squares += recall * recall;
    }
  }

  /** What is known counts as this share of it: the data have changed. */
  fade(share: number): void {
    this.#samples *= share;
    for (const rung of this.#rungs) {
      rung.weight *= share;
      rung.recall *= share;
      rung.squares *= share;
    }
  }

  /** In order of the beam width, from `k` results on; recall never falls. Empty where nothing was measured. */
  points(k = 1): CurvePoint[] {
    if (this.#samples === 0) return [];
    const points: CurvePoint[] = [];
    let best = 0;
    for (const [i, { weight, recall, squares }] of this.#rungs.entries()) {
      const ef = beamLadder[i] as number;
      if (ef < k && i + 1 < beamLadder.length) continue;
      const mean = recall / weight;
      best = Math.max(best, mean);
      const variance = Math.max(0, squares / weight - mean * mean);
      points.push({ ef: Math.max(ef, k), recall: best, margin: 1.96 * Math.sqrt(variance / weight) });
    }
    return points;
  }

  /** The narrowest beam that holds the target for `k` results: between two that were measured by the logarithms of width and of what is missed. */
  choose(target: number, k: number): BeamChoice {
    const points = this.points(k);
    const last = points.at(-1);
    if (last === undefined) return { ef: Math.max(k, widthUnmeasured(k, target)), recall: undefined, canHold: true };
    const missed = ((1 - target) * this.#samples) / (this.#samples + caution);
    for (const [i, point] of points.entries()) {
      if (1 - point.recall > missed) continue;
      const before = points[i - 1];
      const ef = before === undefined ? point.ef : between(before, point, missed);
      return { ef, recall: recallAt(points, ef), canHold: true };
    }
    const isJudged = this.#samples >= judgedSamples;
    return { ef: last.ef, recall: last.recall, canHold: !isJudged || last.recall + last.margin >= target };
  }
}

/** Without a measurement: wide enough for most data, and narrow enough to be answered. */
function widthUnmeasured(k: number, target: number): number {
  if (target <= 0.9) return Math.max(128, 4 * k);
  return target <= 0.97 ? Math.max(256, 6 * k) : Math.max(512, 8 * k);
}

/** The smallest share that is told apart from none: the queries of a curve are hundreds. */
const missedMin = 1e-4;

/** What is missed falls by this factor from one beam width to the next: its logarithm. */
const steepFall = Math.log(4);

function between(low: CurvePoint, high: CurvePoint, missed: number): number {
  const wanted = Math.log(Math.max(missedMin, missed));
  const from = Math.log(Math.max(missedMin, 1 - low.recall));
  const to = Math.log(Math.max(missedMin, 1 - high.recall));
  // With filters a wider beam may be a scan, which misses nothing: the step is somewhere between.
  if (from - to < 1e-9 || from - to > steepFall) return high.ef;
  const share = Math.min(1, Math.max(0, (from - wanted) / (from - to)));
  return Math.ceil(low.ef * (high.ef / low.ef) ** share);
}

function recallAt(points: readonly CurvePoint[], ef: number): number {
  const after = points.findIndex((point) => point.ef >= ef);
  const high = points[after];
  const low = points[after - 1];
  if (high === undefined) return points.at(-1)?.recall ?? 1;
  if (low === undefined || high.ef === ef) return high.recall;
  const share = Math.log(ef / low.ef) / Math.log(high.ef / low.ef);
  return low.recall + share * (high.recall - low.recall);
}
