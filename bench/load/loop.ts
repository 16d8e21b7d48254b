import { deferred } from "../../libs/base/index.js";
import { SeededRandom } from "../../libs/base/index.js";
import { Histogram } from "../lib/histogram.js";
import type { OnDone, QueryDriver } from "./driver.js";

/** Closed: so many always in flight. Open: so many arrive each second, whether or not the server keeps up. */
export type LoadPlan =
  | { kind: "closed"; concurrency: number }
  | { kind: "open"; ratePerSecond: number; clock: "poisson" | "constant"; seed: number; spin: boolean };

export interface LoadOptions {
  plan: LoadPlan;
  warmupMs: number;
  durationMs: number;
  queryCount: number;
  open: (onDone: OnDone) => Promise<QueryDriver>;
  /** Called at the beginning and at the end of the measured window. */
  onWindow: (edge: "start" | "end") => void;
}

export interface LoadSample {
  /** Answers in the window, errors not counted, per second. */
  queriesPerSecond: number;
  windowSeconds: number;
  /** Closed: of answers that came in the window. Open: of requests that were due in the window. Errors not counted. */
  latency: Histogram;
  /** Open loop: how late this client was in sending (part of the latency). */
  sendDelay: Histogram;
  errors: Record<string, number>;
}

/** More than a router takes in flight; open-loop arrivals beyond this wait for their turn, and their latency runs. */
const openInFlightMax = 8_000;
const drainTimeoutMs = 15_000;

export async function runLoad(options: LoadOptions): Promise<LoadSample> {
  const run = new LoadRun(options);
  const driver = await options.open(run.onDone);
  try {
    return await run.run(driver);
  } finally {
    await driver.close();
  }
}

class LoadRun {
  readonly #options: LoadOptions;
  readonly #latency = new Histogram();
  readonly #sendDelay = new Histogram();
  readonly #errors: Record<string, number> = {};
  readonly #finished = deferred<void>();
  #driver: QueryDriver | undefined;
  #answered = 0;
  #inFlight = 0;
  #query = 0;
  #fromMs = Infinity;
  #toMs = Infinity;
  #sending = true;
  #dueMs = Infinity;
  #gapMs: () => number = () => Infinity;

  constructor(options: LoadOptions) {
    this.#options = options;
  }

  async run(driver: QueryDriver): Promise<LoadSample> {
    this.#driver = driver;
    const { plan, warmupMs, durationMs, onWindow } = this.#options;
    const startMs = performance.now();
    this.#fromMs = startMs + warmupMs;
    this.#toMs = this.#fromMs + durationMs;
    let windowOpen = false;
    const windowStart = setTimeout(() => {
      windowOpen = true;
      onWindow("start");
    }, warmupMs);
    const windowEnd = setTimeout(() => {
      if (windowOpen) onWindow("end");
      windowOpen = false;
      this.#stop();
    }, warmupMs + durationMs);
    if (plan.kind === "closed") for (let i = 0; i < plan.concurrency; i++) this.#send(performance.now());
    else this.#arrivals(plan, startMs);
    try {
      await this.#finished.promise;
    } finally {
      clearTimeout(windowStart);
      clearTimeout(windowEnd);
      if (windowOpen) onWindow("end");
    }
    return {
      queriesPerSecond: this.#answered / (durationMs / 1000),
      windowSeconds: durationMs / 1000,
      latency: this.#latency,
      sendDelay: this.#sendDelay,
      errors: this.#errors,
    };
  }

  readonly onDone: OnDone = (startMs, error) => {
    const now = performance.now();
    this.#inFlight--;
    const inWindow = now >= this.#fromMs && now < this.#toMs;
    const isOpen = this.#options.plan.kind === "open";
    const measured = isOpen ? startMs >= this.#fromMs && startMs < this.#toMs : inWindow;
    if (error !== undefined) {
      if (measured) this.#errors[error] = (this.#errors[error] ?? 0) + 1;
      const failure = this.#driver?.failure;
      if (failure !== undefined) this.#finished.reject(failure);
    } else {
      if (inWindow) this.#answered++;
      if (measured) this.#latency.record((now - startMs) * 1000);
    }
    if (!this.#sending) {
      if (this.#inFlight === 0) this.#finished.resolve();
    } else if (!isOpen && this.#driver?.failure === undefined) {
      this.#send(now);
    }
  };

  #send(startMs: number): void {
    const query = this.#query;
    this.#query = query + 1 === this.#options.queryCount ? 0 : query + 1;
    this.#inFlight++;
    (this.#driver as QueryDriver).send(query, startMs);
  }

  /**
   * Sends what is due by a schedule that was fixed before. A request that the client or a full pipe delays keeps its
   * intended start, so a stall of the server lengthens the latency of all that were due meanwhile, and not of one only
   * (coordinated omission). Timers of Node are 1 ms apart: without `spin` up to that much of the latency is the client's.
   */
  #arrivals(plan: Extract<LoadPlan, { kind: "open" }>, startMs: number): void {
    const random = new SeededRandom(plan.seed);
    const meanMs = 1000 / plan.ratePerSecond;
    this.#gapMs = () => (plan.clock === "constant" ? meanMs : -Math.log(1 - random.float()) * meanMs);
    this.#dueMs = startMs + this.#gapMs();
    const step = (): void => {
      if (!this.#sending || this.#driver?.failure !== undefined) return;
      this.#sendDue();
      if (plan.spin) setImmediate(step);
      else setTimeout(step, 1);
    };
    step();
  }

  #sendDue(): void {
    for (
      let now = performance.now();
      this.#dueMs <= now && this.#dueMs < this.#toMs && this.#inFlight < openInFlightMax;
      now = performance.now()
    ) {
      this.#sendDelay.record((now - this.#dueMs) * 1000);
      this.#send(this.#dueMs);
      this.#dueMs += this.#gapMs();
    }
  }

  #stop(): void {
    this.#sending = false;
    const failure = this.#driver?.failure;
    if (failure !== undefined) {
      this.#finished.reject(failure);
      return;
    }
    // What was due since the last tick is sent now; what is left after that found no room for it.
    this.#sendDue();
    let unsent = 0;
    for (; this.#dueMs < this.#toMs; this.#dueMs += this.#gapMs()) unsent++;
    if (unsent > 0) this.#errors["NOT_SENT"] = unsent;
    if (this.#inFlight === 0) {
      this.#finished.resolve();
      return;
    }
    const timer = setTimeout(() => {
      this.#errors["UNANSWERED"] = this.#inFlight;
      this.#finished.resolve();
    }, drainTimeoutMs);
    const clear = (): void => clearTimeout(timer);
    this.#finished.promise.then(clear, clear);
  }
}
