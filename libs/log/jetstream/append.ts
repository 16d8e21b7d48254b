import { headers } from "@nats-io/transport-node";
import { abortReason, type Clock, KithError, sleep, withAbort, withTimeout } from "../../base/index.js";
import { apiCode, apiErrorCode, type NatsLink, NatsOutage } from "../../nats/index.js";
import { logNotFound, notNext, pendingAppendBytesMax, pendingAppendsMax } from "../limits.js";
import type { Append, AppendOptions } from "../port.js";
import { logError, type StreamNaming } from "./streams.js";

/** Publishes under way at once; the rest waits here, so that the client library's buffers stay small. */
const inFlightMax = 512;
const inFlightBytesMax = 32 * 1024 * 1024;
/** One attempt. A stream that loses its leader swallows what was sent to it: the next attempt finds the new leader. */
const attemptTimeoutMs = 2_500;
/** All attempts of one append that a server which is there leaves without an answer. */
const silenceTimeoutMs = 7_500;
/** How long a broken connection or a stream without a leader is waited for before the append is given up. */
const outageTimeoutMs = 2_500;
const retryDelayMs = 50;

export const traceparentHeader = "traceparent";
/** What the server answers where a stream does not end as was expected. */
export const wrongLast: ReadonlySet<number> = new Set([apiCode.wrongLastSequence, apiCode.wrongLastSequenceUnknown]);

interface Slot {
  sizeBytes: number;
  start(): void;
  refuse(): void;
}

/** Appends records by publishing them, a bounded number at a time, and tries again with the same id where the outcome is unknown. */
export class Appender {
  readonly #link: NatsLink;
  readonly #clock: Clock;
  readonly #waiting = new Set<Slot>();
  #waitingBytes = 0;
  #inFlight = 0;
  #inFlightBytes = 0;
  readonly #unsubscribe: () => void;

