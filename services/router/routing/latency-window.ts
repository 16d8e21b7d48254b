/** What is taken for the 95th percentile while little is known: a replica that hangs must not hold the first queries. */
const firstP95Ms = 100;

/** The latest latencies of one shard; their 95th percentile decides when a query is hedged. */
export class LatencyWindow {
  static readonly #size = 128;
  readonly #samples = new Float64Array(LatencyWindow.#size);
  #count = 0;
  #p95 = firstP95Ms;

  add(ms: number): void {
    this.#samples[this.#count++ % LatencyWindow.#size] = ms;
    if (this.#count >= LatencyWindow.#size && this.#count % 64 === 0) {
      this.#p95 = [...this.#samples].sort((a, b) => a - b)[Math.floor(LatencyWindow.#size * 0.95)] as number;
    }
  }

  /** `firstP95Ms` until there are enough samples. */
  get p95Ms(): number {
    return this.#p95;
  }
}
