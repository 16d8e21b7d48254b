import { backoffMs, KithError, type Runtime, sleep } from "../../base/index.js";
import { apiErrorCode, type NatsLink, NatsOutage, type StreamMessage } from "../../nats/index.js";
import type { CatalogChange, CatalogEntry, CatalogWatch } from "../port.js";
import { type Bucket, isDeletion, lastMessage } from "./bucket.js";
import { SnapshotReader } from "./snapshot.js";

export interface WatchHandlers {
  onChange(change: CatalogChange): void;
  onReady?(): void;
}

const retryBackoff = { initialMs: 20, maxMs: 1_000 };
/** Follows the keys under a prefix. After every interruption all is read anew and compared with what was told already. */
export class NatsWatch implements CatalogWatch {
  readonly #link: NatsLink;
  readonly #bucket: Bucket;
  readonly #prefix: string;
  readonly #handlers: WatchHandlers;
  readonly #rereadMs: number;
  readonly #runtime: Runtime;
  readonly #onHandlerError: (error: unknown) => void;
  readonly #closing = new AbortController();
  readonly #ended: Promise<void>;
  /** The revisions that the watcher was told. */
  readonly #known = new Map<string, number>();
  #ready = false;
  #reader: SnapshotReader | undefined;

  constructor(
    link: NatsLink,
    bucket: Bucket,
    prefix: string,
    handlers: WatchHandlers,
    rereadMs: number,
    runtime: Runtime,
    onError: (error: unknown) => void,
    onEnd: () => void,
  ) {
    this.#link = link;
    this.#bucket = bucket;
    this.#prefix = prefix;
    this.#handlers = handlers;
    this.#rereadMs = rereadMs;
    this.#runtime = runtime;
    this.#onHandlerError = onError;
    this.#ended = this.#run().finally(onEnd);
  }

  async close(): Promise<void> {
    this.#closing.abort(new KithError("SHUTTING_DOWN", "the watch is closed"));
    this.#reader?.close();
    await this.#ended;
  }

  get #closed(): boolean {
    return this.#closing.signal.aborted;
  }

  async #run(): Promise<void> {
    for (let attempt = 0; !this.#closed && !this.#link.closed; attempt++) {
      try {
        await this.#link.whenAvailable(this.#closing.signal);
        if (await this.#follow()) attempt = 0;
      } catch (error) {
        if (this.#closed || this.#link.closed) return;
        if (!(error instanceof NatsOutage)) this.#onHandlerError(error);
        if (!(error instanceof NatsOutage) && apiErrorCode(error) === undefined) attempt = Math.max(attempt, 5);
      }
      const { clock, random } = this.#runtime;
      const pauseMs = backoffMs(attempt, retryBackoff, random);
      await sleep(clock, pauseMs, this.#closing.signal).catch(() => this.#reader?.close());
    }
  }

  /** Reads all and then the changes, until the server's consumer ends or it is time to read all again. */
  async #follow(): Promise<boolean> {
    const reader = await SnapshotReader.start(this.#link, this.#bucket, this.#prefix);
    this.#reader = reader;
    // In case a change was missed in spite of everything.
    const { clock, random } = this.#runtime;
    const reread = clock.setTimer(() => reader.close(), this.#rereadMs * (0.5 + 0.5 * random.float())).unref();
    const seen = new Map<string, number>();
    let complete = false;
    try {
      for (;;) {
        const step = await reader.next();
        if (step === undefined || this.#closed) return complete;
        if (step === "complete") {
          complete = true;
          await this.#compare(seen, reader.lastSequence);
          continue;
        }
        for (const message of step) {
          if (this.#closed) return complete;
          const key = message.subject.slice(this.#bucket.subjectPrefix.length);
          if (!complete) seen.set(key, message.sequence);
          this.#take(key, message);
        }
      }
    } finally {
      reread.close();
      reader.close();
    }
  }

  #take(key: string, { sequence, data, headers }: StreamMessage): void {
    const known = this.#known.get(key);
    if (known !== undefined && sequence <= known) return;
    if (!isDeletion(headers)) {
      this.#known.set(key, sequence);
      this.#tell({ kind: "put", entry: entryOf(key, data, sequence) });
    } else if (known !== undefined) {
      this.#known.delete(key);
      this.#tell({ kind: "delete", key, revision: sequence });
    }
  }

  /**
   * What was told is compared with what was read. Keys that are no longer there were deleted meanwhile, and their marks are gone too.
   * Or the bucket lost them, and was made anew empty: whoever acts on a deletion must know it from more than this. A key that
   * changed while all was read is still there: it comes at its new place, after all that was there before. A key of a
   * lower revision was read from a server that lags behind, or the bucket was put back from a backup: the leader knows.
   */
  async #compare(seen: ReadonlyMap<string, number>, lastSequence: number): Promise<void> {
    for (const [key, known] of [...this.#known]) {
      if (seen.get(key) === known || this.#closed) continue;
      const last = await this.#link.request(() => lastMessage(this.#link, this.#bucket, key));
      if (this.#closed || (last !== undefined && last.seq >= known)) continue;
      if (last === undefined || isDeletion(last.header)) {
        this.#known.delete(key);
        // A bucket that was made anew counts from 1 again.
        this.#tell({ kind: "delete", key, revision: Math.max(known, lastSequence) });
      } else {
        this.#known.set(key, last.seq);
        this.#tell({ kind: "put", entry: entryOf(key, last.data, last.seq), reset: true });
      }
    }
    if (this.#ready || this.#closed) return;
    this.#ready = true;
    this.#guard(() => this.#handlers.onReady?.());
  }

  #tell(change: CatalogChange): void {
    this.#guard(() => this.#handlers.onChange(change));
  }

  #guard(call: () => void): void {
    try {
      call();
    } catch (error) {
      this.#onHandlerError(error);
    }
  }
}

function entryOf(key: string, data: Uint8Array, revision: number): CatalogEntry {
  return { key, value: Buffer.from(data).toString("utf8"), revision };
}
