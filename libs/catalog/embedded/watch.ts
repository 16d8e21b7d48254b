import type { CatalogChange, CatalogEntry, CatalogWatch } from "../port.js";
import { isUnder } from "../limits.js";

export interface WatchHandlers {
  onChange(change: CatalogChange): void;
  onReady?(): void;
}

/** Delivers changes to one watcher, in order and never within the call that made the change. */
export class EmbeddedWatch implements CatalogWatch {
  readonly #prefix: string;
  readonly #handlers: WatchHandlers;
  readonly #onHandlerError: (error: unknown) => void;
  readonly #onClose: (watch: EmbeddedWatch) => void;
  #queue: (CatalogChange | "ready")[] = [];
  #delivering = false;
  #closed = false;

  constructor(
    prefix: string,
    handlers: WatchHandlers,
    present: readonly CatalogEntry[],
    onHandlerError: (error: unknown) => void,
    onClose: (watch: EmbeddedWatch) => void,
  ) {
    this.#prefix = prefix;
    this.#handlers = handlers;
    this.#onHandlerError = onHandlerError;
    this.#onClose = onClose;
    for (const entry of present) this.#queue.push({ kind: "put", entry });
    this.#queue.push("ready");
    this.#deliver();
  }

  offer(change: CatalogChange): void {
    if (this.#closed || !isUnder(this.#prefix, change.kind === "put" ? change.entry.key : change.key)) return;
    this.#queue.push(change);
    this.#deliver();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#queue = [];
    this.#onClose(this);
  }

  #deliver(): void {
    if (this.#delivering) return;
    this.#delivering = true;
    // The queue is emptied in every turn of the event loop, so it holds at most what one turn has changed.
    queueMicrotask(() => {
      this.#delivering = false;
      const queue = this.#queue;
      this.#queue = [];
      for (const change of queue) {
        if (this.#closed) return;
        try {
          if (change === "ready") this.#handlers.onReady?.();
          else this.#handlers.onChange(change);
        } catch (error) {
          this.#onHandlerError(error);
        }
      }
    });
  }
}
