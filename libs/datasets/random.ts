import { KithError, SeededRandom } from "../base/index.js";

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
