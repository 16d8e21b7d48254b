import { type Deferred, deferred } from "../../base/index.js";
import type { LogEntry, LogSubscription, SubscribeOptions } from "../port.js";
import type { LogDatabase } from "./database.js";
import type { Reader, ShardLog } from "./shard-log.js";

/** Where a subscription reads from; the database changes when it had to be reopened after a write error. */
export interface ReadSource {
  /** Resolves with the open database, waiting while it is being reopened; rejects when the log is closed. */
  database(): Promise<LogDatabase>;
  /** Whether this read failed only because the database was being closed or reopened. */
  isInterruption(error: unknown): boolean;
}

/** One reader's way through one log: recent entries from memory, older ones from LevelDB, then waiting for a wake-up. */
export class EmbeddedSubscription implements LogSubscription, Reader {
  readonly #log: ShardLog;
  readonly #source: ReadSource;
  readonly #options: SubscribeOptions;
  readonly #ended: Promise<void>;
  #cursor: number;
  #closed = false;
  #wakeup: Deferred<void> | undefined;

  constructor(log: ShardLog, source: ReadSource, options: SubscribeOptions, onEnd: () => void) {
    this.#log = log;
    this.#source = source;
    this.#options = options;
    this.#cursor = options.fromSequence;
    log.readers.add(this);
    this.#ended = this.#run().finally(onEnd);
  }

  get cursor(): number {
    return this.#cursor;
  }

  wake(): void {
    this.#wakeup?.resolve();
    this.#wakeup = undefined;
  }

  close(): Promise<void> {
    this.#closed = true;
    this.wake();
    return this.#ended;
  }

  async #run(): Promise<void> {
    // Handlers are never called before subscribe() has returned.
    await Promise.resolve();
    try {
      if (await this.#isAnother()) return;
      while (!this.#closed) {
        if (this.#faulty()) return;
        if (this.#cursor > this.#log.lastSequence) {
          this.#wakeup = deferred<void>();
          await this.#wakeup.promise;
          continue;
        }
        const entries = this.#log.recent(this.#cursor) ?? (await this.#read());
        if (this.#closed || entries.length === 0) continue;
        await this.#options.onEntries(entries);
        this.#cursor += entries.length;
        this.#log.readerMoved();
      }
    } catch (error) {
      if (!this.#closed) this.#options.onError(error);
    } finally {
      this.#closed = true;
      this.#log.readers.delete(this);
      this.#log.readerMoved();
    }
  }

  async #read(): Promise<LogEntry[]> {
    const database = await this.#source.database();
    if (this.#closed || this.#log.removed) return [];
    try {
      return await this.#log.read(database, this.#cursor);
    } catch (error) {
      if (this.#source.isInterruption(error)) return [];
      throw error;
    }
  }

  /** Reports where the log holds another record than the reader in the place of the last one. */
  async #isAnother(): Promise<boolean> {
    const { lastChecksum } = this.#options;
    const lastRead = this.#cursor - 1;
    if (lastChecksum === undefined || this.#log.removed) return false;
    const checksum = await this.#log.checksum(await this.#source.database(), lastRead);
    if (checksum === undefined || checksum === lastChecksum || this.#closed) return false;
    const { lastSequence, incarnation } = this.#log.state();
    this.#options.onFault({ kind: "rewound", lastRead, lastSequence, incarnation });
    return true;
  }

  /** Reports why the subscription cannot go on, if it cannot. */
  #faulty(): boolean {
    const { firstSequence, lastSequence, incarnation } = this.#log.state();
    const lastRead = this.#cursor - 1;
    if (this.#log.removed) {
      this.#options.onError(this.#log.notFound());
      return true;
    }
    const other = this.#options.incarnation !== undefined && this.#options.incarnation !== incarnation;
    if (other || lastRead > lastSequence) {
      this.#options.onFault({ kind: "rewound", lastRead, lastSequence, incarnation });
      return true;
    }
    if (this.#cursor < firstSequence) {
      this.#options.onFault({ kind: "gap", expected: this.#cursor, found: firstSequence });
      return true;
    }
    return false;
  }
}
