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

/**
 * Reads a server's event-loop delay over a window, in milliseconds: the gauge covers the time since it was read last, so
 * it is read at both edges and not between (a page costs the server some milliseconds on the very loop that is measured).
 */
export class EventLoopDelayWatch {
  readonly #url: string | undefined;
  #begun: Promise<unknown> = Promise.resolve();

  constructor(url: string | undefined) {
    this.#url = url;
  }

  start(): void {
    if (this.#url !== undefined) this.#begun = fetchMetrics(this.#url, gaugeName).catch(() => undefined);
  }

  /** Undefined without an endpoint, or where it shows no such gauge; `failure` says why. */
  async stop(): Promise<{ p99Ms: number | undefined; failure: string | undefined }> {
    const url = this.#url;
    if (url === undefined) return { p99Ms: undefined, failure: undefined };
    await this.#begun;
    try {
      const samples = await fetchMetrics(url, gaugeName);
      const p99 = samples.filter(({ labels }) => labels.includes('quantile="0.99"'));
      if (p99.length === 0) return { p99Ms: undefined, failure: `${url} shows no ${gaugeName}` };
      return { p99Ms: Math.max(...p99.map(({ value }) => value * 1000)), failure: undefined };
    } catch (error) {
      return { p99Ms: undefined, failure: (error as Error).message };
    }
  }
}

const gaugeName = "kith_eventloop_delay_seconds";
