import { SingleBar } from "cli-progress";
import { KithError, sleep, systemClock } from "../../libs/base/index.js";
import type { KithClient, OperationInfo } from "../../libs/client/index.js";
import type { Io } from "./io.js";
import { formatBytes, formatCount } from "./output.js";

const lookEveryMs = 500;
/** Without a terminal a line is enough now and then. */
const lineEveryMs = 5_000;

/** Shows how far an operation is until it has ended: a bar on a terminal, plain lines elsewhere. */
export async function watchOperation(io: Io, client: KithClient, begun: OperationInfo): Promise<OperationInfo> {
  let operation = begun;
  const progress = new OperationProgress(io);
  try {
    while (isLive(operation)) {
      progress.show(operation);
      await sleep(systemClock, lookEveryMs, io.signal);
      operation = await client.cluster.operation(operation.id, { signal: io.signal });
    }
  } finally {
    progress.stop();
  }
  return operation;
}

/** FAILED_PRECONDITION, with why, where an operation has not ended as done. */
export function expectDone({ id, state, error }: OperationInfo): void {
  if (state === "done") return;
  throw new KithError("FAILED_PRECONDITION", `the operation ${id} is ${state}${error === "" ? "" : `: ${error}`}`);
}

export function isLive({ state }: OperationInfo): boolean {
  return state === "running" || state === "cancelling";
}

/** "3.1 MiB of 20 MiB", "12 records behind", or the step. */
export function describeProgress({ step, state, move, resharding, error }: OperationInfo): string {
  if (error !== "") return `${step}: ${error}`;
  if (state === "cancelling") return "being undone";
  const data = move ?? resharding;
  if (step !== "copy" || data === undefined) return step;
  const { copiedBytes, totalBytes, lag } = data;
  const unindexed = resharding?.unindexedVectorCount ?? 0;
  const left = unindexed === 0 ? "" : `: ${formatCount(unindexed)} vectors left`;
  if (lag !== undefined) return lag === 0 ? `building its index${left}` : `${formatCount(lag)} records behind`;
  return totalBytes === 0 ? "copy" : `${formatBytes(copiedBytes)} of ${formatBytes(totalBytes)}`;
}

class OperationProgress {
  readonly #io: Io;
  #bar: SingleBar | undefined;
  #shownMs = Number.NEGATIVE_INFINITY;

  constructor(io: Io) {
    this.#io = io;
  }

  show(operation: OperationInfo): void {
    const text = describeProgress(operation);
    if (!this.#io.stderrIsTerminal) {
      const nowMs = systemClock.monotonicMs();
      if (nowMs - this.#shownMs < lineEveryMs) return;
      this.#shownMs = nowMs;
      this.#io.stderr.write(`${text}\n`);
      return;
    }
    const { copiedBytes = 0, totalBytes = 0 } = operation.move ?? operation.resharding ?? {};
    if (this.#bar === undefined) {
      this.#bar = new SingleBar({
        format: "{bar} {percentage}% {text}",
        stream: this.#io.stderr,
        barCompleteChar: "█",
        barIncompleteChar: "░",
        barsize: 24,
        hideCursor: true,
        clearOnComplete: true,
        gracefulExit: false,
        linewrap: false,
      });
      this.#bar.start(Math.max(1, totalBytes), 0, { text });
    }
    if (totalBytes > 0) this.#bar.setTotal(totalBytes);
    this.#bar.update(Math.min(copiedBytes, totalBytes), { text });
  }

  stop(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }
}
