/**
 * A log-linear histogram of durations in whole microseconds, as HDR histograms are: every power of two is cut into 128
 * equal buckets, so a percentile is at most 1/128 (0.8 %) above the true value, values below 256 µs are exact, and
 * recording is a few integer operations without allocation. Range: 0 to 2^31 - 1 µs (35 minutes); longer ones are counted
 * in the last bucket, and `maxUs` keeps their true value.
 */
export class Histogram {
  readonly #counts = new Float64Array(bucketCount);
  #count = 0;
  #sumUs = 0;
  #minUs = Infinity;
  #maxUs = 0;

  /** Counts one duration; fractions are rounded up, negative ones (a clock that was set) count as 0. */
  record(durationUs: number): void {
    const us = durationUs > 0 ? Math.ceil(durationUs) : 0;
    const index = bucketOf(us > largest ? largest : us);
    this.#counts[index] = (this.#counts[index] as number) + 1;
    this.#count++;
    this.#sumUs += us;
    if (us < this.#minUs) this.#minUs = us;
    if (us > this.#maxUs) this.#maxUs = us;
  }

  /** Adds what another histogram has counted. */
  add(other: Histogram): void {
    for (let i = 0; i < bucketCount; i++) {
      this.#counts[i] = (this.#counts[i] as number) + (other.#counts[i] as number);
    }
    this.#count += other.#count;
    this.#sumUs += other.#sumUs;
    this.#minUs = Math.min(this.#minUs, other.#minUs);
    this.#maxUs = Math.max(this.#maxUs, other.#maxUs);
  }

  get count(): number {
    return this.#count;
  }

  get minUs(): number {
    return this.#count === 0 ? 0 : this.#minUs;
  }

  get maxUs(): number {
    return this.#maxUs;
  }

  get meanUs(): number {
    return this.#count === 0 ? 0 : this.#sumUs / this.#count;
  }

  /** The smallest value that at least the given share (0..1) of the durations does not exceed, up to the bucket width. */
  percentileUs(share: number): number {
    if (this.#count === 0) return 0;
    // 0.999 × 1000 is a hair above 999 in floating point; the rank must not jump for that.
    const rank = Math.max(1, Math.ceil(share * this.#count - 1e-6));
    let seen = 0;
    for (let i = 0; i < bucketCount; i++) {
      seen += this.#counts[i] as number;
      if (seen >= rank) return i === bucketCount - 1 ? this.#maxUs : Math.min(upperOf(i), this.#maxUs);
    }
    return this.#maxUs;
  }

  summary(): LatencySummary {
    return {
      count: this.#count,
      minUs: this.minUs,
      meanUs: Math.round(this.meanUs * 10) / 10,
      p50Us: this.percentileUs(0.5),
      p95Us: this.percentileUs(0.95),
      p99Us: this.percentileUs(0.99),
      p999Us: this.percentileUs(0.999),
      maxUs: this.#maxUs,
    };
  }
}

export interface LatencySummary {
  count: number;
  minUs: number;
  meanUs: number;
  p50Us: number;
  p95Us: number;
  p99Us: number;
  p999Us: number;
  maxUs: number;
}

const octaveBits = 7;
const octave = 1 << octaveBits;
const largest = 0x7fff_ffff;
const bucketCount = bucketOf(largest) + 1;

/** 0..255 are buckets of their own; above, the leading bit picks the octave and the next 7 bits the bucket in it. */
function bucketOf(us: number): number {
  const shift = Math.max(0, 31 - Math.clz32(us) - octaveBits);
  return (shift << octaveBits) + (us >>> shift);
}

/** The largest value that falls into the bucket. */
function upperOf(index: number): number {
  if (index < 2 * octave) return index;
  const shift = (index >> octaveBits) - 1;
  return ((index & (octave - 1)) + octave + 1) * 2 ** shift - 1;
}
