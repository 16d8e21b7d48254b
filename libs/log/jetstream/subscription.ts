import { DeliverPolicy } from "@nats-io/jetstream";
import { backoffMs, crc32c, KithError, type Runtime, sleep } from "../../base/index.js";
import { apiErrorCode, type NatsLink, NatsOutage, type StreamMessage, StreamReader } from "../../nats/index.js";
import { deliveryBytesMax, deliveryEntriesMax, logNotFound } from "../limits.js";
import type { LogEntry, LogFault, LogState, LogSubscription, SubscribeOptions } from "../port.js";
import { isStreamNotFound, traceparentHeader } from "./append.js";
import { checksumOf, type StreamNaming, toState } from "./streams.js";

const retryBackoff = { initialMs: 20, maxMs: 1_000 };
/**
 * A stream that seems to have gone or to have lost records is looked at again for so long before it is believed: a new
 * leader answers before it has applied all that is committed.
 */
const confirmForMs = 2_000;
const confirmEveryMs = 100;

type Verdict = "readable" | "ended" | "look-again";

/** One reader's way through one stream. The stream's state is checked at the start and after every interruption. */
export class JetStreamSubscription implements LogSubscription {
  readonly #link: NatsLink;
  readonly #key: string;
  readonly #naming: StreamNaming;
  readonly #options: SubscribeOptions;
  readonly #runtime: Runtime;
  readonly #closing = new AbortController();
  readonly #ended: Promise<void>;
  #incarnation: string | undefined;
  #lastRead: number;
  /** Of the record `#lastRead`, where it is known. */
  #lastChecksum: number | undefined;
  #reader: StreamReader | undefined;
  /** Since when the stream looks faulty, and the record that came instead of the next one. */
  #doubtSinceMs: number | undefined;
  #jumpedTo: number | undefined;

  constructor(
    link: NatsLink,
    key: string,
    naming: StreamNaming,
    options: SubscribeOptions,
    runtime: Runtime,
    onEnd: () => void,
  ) {
    this.#link = link;
    this.#key = key;
    this.#naming = naming;
    this.#options = options;
    this.#runtime = runtime;
    this.#incarnation = options.incarnation;
    this.#lastRead = options.fromSequence - 1;
    this.#lastChecksum = options.lastChecksum;
    this.#ended = this.#run().finally(onEnd);
  }

  close(): Promise<void> {
    this.#closing.abort(new KithError("SHUTTING_DOWN", "the subscription is closed"));
    this.#reader?.close();
    return this.#ended;
  }

