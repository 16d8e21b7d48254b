import { KithError } from "../base/index.js";

/**
 * A seeded generator of random numbers: xoshiro128** (Blackman and Vigna, https://prng.di.unimi.it), seeded through
 * splitmix32. The same seed gives the same numbers on every machine. Not for secrets.
 */
export class SeededRandom {
  #a: number;
  #b: number;
  #c: number;
  #d: number;
  #spare: number | undefined;

  constructor(seed: number) {
    let state = seed >>> 0;
    const next = (): number => {
      state = (state + 0x9e3779b9) | 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      return (z ^ (z >>> 15)) | 0;
    };
    this.#a = next();
    this.#b = next();
    this.#c = next();
    this.#d = next();
  }

  /** Uniform in 0..2^32-1. */
  u32(): number {
    const scaled = Math.imul(this.#b, 5);
    const result = Math.imul((scaled << 7) | (scaled >>> 25), 9) >>> 0;
    const shifted = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= shifted;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result;
  }

  /** Uniform in [0, 1). */
  uniform(): number {
    return this.u32() / 0x1_0000_0000;
  }

  /** Uniform whole number in 0..bound-1. */
  below(bound: number): number {
    return Math.floor(this.uniform() * bound);
  }

  /** Standard normal, by the polar form of Box and Muller. */
  gaussian(): number {
    if (this.#spare !== undefined) {
      const spare = this.#spare;
      this.#spare = undefined;
      return spare;
    }
    for (;;) {
      const x = 2 * this.uniform() - 1;
      const y = 2 * this.uniform() - 1;
      const square = x * x + y * y;
      if (square > 0 && square < 1) {
        const factor = Math.sqrt((-2 * Math.log(square)) / square);
        this.#spare = y * factor;
        return x * factor;
      }
    }
  }
}

export interface GenerateOptions {
  rowCount: number;
  dimension: number;
  /** Fixes the distribution (where the clusters lie) and the points. */
  seed: number;
  /** Another stream draws other points from the same distribution: 0 for the base, 1 for the queries. Default 0. */
  stream?: number;
  /** Centres of gaussian clusters, drawn as standard normal. 0: no clusters, every element standard normal. Default 0. */
  clusterCount?: number;
  /** Standard deviation of the points around their centre. Default 0.5. */
  spread?: number;
}

/**
 * Random vectors from a seed, row-major. `clusterCount` 0 gives independent normal elements, which is the hardest case for a
 * graph index; with clusters the data has the neighbourhoods that embeddings have.
 */
export function generateMatrix(options: GenerateOptions): Float32Array {
  const generator = new VectorGenerator(options);
  return generator.next(options.rowCount);
}

/** The same rows as generateMatrix, piece by piece, for sets that do not fit in memory. */
export class VectorGenerator {
  readonly dimension: number;
  readonly #centres: Float32Array;
  readonly #clusterCount: number;
  readonly #spread: number;
  readonly #random: SeededRandom;

  constructor(options: Omit<GenerateOptions, "rowCount">) {
    const { dimension, seed, stream = 0, clusterCount = 0, spread = 0.5 } = options;
    if (!Number.isInteger(dimension) || dimension < 1) {
      throw new KithError("INVALID_ARGUMENT", `the dimension is ${dimension}; it must be a whole number of at least 1`);
    }
    this.dimension = dimension;
    this.#clusterCount = clusterCount;
    this.#spread = spread;
    const centreRandom = new SeededRandom(seed);
    this.#centres = new Float32Array(clusterCount * dimension);
    for (let i = 0; i < this.#centres.length; i++) this.#centres[i] = centreRandom.gaussian();
    // Streams start from seeds that are far apart, so that no stream repeats the points of another.
    this.#random = new SeededRandom(Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(stream + 1, 0x85ebca6b));
  }

  /** The next rows, row-major. */
  next(rowCount: number): Float32Array {
    const { dimension } = this;
    const matrix = new Float32Array(rowCount * dimension);
    for (let row = 0; row < rowCount; row++) {
      const at = row * dimension;
      if (this.#clusterCount === 0) {
        for (let i = 0; i < dimension; i++) matrix[at + i] = this.#random.gaussian();
        continue;
      }
      const centre = this.#random.below(this.#clusterCount) * dimension;
      for (let i = 0; i < dimension; i++) {
        matrix[at + i] = (this.#centres[centre + i] as number) + this.#spread * this.#random.gaussian();
      }
    }
    return matrix;
  }
}
