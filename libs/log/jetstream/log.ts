import { KithError, type Runtime } from "../../base/index.js";
import { apiErrorCode, checkCluster, type NatsLink } from "../../nats/index.js";
import { checkAppend, checkSequence, logKey, logNotFound, notNext } from "../limits.js";
import type {
  Append,
  AppendOptions,
  Continuation,
  CreateOptions,
  Log,
  LogState,
  LogSubscription,
  SubscribeOptions,
} from "../port.js";
import type { ShardId } from "../../model/index.js";
import { Appender, isStreamNotFound, wrongLast } from "./append.js";
import {
  checksumOf,
  continuing,
  dataOf,
  logError,
  naming,
  streamConfig,
  type StreamNaming,
  toState,
} from "./streams.js";
import { SealChecks, sealOf } from "./seals.js";
import { JetStreamSubscription } from "./subscription.js";

export interface JetStreamLogOptions extends Runtime {
  /** The process's connection; it stays open when the log is closed. */
  nats: NatsLink;
  /** Separates clusters that share one NATS: 1 to 32 characters of A-Z a-z 0-9 and -. */
  cluster: string;
  /** Servers that hold each log: 1 (default), 3 or 5. */
  replicas?: number;
}

/** Message id of a log's only seal. */
const sealId = "seal";
const sealTimeoutMs = 5_000;

/** One JetStream stream per log. */
export class JetStreamLog implements Log {
  readonly #link: NatsLink;
  readonly #cluster: string;
  readonly #replicas: number;
  readonly #runtime: Runtime;
  readonly #appender: Appender;
  readonly #seals: SealChecks;
  readonly #subscriptions = new Set<JetStreamSubscription>();
  readonly #unsubscribers = new Set<() => void>();
  readonly #listeners = new Set<(available: boolean) => void>();
  #closed = false;

  constructor(options: JetStreamLogOptions) {
    checkCluster(options.cluster);
    const replicas = options.replicas ?? 1;
    if (![1, 3, 5].includes(replicas)) {
      throw new KithError("INVALID_CONFIG", `the log's replicas are ${replicas}; 1, 3 or 5 are possible`);
    }
    this.#link = options.nats;
    this.#cluster = options.cluster;
    this.#replicas = replicas;
    this.#runtime = options;
    this.#appender = new Appender(options.nats, options.clock);
    this.#seals = new SealChecks(options.nats, options.clock);
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

  async create(name: ShardId, options: CreateOptions = {}): Promise<LogState> {
    const { key, stream } = this.#open(name);
    checkSequence(options.afterSequence ?? 0, "afterSequence");
    const config = streamConfig(stream, this.#replicas, this.#runtime.random.uuid(), options);
    return this.#call(`creating log ${key} failed`, async () => {
      // The server does one request after the other, so that each waits for all creations before it: the one that nearly all need comes first.
      try {
        return toState(await this.#link.request(() => this.#link.manager.streams.add(config)));
      } catch (error) {
        if (apiErrorCode(error) === undefined) throw error;
        // Mostly it is there, and only its random mark differs. Limits are looked at before that.
        try {
          return toState(await this.#link.request(() => this.#link.manager.streams.info(stream.stream)));
        } catch (other) {
          throw isStreamNotFound(other) ? error : other;
        }
      }
    });
  }

  async remove(name: ShardId): Promise<void> {
    const { key, stream } = this.#open(name);
    await this.#call(`removing log ${key} failed`, async () => {
      try {
        await this.#link.request(() => this.#link.manager.streams.delete(stream.stream));
      } catch (error) {
        if (!isStreamNotFound(error)) throw error;
      }
    });
  }

  async state(name: ShardId): Promise<LogState> {
    const { key, stream } = this.#open(name);
    return this.#state(key, stream);
  }

