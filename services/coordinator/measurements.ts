import { type Clock, toKithError } from "../../libs/base/index.js";
import type { Logger } from "../../libs/telemetry/index.js";

/** How often the cluster is measured, as a rule. */
const measureEveryMs = 15_000;

/** Measurements of the cluster from time to time, one after the other. One that fails is told of, and the next one comes in its turn. */
export class Measurements {
  readonly #options: { clock: Clock; logger: Logger; everyMs?: number };
  /** "how loaded the nodes are" */
  readonly #what: string;
  readonly #measure: () => Promise<void>;
  #begunMs: number;
  #running: Promise<void> | undefined;

  constructor(options: { clock: Clock; logger: Logger; everyMs?: number }, what: string, measure: () => Promise<void>) {
    this.#options = options;
    this.#what = what;
    this.#measure = measure;
    this.#begunMs = options.clock.monotonicMs();
  }

  /** Begins one where it is due. */
  beginDue(): void {
    const { clock, logger, everyMs = measureEveryMs } = this.#options;
    const nowMs = clock.monotonicMs();
    if (this.#running !== undefined || nowMs - this.#begunMs < everyMs) return;
    this.#begunMs = nowMs;
    this.#running = this.#measure()
      .catch((error: unknown) => {
        const { code, message } = toKithError(error);
        logger.warn(`it could not be measured ${this.#what}: ${message}`, { code });
      })
      .finally(() => (this.#running = undefined));
  }

  /** Resolves when the one that runs has ended. */
  async close(): Promise<void> {
    await this.#running;
  }
}