  get #closed(): boolean {
    return this.#closing.signal.aborted;
  }

  async #run(): Promise<void> {
    const { clock, random } = this.#runtime;
    try {
      for (let attempt = 0; !this.#closed; attempt++) {
        try {
          await this.#link.whenAvailable(this.#closing.signal);
          const verdict = await this.#examine();
          if (verdict === "ended") return;
          if (verdict === "look-again") {
            await sleep(clock, confirmEveryMs, this.#closing.signal);
            continue;
          }
          const lastRead = this.#lastRead;
          if ((await this.#read()) === "ended") return;
          if (this.#lastRead > lastRead) attempt = 0;
        } catch (error) {
          if (this.#closed || this.#link.closed) return;
          // Refusals of the server, such as "too many consumers", are waited out like its absence.
          if (!(error instanceof NatsOutage) && apiErrorCode(error) === undefined) throw error;
          this.#doubtSinceMs = undefined;
        }
        await sleep(clock, backoffMs(attempt, retryBackoff, random), this.#closing.signal);
      }
    } catch (error) {
      if (!this.#closed) this.#options.onError(error);
    } finally {
      this.#reader?.close();
    }
  }

  /** Looks whether the stream still holds what follows the last record read; tells the reader if not. */
  async #examine(): Promise<Verdict> {
    let state: LogState;
    let isAnother: boolean;
    try {
      state = toState(await this.#link.request(() => this.#link.manager.streams.info(this.#naming.stream)));
      isAnother = await this.#isAnother(state);
    } catch (error) {
      if (!isStreamNotFound(error)) throw error;
      if (!this.#confirmed()) return "look-again";
      this.#options.onError(logNotFound(this.#key));
      return "ended";
    }
    if (this.#closed) return "ended";
    this.#incarnation ??= state.incarnation;
    if (state.incarnation !== this.#incarnation) return this.#fault(rewound(this.#lastRead, state));
    if (state.lastSequence < this.#lastRead) {
      return this.#confirmed() ? this.#fault(rewound(this.#lastRead, state)) : "look-again";
    }
    if (isAnother) return this.#fault(rewound(this.#lastRead, state));
    if (state.firstSequence > this.#lastRead + 1) {
      return this.#fault({ kind: "gap", expected: this.#lastRead + 1, found: state.firstSequence });
    }
    return "readable";
  }

  /** Whether the stream holds another record in the place of the last one read. */
  async #isAnother({ firstSequence, lastSequence }: LogState): Promise<boolean> {
    const lastRead = this.#lastRead;
    if (this.#lastChecksum === undefined || lastRead < firstSequence || lastRead > lastSequence) return false;
    const checksum = await checksumOf(this.#link, this.#naming, lastRead);
    return checksum !== undefined && checksum !== this.#lastChecksum;
  }

  #confirmed(): boolean {
    const nowMs = this.#runtime.clock.monotonicMs();
    this.#doubtSinceMs ??= nowMs;
    return nowMs - this.#doubtSinceMs >= confirmForMs;
  }

  #fault(fault: LogFault): Verdict {
    this.#options.onFault(fault);
    return "ended";
  }

  /** Reads until the server's consumer ends or a record is out of order: then the stream must be examined again. */
  async #read(): Promise<Verdict> {
    this.#doubtSinceMs = undefined;
    const reader = await StreamReader.start(this.#link, this.#naming.stream, {
      consumer: { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: this.#lastRead + 1 },
      batchMessages: deliveryEntriesMax,
      batchBytes: deliveryBytesMax,
    });
    this.#reader = reader;
    try {
      while (!this.#closed) {
        const messages = await reader.next();
        if (messages === undefined || this.#closed) break;
        const entries = this.#following(messages);
        if (entries.length > 0 && !(await this.#deliver(entries))) return "ended";
        const jump = messages[entries.length];
        if (jump === undefined) continue;
        // A hole that is still there with a new consumer is a hole in the stream itself.
        if (this.#jumpedTo === jump.sequence) {
          return this.#fault({ kind: "gap", expected: this.#lastRead + 1, found: jump.sequence });
        }
        this.#jumpedTo = jump.sequence;
        break;
      }
    } finally {
      reader.close();
    }
    return "look-again";
  }

  /** The first part of the messages, which follows the last record without a gap. */
  #following(messages: readonly StreamMessage[]): LogEntry[] {
    const entries: LogEntry[] = [];
    for (const { sequence, data, headers, subject } of messages) {
      if (sequence !== this.#lastRead + entries.length + 1) break;
      const isSeal = subject === this.#naming.sealSubject;
      const traceparent = headers?.get(traceparentHeader) || undefined;
      entries.push({ sequence, data, traceparent, ...(isSeal && { isSeal }) });
    }
    return entries;
  }

  /** False when the reader's own handler failed. */
  async #deliver(entries: LogEntry[]): Promise<boolean> {
    try {
      await this.#options.onEntries(entries);
    } catch (error) {
      if (!this.#closed) this.#options.onError(error);
      return false;
    }
    this.#lastRead += entries.length;
    this.#lastChecksum = crc32c((entries.at(-1) as LogEntry).data);
    this.#jumpedTo = undefined;
    return true;
  }
}

function rewound(lastRead: number, { lastSequence, incarnation }: LogState): LogFault {
  return { kind: "rewound", lastRead, lastSequence, incarnation };
}