  constructor(link: NatsLink, clock: Clock) {
    this.#link = link;
    this.#clock = clock;
    // What was not sent yet does not wait for the server's return.
    this.#unsubscribe = link.onAvailability((available) => {
      if (!available) for (const slot of this.#waiting) slot.refuse();
    });
  }

  close(): void {
    this.#unsubscribe();
  }

  async append(key: string, naming: StreamNaming, data: Uint8Array, options: AppendOptions): Promise<Append> {
    const { signal } = options;
    if (signal?.aborted) throw abortReason(signal);
    if (!this.#link.available) throw this.#unavailable(key, "NATS is not reachable");
    const endMs = this.#clock.monotonicMs() + silenceTimeoutMs;
    await this.#take(key, data.byteLength, signal);
    // The slot is held until the publish has ended, also where the caller has left.
    const result = this.#publishUntilKnown(key, naming, data, options, endMs).finally(() =>
      this.#give(data.byteLength),
    );
    return withAbort(result, signal);
  }

  async #publishUntilKnown(
    key: string,
    naming: StreamNaming,
    data: Uint8Array,
    { messageId, traceparent, signal, expectedSequence }: AppendOptions,
    endMs: number,
  ): Promise<Append> {
    let awaySince: number | undefined;
    for (;;) {
      try {
        const ack = await this.#link.request(() => {
          const fields = headers();
          if (traceparent !== undefined) fields.set(traceparentHeader, traceparent);
          return this.#link.jetstream.publish(naming.subject, data, {
            msgID: messageId,
            expect: {
              streamName: naming.stream,
              ...(expectedSequence !== undefined && { lastSequence: expectedSequence - 1 }),
            },
            headers: fields,
            timeout: attemptTimeoutMs,
          });
        });
        return { sequence: ack.seq, duplicate: ack.duplicate };
      } catch (error) {
        if (expectedSequence !== undefined && wrongLast.has(apiErrorCode(error) ?? 0)) {
          throw notNext(key, expectedSequence, error);
        }
        if (!(error instanceof NatsOutage)) throw logError(error, `appending to log ${key} failed`);
        if (error.reason === "closed") throw logError(error, `appending to log ${key} failed`);
        if (signal?.aborted) throw abortReason(signal);
        if (error.reason === "no-responders") await this.#refuseMissing(key, naming);
        if (error.reason === "timeout") awaySince = undefined;
        else awaySince ??= this.#clock.monotonicMs();
        if (this.#clock.monotonicMs() > endMs) {
          // So does a stream that could not be written once, until its server is started again.
          throw this.#unavailable(
            key,
            "the NATS server is there and does not acknowledge it; if its disk was full, free it and start that server again, whose /healthz " +
              "says so; its outcome is unknown",
            error,
          );
        }
      }
      await this.#untilWorthTrying(key, awaySince ?? this.#clock.monotonicMs(), signal);
    }
  }

  /** "Nobody answers" means that the stream is not there, or that it has no leader at the moment. */
  async #refuseMissing(key: string, naming: StreamNaming): Promise<void> {
    this.#link.suspect();
    try {
      await this.#link.request(() => this.#link.manager.streams.info(naming.stream));
    } catch (error) {
      if (apiErrorCode(error) === undefined && !(error instanceof NatsOutage)) throw error;
      if (isStreamNotFound(error)) throw logNotFound(key);
    }
  }

  async #untilWorthTrying(key: string, sinceMs: number, signal: AbortSignal | undefined): Promise<void> {
    const leftMs = outageTimeoutMs - (this.#clock.monotonicMs() - sinceMs);
    if (leftMs <= 0) throw this.#unavailable(key, "its outcome is unknown");
    await sleep(this.#clock, Math.min(retryDelayMs, leftMs), signal);
    if (this.#link.available) return;
    try {
      await withTimeout(this.#clock, leftMs, (given) => this.#link.whenAvailable(given), signal);
    } catch (error) {
      if (signal?.aborted) throw abortReason(signal);
      if (error instanceof NatsOutage && error.reason === "closed")
        throw logError(error, `appending to log ${key} failed`);
      throw this.#unavailable(key, "the connection broke and its outcome is unknown");
    }
  }

  #unavailable(key: string, why: string, cause?: unknown): KithError {
    return new KithError(
      "LOG_UNAVAILABLE",
      `appending to log ${key} failed: ${why}; try again with the same idempotency key`,
      {
        details: { log: key },
        cause,
        retryAfterMs: 500,
      },
    );
  }

  #fits(sizeBytes: number): boolean {
    if (this.#inFlight === 0) return true;
    return this.#inFlight < inFlightMax && this.#inFlightBytes + sizeBytes <= inFlightBytesMax;
  }

  #enter(sizeBytes: number): void {
    this.#inFlight++;
    this.#inFlightBytes += sizeBytes;
  }

  async #take(key: string, sizeBytes: number, signal: AbortSignal | undefined): Promise<void> {
    if (this.#waiting.size === 0 && this.#fits(sizeBytes)) {
      this.#enter(sizeBytes);
      return;
    }
    if (this.#waiting.size >= pendingAppendsMax || this.#waitingBytes + sizeBytes > pendingAppendBytesMax) {
      throw new KithError(
        "RESOURCE_EXHAUSTED",
        `${this.#waiting.size} appends (${this.#waitingBytes} bytes) already wait for the log server; try again later`,
        { retryAfterMs: 100 },
      );
    }
    await new Promise<void>((resolve, reject) => {
      const leave = (): void => {
        this.#waiting.delete(slot);
        this.#waitingBytes -= sizeBytes;
        signal?.removeEventListener("abort", onAbort);
      };
      const onAbort = (): void => {
        leave();
        reject(abortReason(signal as AbortSignal));
      };
      const slot: Slot = {
        sizeBytes,
        start: () => {
          leave();
          this.#enter(sizeBytes);
          resolve();
        },
        refuse: () => {
          leave();
          reject(this.#unavailable(key, "NATS is not reachable; it was not sent"));
        },
      };
      this.#waiting.add(slot);
      this.#waitingBytes += sizeBytes;
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }

  #give(sizeBytes: number): void {
    this.#inFlight--;
    this.#inFlightBytes -= sizeBytes;
    for (const slot of this.#waiting) {
      if (!this.#fits(slot.sizeBytes)) return;
      slot.start();
    }
  }
}

export function isStreamNotFound(error: unknown): boolean {
  return apiErrorCode(error) === apiCode.streamNotFound;
}
