import type { Metric } from "../index.js";

/** A seeded generator of numbers in [0, 1): the same sequence on every machine. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function gaussian(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** Rows around seeded centres: more like embeddings than uniform noise, whose neighbours are all equally far. */
export function clustered(
  seed: number,
  count: number,
  dimension: number,
  options: { clusters?: number; spread?: number } = {},
): Float32Array {
  const { clusters = 50, spread = 0.5 } = options;
  // The centres depend on the dimension alone, so that queries of another seed lie among the rows.
  const forCentres = seededRandom(dimension);
  const centres = Float32Array.from({ length: clusters * dimension }, () => gaussian(forCentres));
  const random = seededRandom(seed);
  const rows = new Float32Array(count * dimension);
  for (let row = 0; row < count; row++) {
    const centre = Math.floor(random() * clusters) * dimension;
    for (let i = 0; i < dimension; i++) {
      rows[row * dimension + i] = (centres[centre + i] ?? 0) + spread * gaussian(random);
    }
  }
  return rows;
}

export function range(from: number, to: number): Uint32Array {
  return Uint32Array.from({ length: to - from }, (_, i) => from + i);
}

export function rowOf(rows: Float32Array, dimension: number, row: number): Float32Array {
  return rows.subarray(row * dimension, (row + 1) * dimension);
}

/** The oracle: one distance in double precision, by the definition of the metric. */
export function naiveDistance(metric: Metric, a: Float32Array, b: Float32Array): number {
  let dot = 0;
  let squares = 0;
  let normA = 0;
  let normB = 0;
  for (let i = 0; i < a.length; i++) {
    const x = a[i] ?? 0;
    const y = b[i] ?? 0;
    dot += x * y;
    squares += (x - y) ** 2;
    normA += x * x;
    normB += y * y;
  }
  if (metric === "l2") return squares;
  return metric === "dot" ? -dot : 1 - dot / Math.sqrt(normA * normB);
}

export interface NaiveHit {
  slot: number;
  distance: number;
}

/** The oracle: sorts all rows. `allowed` says which slots may be returned; slots equal rows. */
export function naiveSearch(
  metric: Metric,
  rows: Float32Array,
  query: Float32Array,
  k: number,
  allowed: (slot: number) => boolean = () => true,
): NaiveHit[] {
  const hits: NaiveHit[] = [];
  for (let slot = 0; slot < rows.length / query.length; slot++) {
    if (allowed(slot)) hits.push({ slot, distance: naiveDistance(metric, query, rowOf(rows, query.length, slot)) });
  }
  return hits.sort((a, b) => a.distance - b.distance || a.slot - b.slot).slice(0, k);
}

/** Share of the wanted slots that were found. */
export function recall(wanted: ArrayLike<number>, found: ArrayLike<number>): number {
  const set = new Set(Array.from(found));
  return Array.from(wanted).filter((slot) => set.has(slot)).length / wanted.length;
}

export function bitset(slots: Iterable<number>, bits: number): Uint8Array {
  const bytes = new Uint8Array((bits + 7) >> 3);
  for (const slot of slots) bytes[slot >> 3] = (bytes[slot >> 3] ?? 0) | (1 << (slot & 7));
  return bytes;
}
