import type { Scorer, VectorPair } from "../model/index.js";

/** The vectors that each point is compared with, in the order in which `combineSimilarities` wants the similarities. */
export function examplesOf(scorer: Scorer): Float32Array[] {
  switch (scorer.kind) {
    case "nearest":
      return [scorer.vector];
    case "bestScore":
    case "sumScores":
      return [...scorer.positive, ...scorer.negative];
    case "discover":
      return [scorer.target, ...vectorsOf(scorer.pairs)];
    case "context":
      return vectorsOf(scorer.pairs);
  }
}

/** Those near to which good results are to be looked for. */
export function attractorsOf(scorer: Scorer): Float32Array[] {
  switch (scorer.kind) {
    case "nearest":
      return [scorer.vector];
    case "bestScore":
    case "sumScores":
      return [...scorer.positive];
    case "discover":
      return [scorer.target, ...scorer.pairs.map(({ positive }) => positive)];
    case "context":
      return scorer.pairs.map(({ positive }) => positive);
  }
}

function vectorsOf(pairs: readonly VectorPair[]): Float32Array[] {
  return pairs.flatMap(({ positive, negative }) => [positive, negative]);
}

/** The smallest difference that f32 shows beside 1: pairs must differ by more. */
const epsilon = 2 ** -23;

/** The score of one point from its similarities to `examplesOf(scorer)`. */
export function combineSimilarities(scorer: Scorer, similarities: ArrayLike<number>): number {
  switch (scorer.kind) {
    case "nearest":
      return similarities[0] as number;
    case "bestScore": {
      const best = highest(similarities, 0, scorer.positive.length);
      const worst = highest(similarities, scorer.positive.length, similarities.length);
      return best > worst ? half(best) : -half(worst);
    }
    case "sumScores": {
      let sum = 0;
      for (let i = 0; i < similarities.length; i++) {
        sum += i < scorer.positive.length ? (similarities[i] as number) : -(similarities[i] as number);
      }
      return sum;
    }
    case "discover": {
      let rank = 0;
      for (let i = 1; i < similarities.length; i += 2) {
        rank += Math.sign((similarities[i] as number) - (similarities[i + 1] as number));
      }
      return rank + half(similarities[0] as number);
    }
    case "context": {
      let sum = 0;
      for (let i = 0; i < similarities.length; i += 2) {
        const difference = (similarities[i] as number) - (similarities[i + 1] as number) - epsilon;
        sum += squashed(Math.min(difference, 0));
      }
      return sum;
    }
  }
}

function highest(values: ArrayLike<number>, from: number, to: number): number {
  let best = Number.NEGATIVE_INFINITY;
  for (let i = from; i < to; i++) best = Math.max(best, values[i] as number);
  return best;
}

/** x / (1 + |x|): from -1 to 1, without the cost of an exponential. */
function squashed(x: number): number {
  return Number.isFinite(x) ? x / (1 + Math.abs(x)) : Math.sign(x);
}

/** The same, from 0 to 1. */
function half(x: number): number {
  return 0.5 * (squashed(x) + 1);
}

/**
 * The vector of a recommendation by average: mean of the positive examples, moved away from the mean of the negative ones.
 * Examples have one dimension; there is at least one positive one.
 */
export function averageOf(positive: readonly Float32Array[], negative: readonly Float32Array[]): Float32Array {
  const average = meanOf(positive);
  if (negative.length === 0) return average;
  const away = meanOf(negative);
  return average.map((x, i) => x + x - (away[i] as number));
}

function meanOf(vectors: readonly Float32Array[]): Float32Array {
  const sum = new Float64Array((vectors[0] as Float32Array).length);
  for (const vector of vectors)
    for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (vector[i] as number);
  return Float32Array.from(sum, (x) => x / vectors.length);
}
