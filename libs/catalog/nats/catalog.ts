import { headers, type MsgHdrs } from "@nats-io/transport-node";
import { KithError, type Runtime, sleep, toKithError } from "../../base/index.js";
import { apiCode, apiErrorCode, type NatsLink, NatsOutage } from "../../nats/index.js";
import { alreadyExists, checkKey, checkPrefix, checkWrite, revisionMismatch } from "../limits.js";
import type { Catalog, CatalogEntry, CatalogWatch } from "../port.js";
import { type Bucket, catalogError, isDeletion, lastMessage, markerTtlMs, openBucket, rollupHeader } from "./bucket.js";
import { SnapshotReader } from "./snapshot.js";
import { NatsWatch, type WatchHandlers } from "./watch.js";

export interface NatsCatalogOptions extends Runtime {
  /** The process's connection; it stays open when the catalog is closed. */
  nats: NatsLink;
  /** Separates clusters that share one NATS: 1 to 32 characters of A-Z a-z 0-9 and -. */
  cluster: string;
  /** Servers that hold the catalog: 1 (default), 3 or 5. */
  replicas?: number;
  /** It is another cluster's: it must be there, and is taken as it is. */
  isForeign?: boolean;
  /** Watches read all anew at least this often, at random moments of the interval's second half; default 60 000. */
  rereadMs?: number;
  /** Told of exceptions in watch handlers and of refusals that a watch waits out. */
  onWarning?: (error: KithError) => void;
}

const defaultRereadMs = 60_000;
const attemptTimeoutMs = 2_000;
/** All attempts of one call; a connection that is down fails it at once. */
const callTimeoutMs = 4_000;
const retryDelayMs = 50;
/** A key that is deleted and made anew all the time can defeat a creation so often. */
const createAttempts = 8;

interface Last {
  revision: number;
  deleted: boolean;
  value: string;
  messageId: string;
}

/** The catalog in one NATS KV bucket; a key's revision is its sequence in the bucket's stream. */
export class NatsCatalog implements Catalog {
  readonly #link: NatsLink;
  readonly #bucket: Bucket;
  readonly #runtime: Runtime;
  readonly #rereadMs: number;
  readonly #onWarning: (error: KithError) => void;
  readonly #watches = new Set<NatsWatch>();
  readonly #listeners = new Set<(available: boolean) => void>();
  readonly #unsubscribers = new Set<() => void>();
  #closed = false;

  private constructor(options: NatsCatalogOptions, bucket: Bucket) {
    this.#link = options.nats;
    this.#bucket = bucket;
    this.#runtime = options;
    this.#rereadMs = options.rereadMs ?? defaultRereadMs;
    this.#onWarning = options.onWarning ?? ((): void => undefined);
  }

  static async open(options: NatsCatalogOptions): Promise<NatsCatalog> {
    const replicas = options.replicas ?? 1;
    if (![1, 3, 5].includes(replicas)) {
      throw new KithError("INVALID_CONFIG", `the catalog's replicas are ${replicas}; 1, 3 or 5 are possible`);
    }
    return new NatsCatalog(
      options,
      await openBucket(options.nats, options.cluster, options.isForeign === true ? "as it is" : replicas),
    );
  }

  get available(): boolean {
    return this.#link.available && !this.#closed;
  }

  onAvailability(listener: (available: boolean) => void): () => void {
    this.#listeners.add(listener);
    const unsubscribe = this.#link.onAvailability(listener);
    this.#unsubscribers.add(unsubscribe);
    return () => {
      this.#listeners.delete(listener);
      this.#unsubscribers.delete(unsubscribe);
      unsubscribe();
    };
  }

