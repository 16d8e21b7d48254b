/** One sample of a Prometheus text page. */
export interface MetricSample {
  name: string;
  labels: string;
  value: number;
}

const fetchTimeoutMs = 2_000;

export function parseMetrics(page: string): MetricSample[] {
  const samples: MetricSample[] = [];
  for (const line of page.split("\n")) {
    const match = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})? ([^ ]+)/.exec(line);
    if (match === null) continue;
    const value = match[3] === "+Inf" ? Infinity : Number(match[3]);
    if (!Number.isNaN(value)) samples.push({ name: match[1] as string, labels: match[2] ?? "", value });
  }
  return samples;
}

/** The samples of a server's metrics page whose name starts with `prefix`. */
export async function fetchMetrics(url: string, prefix: string): Promise<MetricSample[]> {
  const response = await fetch(url, { signal: AbortSignal.timeout(fetchTimeoutMs) });
  if (!response.ok) throw new Error(`${url} answers ${response.status} ${response.statusText}`);
  return parseMetrics(await response.text()).filter((sample) => sample.name.startsWith(prefix));
}

/** Collects the highest value that a server shows of its event-loop delay, in milliseconds, in a window. */
export class EventLoopDelayWatch {
  readonly #url: string | undefined;
  #highestMs: number | undefined;
  #failure: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #pending: Promise<void> = Promise.resolve();

  constructor(url: string | undefined) {
    this.#url = url;
  }

  start(): void {
    if (this.#url === undefined) return;
    // The gauge covers the time since it was read last: this reading ends what was before the window, and is not kept.
    this.#pending = this.#read(false);
    // Every page costs the server some milliseconds on the very loop that is measured: ask seldom.
    this.#timer = setInterval(() => void this.#sample(), 2_000);
    this.#timer.unref();
  }

  /** Undefined without an endpoint, or where it shows no such gauge; `failure` says why. */
  async stop(): Promise<{ p99Ms: number | undefined; failure: string | undefined }> {
    clearInterval(this.#timer);
    if (this.#url !== undefined) {
      await this.#pending;
      await this.#sample();
    }
    return { p99Ms: this.#highestMs, failure: this.#failure };
  }

  #sample(): Promise<void> {
    this.#pending = this.#read(true);
    return this.#pending;
  }

  async #read(keep: boolean): Promise<void> {
    try {
      const samples = await fetchMetrics(this.#url as string, "kith_eventloop_delay");
      if (!keep) return;
      const p99 = samples.filter((sample) => /p?0?\.?99"/.test(sample.labels) || sample.labels === "");
      for (const { name, value } of p99) {
        // Seconds, as all times of Prometheus, unless the name says otherwise.
        const ms = name.endsWith("_milliseconds") ? value : value * 1000;
        if (this.#highestMs === undefined || ms > this.#highestMs) this.#highestMs = ms;
      }
      if (p99.length === 0) this.#failure = `${this.#url} shows no kith_eventloop_delay`;
    } catch (error) {
      this.#failure = (error as Error).message;
    }
  }
}
