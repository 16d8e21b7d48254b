import { abortReason, assert, type Cancellation, deferred, type Deferred, withAbort } from "../../base/index.js";
import { unavailable } from "../replica/faults.js";

/**
 * Turns between the one writer of an open replica and readers that need it to stand still. Neither side starves: the writer
 * waits for the readers that were there before it, and readers that come while it waits or writes get their turn behind
 * its batch. So a reader waits for one batch at most, and the writer for one attempt of each query that holds.
 */
export class FairLock {
  readonly #stopped: AbortSignal;
  /** Whether the writer writes, or waits for the readers before it. */
  #isWriting = false;
  #readerCount = 0;
  /** Resolves when the readers before the writer have ended. */
  #readersEnded: Deferred<void> | undefined;
  /** Readers behind the writer. Bounded by the queries in flight. */
  readonly #queue = new Set<Deferred<void>>();

  /** @param stopped aborted when the open replica ends: who waits is sent away, who has the turn ends by itself */
  constructor(stopped: AbortSignal) {
    this.#stopped = stopped;
    const onStop = (): void => {
      for (const turn of this.#queue) turn.reject(ended());
      this.#queue.clear();
    };
    stopped.addEventListener("abort", onStop, { once: true });
  }

  /** Runs `action` when no reader holds. If it rejects, nobody gets a turn any more: the caller must end the open replica. */
  async write(action: () => Promise<void>): Promise<void> {
    assert(!this.#isWriting, "two batches are written at once");
    this.#isWriting = true;
    if (this.#readerCount > 0) {
      this.#readersEnded = deferred();
      await withAbort(this.#readersEnded.promise, this.#stopped);
      this.#readersEnded = undefined;
    }
    await action();
    this.#isWriting = false;
    this.#readerCount += this.#queue.size;
    for (const turn of this.#queue) turn.resolve();
    this.#queue.clear();
  }

  /**
   * Runs `action` while nothing is written; the turn ends with it. Rejects with SHARD_UNAVAILABLE when the open replica ends
   * before the turn comes, and with the reason of `cancellation` when that is first.
   */
  async read<T>(action: () => Promise<T>, cancellation: Cancellation | undefined): Promise<T> {
    if (this.#stopped.aborted) throw ended();
    if (this.#isWriting) await this.#turn(cancellation);
    else this.#readerCount++;
    try {
      return await action();
    } finally {
      if (--this.#readerCount === 0) this.#readersEnded?.resolve();
    }
  }

  /** Resolves behind the batch at hand; the reader is counted by then. */
  async #turn(cancellation: Cancellation | undefined): Promise<void> {
    if (cancellation?.aborted) throw abortReason(cancellation);
    const turn = deferred<void>();
    const onAbort = (): void => {
      if (this.#queue.delete(turn)) turn.reject(abortReason(cancellation as Cancellation));
    };
    cancellation?.addEventListener("abort", onAbort, { once: true });
    this.#queue.add(turn);
    try {
      await turn.promise;
    } finally {
      cancellation?.removeEventListener("abort", onAbort);
    }
  }
}

function ended(): Error {
  return unavailable("stopped", "it ended while a query waited for it");
}