  async get(key: string): Promise<CatalogEntry | undefined> {
    checkKey(key);
    return this.#call(`reading catalog key ${key} failed`, async () => {
      const last = await this.#last(key);
      return last === undefined || last.deleted ? undefined : { key, value: last.value, revision: last.revision };
    });
  }

  async list(prefix: string): Promise<CatalogEntry[]> {
    checkPrefix(prefix);
    return this.#call(`listing catalog keys under ${JSON.stringify(prefix)} failed`, () =>
      this.#untilAnswered(() => this.#readAll(prefix)),
    );
  }

  async create(key: string, value: string, options: { ttlMs?: number } = {}): Promise<CatalogEntry> {
    checkWrite(key, value, options.ttlMs);
    return this.#call(`creating catalog key ${key} failed`, async () => {
      let expected = 0;
      for (let attempt = 0; attempt < createAttempts; attempt++) {
        const revision = await this.#publish(key, value, expected, putHeaders(options.ttlMs));
        if (revision !== undefined) return { key, value, revision };
        const last = await this.#last(key);
        if (last !== undefined && !last.deleted) throw alreadyExists(key);
        expected = last?.revision ?? 0;
      }
      throw alreadyExists(key);
    });
  }

  async update(key: string, value: string, revision: number, options: { ttlMs?: number } = {}): Promise<CatalogEntry> {
    checkWrite(key, value, options.ttlMs);
    return this.#call(`updating catalog key ${key} failed`, async () => {
      // An expected sequence of 0 would mean "does not exist".
      const changed = isRevision(revision)
        ? await this.#publish(key, value, revision, putHeaders(options.ttlMs))
        : undefined;
      if (changed !== undefined) return { key, value, revision: changed };
      const last = await this.#last(key);
      throw revisionMismatch(key, revision, last === undefined || last.deleted ? undefined : last.revision);
    });
  }

  async delete(key: string, revision: number): Promise<void> {
    checkKey(key);
    await this.#call(`deleting catalog key ${key} failed`, async () => {
      const mark = headers();
      mark.set("KV-Operation", "PURGE");
      mark.set(rollupHeader.name, rollupHeader.value);
      mark.set("Nats-TTL", `${Math.round(markerTtlMs / 1_000)}s`);
      if (isRevision(revision) && (await this.#publish(key, "", revision, mark)) !== undefined) return;
      const last = await this.#last(key);
      if (last !== undefined && !last.deleted) throw revisionMismatch(key, revision, last.revision);
    });
  }

  watch(prefix: string, handlers: WatchHandlers): CatalogWatch {
    checkPrefix(prefix);
    this.#refuseWhenClosed();
    const watch = new NatsWatch(
      this.#link,
      this.#bucket,
      prefix,
      handlers,
      this.#rereadMs,
      this.#runtime,
      (error) => this.#onWarning(toKithError(error)),
      () => this.#watches.delete(watch),
    );
    this.#watches.add(watch);
    return watch;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    const wasAvailable = this.available;
    this.#closed = true;
    for (const unsubscribe of this.#unsubscribers) unsubscribe();
    this.#unsubscribers.clear();
    if (wasAvailable) for (const listener of this.#listeners) listener(false);
    await Promise.all([...this.#watches].map((watch) => watch.close()));
  }

  #refuseWhenClosed(): void {
    if (this.#closed) throw new KithError("SHUTTING_DOWN", "the catalog is closed");
  }

  async #call<T>(what: string, work: () => Promise<T>): Promise<T> {
    this.#refuseWhenClosed();
    try {
      return await work();
    } catch (error) {
      throw catalogError(error, what);
    }
  }

  /** Tries again while the server is there but gives no answer; gives up at once while it is away. */
  async #untilAnswered<T>(work: () => Promise<T>): Promise<T> {
    const { clock } = this.#runtime;
    const endMs = clock.monotonicMs() + callTimeoutMs;
    for (;;) {
      try {
        return await this.#link.request(work);
      } catch (error) {
        if (!(error instanceof NatsOutage) || error.reason === "closed" || clock.monotonicMs() > endMs) throw error;
        if (error.reason !== "timeout") this.#link.suspect();
        if (!this.#link.available) throw error;
        await sleep(clock, retryDelayMs);
      }
    }
  }

  /** Writes one message if the key's last revision is the expected one; gives the new one, undefined where it was not. */
  async #publish(key: string, value: string, expected: number, fields: MsgHdrs): Promise<number | undefined> {
    const msgID = this.#runtime.random.uuid();
    let attempts = 0;
    try {
      const ack = await this.#untilAnswered(() => {
        attempts++;
        return this.#link.jetstream.publish(this.#bucket.subjectPrefix + key, value, {
          msgID,
          headers: fields,
          expect: { streamName: this.#bucket.stream, lastSubjectSequence: expected },
          timeout: attemptTimeoutMs,
        });
      });
      return ack.seq;
    } catch (error) {
      const code = apiErrorCode(error);
      if (code !== apiCode.wrongLastSequence && code !== apiCode.wrongLastSequenceUnknown) throw error;
      return attempts === 1 ? undefined : this.#ownRevision(key, msgID);
    }
  }

  /**
   * A write was tried again because its answer was lost, and then refused: perhaps by its own first attempt, since the
   * server compares revisions before it looks at message ids. The last message says whose it is.
   */
  async #ownRevision(key: string, msgID: string): Promise<number> {
    const last = await this.#last(key);
    if (last?.messageId === msgID) return last.revision;
    throw new KithError(
      "CATALOG_UNAVAILABLE",
      `the outcome of a write of catalog key ${key} is unknown; read it again`,
      {
        details: { key },
        retryAfterMs: 0,
      },
    );
  }

  async #last(key: string): Promise<Last | undefined> {
    const message = await this.#untilAnswered(() => lastMessage(this.#link, this.#bucket, key));
    if (message === undefined) return undefined;
    return {
      revision: message.seq,
      deleted: isDeletion(message.header),
      value: message.string(),
      messageId: message.header?.get("Nats-Msg-Id") ?? "",
    };
  }

  async #readAll(prefix: string): Promise<CatalogEntry[]> {
    const reader = await SnapshotReader.start(this.#link, this.#bucket, prefix);
    const entries: CatalogEntry[] = [];
    try {
      for (;;) {
        const step = await reader.next();
        if (step === "complete") break;
        if (step === undefined) throw new NatsOutage("disconnected", "the server ended the reading");
        for (const { subject, data, headers: fields, sequence } of step) {
          if (isDeletion(fields)) continue;
          const key = subject.slice(this.#bucket.subjectPrefix.length);
          entries.push({ key, value: Buffer.from(data).toString("utf8"), revision: sequence });
        }
      }
    } finally {
      reader.close();
    }
    return entries.sort((a, b) => (a.key < b.key ? -1 : 1));
  }
}

function isRevision(revision: number): boolean {
  return Number.isSafeInteger(revision) && revision > 0;
}

/** NATS counts whole seconds; a key lives at least as long as it was given. */
function putHeaders(ttlMs: number | undefined): MsgHdrs {
  const fields = headers();
  if (ttlMs !== undefined) fields.set("Nats-TTL", `${Math.ceil(ttlMs / 1_000)}s`);
  return fields;
}
