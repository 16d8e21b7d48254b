import type { PairOf, ScorerOf } from "../model/index.js";

/** The vectors that each point is compared with, in the order in which `combineSimilarities` wants the similarities. */
export function examplesOf<V>(scorer: ScorerOf<V>): V[] {
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
    case "weighted":
      return scorer.examples.map(({ vector }) => vector);
  }
}

/** Those near to which good results are to be looked for. */
export function attractorsOf<V>(scorer: ScorerOf<V>): V[] {
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
    case "weighted":
      return scorer.examples.filter(({ weight }) => weight > 0).map(({ vector }) => vector);
  }
}

/** The scorer with other vectors. */
export function mapScorer<V>(scorer: ScorerOf<V>, map: (vector: V) => V): ScorerOf<V> {
  const mapPair = ({ positive, negative }: PairOf<V>): PairOf<V> => ({
    positive: map(positive),
    negative: map(negative),
  });
  switch (scorer.kind) {
    case "nearest":
      return { kind: "nearest", vector: map(scorer.vector) };
    case "bestScore":
    case "sumScores":
      return { kind: scorer.kind, positive: scorer.positive.map(map), negative: scorer.negative.map(map) };
    case "discover":
      return { kind: "discover", target: map(scorer.target), pairs: scorer.pairs.map(mapPair) };
    case "context":
      return { kind: "context", pairs: scorer.pairs.map(mapPair) };
    case "weighted":
      return {
        kind: "weighted",
        examples: scorer.examples.map(({ vector, weight }) => ({ vector: map(vector), weight })),
      };
  }
}

function vectorsOf<V>(pairs: readonly PairOf<V>[]): V[] {
  return pairs.flatMap(({ positive, negative }) => [positive, negative]);
}

/** The smallest difference that f32 shows beside 1: pairs must differ by more. */
const epsilon = 2 ** -23;

/** The score of one point from its similarities to `examplesOf(scorer)`. */
export function combineSimilarities<V>(scorer: ScorerOf<V>, similarities: ArrayLike<number>): number {
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
    case "weighted":
      return scorer.examples.reduce((sum, { weight }, i) => sum + weight * (similarities[i] as number), 0);
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

/**
 * The matrix of a recommendation by average: the rows of all positive examples, and those of the negative ones with their signs turned. Under the sum of the
 * best similarities, which a mean of rows says nothing about, each row of an example counts as it does alone.
 */
export function joinedRows(positive: readonly Float32Array[], negative: readonly Float32Array[]): Float32Array {
  const parts = [...positive, ...negative.map((matrix) => matrix.map((x) => -x))];
  const joined = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/**
 * What the similarities to the target and to each judged result count in a query by feedback: `a` for the target, and for each pair of results of which one
 * was judged better, by a difference d of their scores, `c * d ** b` for the better and as much less for the other one.
 */
export function weightsOfFeedback(
  scores: readonly number[],
  { a, b, c }: { a: number; b: number; c: number },
): { target: number; judged: number[] } {
  const judged = scores.map(() => 0);
  for (const [better, high] of scores.entries()) {
    for (const [worse, low] of scores.entries()) {
      if (!(high > low)) continue;
      const trust = (high - low) ** b * c;
      judged[better] = (judged[better] ?? 0) + trust;
      judged[worse] = (judged[worse] ?? 0) - trust;
    }
  }
  return { target: a, judged };
}
