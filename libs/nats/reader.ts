import { AckPolicy, type ConsumerConfig } from "@nats-io/jetstream";
import { createInbox, type Msg, type MsgHdrs, nanos, type Subscription } from "@nats-io/transport-node";
import { type Deferred, deferred, type Timer } from "../base/index.js";
import { classify } from "./failure.js";
import type { NatsLink } from "./connection.js";

/** A message of a stream. */
export interface StreamMessage {
  sequence: number;
  subject: string;
  data: Uint8Array;
  headers: MsgHdrs | undefined;
  /** Messages that match and come after this one, as the server knew when it sent it. */
  pending: number;
}

export interface ReaderOptions {
  /** What to deliver, and from where. */
  consumer: Partial<ConsumerConfig>;
  /** Most messages and bytes asked for at once; bounds what waits in memory. */
  batchMessages: number;
  batchBytes: number;
}

const pullExpiresMs = 30_000;
const heartbeatMs = 2_000;
/** Silence for so long means that the consumer is gone. */
const silenceMs = 5_000;
/** The server forgets a consumer that its reader left behind after this time. */
const inactiveMs = 60_000;

/**
 * One short-lived consumer of a stream, read by pulling, so that a slow reader is never sent more than it asked for.
 * It ends when the connection breaks, the server drops the consumer, or it is closed; whoever reads then looks at the
 * stream's state and starts another one. It never skips: the caller checks the sequences.
 */
export class StreamReader {
  /** Messages to come at first, as known when the consumer was made. */
  readonly pendingAtStart: number;
  readonly #link: NatsLink;
  readonly #stream: string;
  readonly #name: string;
  readonly #options: ReaderOptions;
  readonly #subscription: Subscription;
  readonly #inbox = createInbox();
  readonly #watchdog: Timer;
  readonly #unsubscribe: () => void;
  #buffer: StreamMessage[] = [];
  /** Messages still to come of the pull that is under way; 0 when there is none. */
  #left = 0;
  #received = 0;
  #pulls = 0;
  /** Where the server sends what the last pull brings. */
  #reply = "";
  #idle = false;
  #ended = false;
  #waiting: Deferred<void> | undefined;
  #heardAtMs: number;

  private constructor(
    link: NatsLink,
    stream: string,
    options: ReaderOptions,
    consumer: { name: string; num_pending: number },
  ) {
    this.#link = link;
    this.#stream = stream;
    this.#name = consumer.name;
    this.#options = options;
    this.pendingAtStart = consumer.num_pending;
    this.#subscription = link.connection.subscribe(`${this.#inbox}.*`, {
      callback: (error, message) => {
        if (error === null) this.#onMessage(message);
        else this.#end();
      },
    });
    this.#unsubscribe = link.onAvailability((available) => {
      if (!available) this.#end();
    });
    const { clock } = link;
    this.#heardAtMs = clock.monotonicMs();
    const look = (): void => {
      if (this.#left > 0 && clock.monotonicMs() - this.#heardAtMs > silenceMs) this.#end();
    };
    this.#watchdog = clock.every(look, heartbeatMs).unref();
    this.#pull();
  }

  /** Rejects with a NatsOutage or the API's error. */
  static async start(link: NatsLink, stream: string, options: ReaderOptions): Promise<StreamReader> {
    const config: Partial<ConsumerConfig> = {
      ...options.consumer,
      ack_policy: AckPolicy.None,
      mem_storage: true,
      num_replicas: 1,
      inactive_threshold: nanos(inactiveMs),
    };
    const info = await link.request(() => link.manager.consumers.add(stream, config));
    return new StreamReader(link, stream, options, info);
  }

  /**
   * The messages that have come since the last call; waits for one. An empty list says that nothing has come for a while, mostly because
   * there is no more (see `isDrained`); undefined that the reader has ended.
   */
  async next(): Promise<StreamMessage[] | undefined> {
    while (this.#buffer.length === 0) {
      if (this.#ended) return undefined;
      if (this.#idle) {
        this.#idle = false;
        return [];
      }
      this.#waiting = deferred<void>();
      await this.#waiting.promise;
    }
    const messages = this.#buffer;
    this.#buffer = [];
    this.#idle = false;
    if (this.#left === 0 && !this.#ended) this.#pull();
    return messages;
  }

  /** Asks the server whether everything that there is now has come, and `next` has given it. Rejects with a NatsOutage or the API's error. */
  async isDrained(): Promise<boolean> {
    const info = await this.#link.request(() => this.#link.manager.consumers.info(this.#stream, this.#name));
    return this.#buffer.length === 0 && info.num_pending === 0 && info.delivered.consumer_seq <= this.#received;
  }

  /** Ends it and tells the server; what is in memory is dropped. */
  close(): void {
    const wasAlive = !this.#ended;
    this.#end();
    this.#buffer = [];
    if (!wasAlive || !this.#link.available) return;
    this.#link
      .request(() => this.#link.manager.consumers.delete(this.#stream, this.#name))
      .catch((error: unknown) => classify(error)); // The server forgets it by itself after a while.
  }

  #wake(): void {
    this.#waiting?.resolve();
    this.#waiting = undefined;
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#watchdog.close();
    this.#unsubscribe();
    if (!this.#link.connection.isClosed()) this.#subscription.unsubscribe();
    this.#wake();
  }

  #pull(): void {
    const request = {
      batch: this.#options.batchMessages,
      max_bytes: this.#options.batchBytes,
      expires: nanos(pullExpiresMs),
      idle_heartbeat: nanos(heartbeatMs),
    };
    const subject = `$JS.API.CONSUMER.MSG.NEXT.${this.#stream}.${this.#name}`;
    this.#left = this.#options.batchMessages;
    this.#reply = `${this.#inbox}.${++this.#pulls}`;
    this.#heardAtMs = this.#link.clock.monotonicMs();
    try {
      this.#link.connection.publish(subject, JSON.stringify(request), { reply: this.#reply });
    } catch (error) {
      // Publishing throws only on a closed connection.
      if (this.#link.connection.isClosed()) this.#end();
      else throw error;
    }
  }

  #onMessage(message: Msg): void {
    if (this.#ended) return;
    this.#heardAtMs = this.#link.clock.monotonicMs();
    const status = message.headers?.code ?? 0;
    if (status !== 0) {
      // The end of a pull may be told when its last message has already led to the next pull.
      if (message.subject === this.#reply) this.#onStatus(status, message.headers?.description ?? "");
      return;
    }
    this.#left--;
    this.#received++;
    this.#buffer.push(toStreamMessage(message));
    this.#wake();
  }

  #onStatus(status: number, description: string): void {
    if (status === 100) {
      this.#idle = true;
      this.#wake();
      return;
    }
    const pullIsOver =
      status === 404 || status === 408 || (status === 409 && /batch completed|exceeds maxbytes/i.test(description));
    if (!pullIsOver) {
      this.#end();
      return;
    }
    this.#left = 0;
    if (this.#buffer.length === 0) this.#pull();
  }
}

/** Sequence and pending count stand in the reply subject: $JS.ACK.…, 9 tokens or, with domain and account, more. */
function toStreamMessage(message: Msg): StreamMessage {
  const tokens = (message.reply ?? "").split(".");
  const start = tokens.length === 9 ? 4 : 6;
  return {
    sequence: Number(tokens[start + 1]),
    subject: message.subject,
    data: message.data,
    headers: message.headers,
    pending: Number(tokens[start + 4]),
  };
}
