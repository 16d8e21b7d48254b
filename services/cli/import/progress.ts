import { SingleBar } from "cli-progress";
import type { Io } from "../io.js";
import { formatBytes, formatCount, formatDuration } from "../output.js";

export interface ImportCounts {
  upserted: number;
  rejected: number;
  /** Bytes of the input behind the rows that are done. */
  bytesRead: number;
}

/** Without a terminal a line is enough now and then. */
const lineEveryMs = 5_000;

/** Shows how far an import is: a bar on a terminal, plain lines elsewhere. Rates are over the whole run. */
export class ImportProgress {
  readonly #io: Io;
  readonly #totalBytes: number | undefined;
  readonly #startedMs = performance.now();
  #startBytes: number | undefined;
  #bar: SingleBar | undefined;
  #shownMs = performance.now();

  constructor(io: Io, totalBytes: number | undefined) {
    this.#io = io;
    this.#totalBytes = totalBytes;
  }

  get elapsedMs(): number {
    return performance.now() - this.#startedMs;
  }

  update(counts: ImportCounts): void {
    // The rows that a resumed import passes over are read at once and must not count for the rate.
    this.#startBytes ??= counts.bytesRead;
    const text = this.#describe(counts);
    if (!this.#io.stderrIsTerminal) {
      if (performance.now() - this.#shownMs < lineEveryMs) return;
      this.#shownMs = performance.now();
      this.#io.stderr.write(`${text}\n`);
      return;
    }
    if (this.#bar === undefined) {
      this.#bar = new SingleBar({
        format: this.#totalBytes === undefined ? "{text}" : "{bar} {percentage}% {text}",
        stream: this.#io.stderr,
        barCompleteChar: "█",
        barIncompleteChar: "░",
        barsize: 24,
        hideCursor: true,
        clearOnComplete: true,
        gracefulExit: false,
        linewrap: false,
      });
      this.#bar.start(this.#totalBytes ?? 1, 0, { text });
    }
    this.#bar.update(Math.min(counts.bytesRead, this.#totalBytes ?? 0), { text });
  }

  stop(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }

  rate(rows: number): number {
    return rows / Math.max(0.001, this.elapsedMs / 1000);
  }

  #describe(counts: ImportCounts): string {
    const parts = [
      `${formatCount(counts.upserted)} points`,
      `${formatCount(Math.round(this.rate(counts.upserted)))}/s`,
      ...(counts.rejected > 0 ? [`${formatCount(counts.rejected)} rejected`] : []),
    ];
    if (this.#totalBytes === undefined) parts.push(formatBytes(counts.bytesRead));
    else {
      const done = counts.bytesRead - (this.#startBytes ?? 0);
      const left = this.#totalBytes - counts.bytesRead;
      if (done > 0 && left > 0) parts.push(`${formatDuration((this.elapsedMs * left) / done)} left`);
    }
    return parts.join(", ");
  }
}