  async checksum(name: ShardId, sequence: number): Promise<number | undefined> {
    const { key, stream } = this.#open(name);
    return this.#call(`reading log ${key} failed`, async () => {
      try {
        return await checksumOf(this.#link, stream, sequence);
      } catch (error) {
        if (isStreamNotFound(error)) throw logNotFound(key);
        throw error;
      }
    });
  }

  async read(name: ShardId, sequence: number): Promise<Uint8Array | undefined> {
    const { key, stream } = this.#open(name);
    return this.#call(`reading log ${key} failed`, async () => {
      try {
        return await dataOf(this.#link, stream, sequence);
      } catch (error) {
        if (isStreamNotFound(error)) throw logNotFound(key);
        throw error;
      }
    });
  }

  async append(name: ShardId, data: Uint8Array, options: AppendOptions): Promise<Append> {
    const { key, stream } = this.#open(name);
    checkAppend(data, options);
    const appended = await this.#appender.append(key, stream, data, options);
    if (options.fenced === true) {
      await this.#call(`appending to log ${key} failed`, () => this.#seals.refuse(key, stream, appended.sequence));
    }
    return appended;
  }

  async seal(
    name: ShardId,
    data: Uint8Array,
    { expectedSequence }: Pick<AppendOptions, "expectedSequence"> = {},
  ): Promise<number> {
    const { key, stream } = this.#open(name);
    checkAppend(data, { messageId: sealId });
    return this.#call(`sealing log ${key} failed`, async () => {
      try {
        const { config } = await this.#link.request(() => this.#link.manager.streams.info(stream.stream));
        const known = await sealOf(this.#link, stream);
        if (known !== undefined) return known;
        const subjects = [stream.subject, stream.sealSubject];
        // Streams of earlier releases have no subject for it.
        if (!config.subjects?.includes(stream.sealSubject)) {
          await this.#link.request(() => this.#link.manager.streams.update(stream.stream, { subjects }));
        }
        return await this.#publishSeal(key, stream, data, expectedSequence);
      } catch (error) {
        if (isStreamNotFound(error)) throw logNotFound(key);
        throw error;
      }
    });
  }

  /** The server takes one message with the subject of seals. */
  async #publishSeal(
    key: string,
    stream: StreamNaming,
    data: Uint8Array,
    expectedSequence: number | undefined,
  ): Promise<number> {
    try {
      const { seq } = await this.#link.request(() =>
        this.#link.jetstream.publish(stream.sealSubject, data, {
          msgID: sealId,
          expect: {
            streamName: stream.stream,
            lastSubjectSequence: 0,
            ...(expectedSequence !== undefined && { lastSequence: expectedSequence - 1 }),
          },
          timeout: sealTimeoutMs,
        }),
      );
      return seq;
    } catch (error) {
      if (!wrongLast.has(apiErrorCode(error) ?? 0)) throw error;
      const known = await sealOf(this.#link, stream);
      if (known !== undefined) return known;
      throw expectedSequence === undefined ? error : notNext(key, expectedSequence, error);
    }
  }

  async sealedAt(name: ShardId): Promise<number | undefined> {
    const { key, stream } = this.#open(name);
    return this.#call(`reading log ${key} failed`, async () => {
      try {
        return await sealOf(this.#link, stream);
      } catch (error) {
        if (isStreamNotFound(error)) throw logNotFound(key);
        throw error;
      }
    });
  }

  subscribe(name: ShardId, options: SubscribeOptions): LogSubscription {
    const { key, stream } = this.#open(name);
    checkSequence(options.fromSequence, "fromSequence");
    const subscription = new JetStreamSubscription(this.#link, key, stream, options, this.#runtime, () =>
      this.#subscriptions.delete(subscription),
    );
    this.#subscriptions.add(subscription);
    return subscription;
  }

  async trim(name: ShardId, throughSequence: number): Promise<void> {
    const { key, stream } = this.#open(name);
    checkSequence(throughSequence, "throughSequence");
    const { firstSequence, lastSequence } = await this.#state(key, stream);
    const seq = Math.min(throughSequence, lastSequence) + 1;
    if (seq <= firstSequence) return;
    await this.#call(`trimming log ${key} failed`, () =>
      this.#link.request(() => this.#link.manager.streams.purge(stream.stream, { seq })),
    );
  }

  async mend(name: ShardId, continuation: Continuation): Promise<LogState> {
    const { key, stream } = this.#open(name);
    const { first } = continuation;
    checkSequence(first, "first");
    const { streams } = this.#link.manager;
    return this.#call(`mending log ${key} failed`, async () => {
      const found = await this.#link
        .request(() => streams.info(stream.stream))
        .catch((error: unknown) => {
          if (isStreamNotFound(error)) return undefined;
          throw error;
        });
      if (found === undefined) {
        const { metadata, ...config } = streamConfig(stream, this.#replicas, this.#runtime.random.uuid(), {
          afterSequence: first - 1,
        });
        const made = { ...config, metadata: continuing(metadata, continuation) };
        return toState(await this.#link.request(() => streams.add(made)));
      }
      const { metadata } = found.config;
      await this.#link.request(() => streams.update(stream.stream, { metadata: continuing(metadata, continuation) }));
      // Where that is behind the end, the server goes on counting there.
      if (found.state.first_seq < first) {
        await this.#link.request(() => streams.purge(stream.stream, { seq: first }));
      }
      return toState(await this.#link.request(() => streams.info(stream.stream)));
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    const wasAvailable = this.available;
    this.#closed = true;
    for (const unsubscribe of this.#unsubscribers) unsubscribe();
    this.#unsubscribers.clear();
    this.#appender.close();
    if (wasAvailable) for (const listener of this.#listeners) listener(false);
    await Promise.all([...this.#subscriptions].map((subscription) => subscription.close()));
  }

  #open(name: ShardId): { key: string; stream: StreamNaming } {
    const key = logKey(name);
    if (this.#closed) throw new KithError("SHUTTING_DOWN", "the log is closed");
    return { key, stream: naming(this.#cluster, key) };
  }

  #state(key: string, stream: StreamNaming): Promise<LogState> {
    return this.#call(`reading the state of log ${key} failed`, async () => {
      try {
        return toState(await this.#link.request(() => this.#link.manager.streams.info(stream.stream)));
      } catch (error) {
        if (isStreamNotFound(error)) throw logNotFound(key);
        throw error;
      }
    });
  }

  async #call<T>(what: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw logError(error, what);
    }
  }
}
