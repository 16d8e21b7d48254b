import { backoffMs, type Deferred, deferred } from "./async.js";
import { sleep } from "./clock.js";
import { type KithError, toKithError } from "./errors.js";
import { levelError } from "./leveldb.js";
import type { Runtime } from "./runtime.js";

const reopenBackoff = { initialMs: 50, maxMs: 5_000 };

export interface ReopeningOptions<D> extends Runtime {
  directory: string;
  open(directory: string): Promise<D>;
  /** Reads into memory what the database holds, each time that it was opened. */
  load(database: D): Promise<void>;
  /** Told why the database is reopened, and each time that this fails. */
  onWarning(error: KithError): void;
}

/**
 * A LevelDB that is closed, reopened and loaded again after a failed write, for as long as that takes: nobody knows what such a
 * write has left on the disk.
 */
export class ReopeningDatabase<D extends { close(): Promise<void> }> {
  readonly #options: ReopeningOptions<D>;
  readonly #listeners = new Set<(available: boolean) => void>();
  readonly #closing = new AbortController();
  #database: D;
  /** Set while the database is being reopened. */
  #outage: { cause: KithError; over: Deferred<void> } | undefined;
  #reopening: Promise<void> = Promise.resolve();

  /** @param database just opened; `load` it */
  constructor(options: ReopeningOptions<D>, database: D) {
    this.#options = options;
    this.#database = database;
  }

  /** For the first time. Rejects, with the database closed, where it cannot be read. */
  async load(): Promise<void> {
    try {
      await this.#options.load(this.#database);
    } catch (error) {
      await this.#database.close();
      throw levelError(error, this.#options.directory);
    }
  }

  /** The database as it is, also while it is being reopened. */
  get current(): D {
    return this.#database;
  }

  /** Why the database is being reopened; undefined while it is not. */
  get outage(): KithError | undefined {
    return this.#outage?.cause;
  }

  get isClosed(): boolean {
    return this.#closing.signal.aborted;
  }

  get available(): boolean {
    return this.#outage === undefined && !this.isClosed;
  }

  /** `listener` is told each time that the database becomes available, or is no longer. Gives what takes it off. */
  onAvailability(listener: (available: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves when the database is not being reopened, or was closed. */
  async settled(): Promise<void> {
    while (this.#outage !== undefined && !this.isClosed) await this.#outage.over.promise;
  }

  /** After a write that failed with `error`: reopens the database, and gives what went wrong. */
  failed(error: unknown): KithError {
    const cause = levelError(error, this.#options.directory);
    if (this.available) {
      const over = deferred<void>();
      this.#outage = { cause, over };
      this.#options.onWarning(cause);
      this.#announce();
      this.#reopening = this.#reopen(over);
    }
    return cause;
  }

  /** From now on the database is not available. `close` follows, once nothing uses it. */
  beginClose(reason: KithError): void {
    if (this.isClosed) return;
    const wasAvailable = this.available;
    this.#closing.abort(reason);
    this.#outage?.over.resolve();
    if (wasAvailable) this.#announce();
  }

  async close(): Promise<void> {
    await this.#reopening;
    await this.#database.close();
  }

  async #reopen(over: Deferred<void>): Promise<void> {
    const { directory, clock, random } = this.#options;
    const onWarning = (error: KithError): void => this.#options.onWarning(error);
    const { signal } = this.#closing;
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        await this.#database.close();
        this.#database = await this.#options.open(directory);
        await this.#options.load(this.#database);
        break;
      } catch (error) {
        const cause = levelError(error, directory);
        this.#outage = { cause, over };
        onWarning(cause);
        await sleep(clock, backoffMs(attempt, reopenBackoff, random), signal).catch((stopped: unknown) => {
          // The only rejection is our own closing, which the loop's condition sees.
          onWarning(toKithError(stopped));
        });
      }
    }
    this.#outage = undefined;
    over.resolve();
    if (!this.isClosed) this.#announce();
  }

  #announce(): void {
    const { available } = this;
    for (const listener of this.#listeners) listener(available);
  }
}
