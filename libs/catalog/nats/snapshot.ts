import { DeliverPolicy } from "@nats-io/jetstream";
import { type NatsLink, type StreamMessage, StreamReader } from "../../nats/index.js";
import type { Bucket } from "./bucket.js";

const batchMessages = 1_024;
const batchBytes = 8 * 1024 * 1024;

/** What came next: the last message of each key at first, "complete" once, then the changes; undefined at the end. */
export type Step = StreamMessage[] | "complete" | undefined;

/**
 * Reads the last message of every key under a prefix, then what changes. A key that changes while the first part is
 * read is delivered once, at its new place, and marks of deletions expire, so the first part may be shorter than announced: it is over
 * when a message is known to be the last one, is younger than the reading, or nothing comes and the server says that it has no more.
 */
export class SnapshotReader {
  readonly #reader: StreamReader;
  /** Of the bucket's stream when the reading began: what the first part leaves out is not there up to this. */
  readonly lastSequence: number;
  #complete: boolean;
  #announced = false;
  #received = 0;
  #later: StreamMessage[] = [];

  private constructor(reader: StreamReader, lastSequence: number) {
    this.#reader = reader;
    this.lastSequence = lastSequence;
    this.#complete = reader.pendingAtStart === 0;
  }

  static async start(link: NatsLink, bucket: Bucket, prefix: string): Promise<SnapshotReader> {
    const info = await link.request(() => link.manager.streams.info(bucket.stream));
    const reader = await StreamReader.start(link, bucket.stream, {
      consumer: {
        deliver_policy: DeliverPolicy.LastPerSubject,
        filter_subject: `${bucket.subjectPrefix}${prefix === "" ? ">" : `${prefix}.>`}`,
      },
      batchMessages,
      batchBytes,
    });
    return new SnapshotReader(reader, info.state.last_seq);
  }

  async next(): Promise<Step> {
    if (this.#complete && !this.#announced) {
      this.#announced = true;
      return "complete";
    }
    if (this.#later.length > 0) {
      const messages = this.#later;
      this.#later = [];
      return messages;
    }
    const messages = await this.#reader.next();
    if (messages === undefined || this.#complete) return messages;
    if (messages.length === 0) {
      // A slow server is silent too, in the middle of its messages.
      this.#complete = this.#received >= this.#reader.pendingAtStart || (await this.#reader.isDrained());
      return this.next();
    }
    this.#received += messages.length;
    const young = messages.findIndex((message) => message.sequence > this.lastSequence);
    const old = young < 0 ? messages : messages.slice(0, young);
    this.#later = young < 0 ? [] : messages.slice(young);
    this.#complete = young >= 0 || messages.at(-1)?.pending === 0;
    return old;
  }

  close(): void {
    this.#reader.close();
  }
}
