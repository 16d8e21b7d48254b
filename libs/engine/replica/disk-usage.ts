import type { Clock } from "../../base/index.js";
import { directoryBytes } from "../../storage/index.js";

/** A figure that is asked for is at most about this old. */
const ageMaxMs = 10_000;

/** Bytes of a directory's files, measured in the background when somebody asks for them. */
export class DiskUsage {
  readonly #directory: string;
  readonly #clock: Clock;
  readonly #onError: (error: unknown) => void;
  #sizeBytes = 0;
  #measuredAtMs = -Infinity;
  #isMeasuring = false;

  constructor(directory: string, clock: Clock, onError: (error: unknown) => void) {
    this.#directory = directory;
    this.#clock = clock;
    this.#onError = onError;
  }

  /** As measured last; 0 before that. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Begins to measure, unless the figure is fresh. */
  refresh(): void {
    const nowMs = this.#clock.monotonicMs();
    if (this.#isMeasuring || nowMs - this.#measuredAtMs < ageMaxMs) return;
    this.#isMeasuring = true;
    this.#measuredAtMs = nowMs;
    directoryBytes(this.#directory).then(
      (sizeBytes) => {
        this.#sizeBytes = sizeBytes;
        this.#isMeasuring = false;
      },
      (error: unknown) => {
        this.#isMeasuring = false;
        this.#onError(error);
      },
    );
  }
}
