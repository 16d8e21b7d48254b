import { type Clock, sleep } from "../../base/index.js";
import { apiCode, apiErrorCode, type NatsLink } from "../../nats/index.js";
import { logSealed } from "../limits.js";
import type { StreamNaming } from "./streams.js";

/** A leader that does not know of an append yet that was acknowledged is asked again after so long. */
const againMs = 50;
const attemptsMax = 40;

/** Sequence of the stream's seal, which is the only message with its subject; undefined where there is none. */
export async function sealOf(link: NatsLink, { stream, sealSubject }: StreamNaming): Promise<number | undefined> {
  try {
    const message = await link.request(() => link.manager.streams.getMessage(stream, { last_by_subj: sealSubject }));
    return message?.seq;
  } catch (error) {
    if (apiErrorCode(error) === apiCode.noMessage) return undefined;
    throw error;
  }
}

/** What a look at a stream has found. */
type Look = Promise<{ lastSequence: number; isSealed: boolean }>;

/**
 * Looks whether appends that were acknowledged came in before the seal of their stream. The server orders both but refuses none: it knows of
 * conditions for messages that follow one another, and such a one would let but one append be under way. Appends that end while the
 * stream is being looked at share the next look.
 */
export class SealChecks {
  readonly #link: NatsLink;
  readonly #clock: Clock;
  /** By key: the look at hand, and the one behind it. */
  readonly #checks = new Map<string, { now: Look; next: Look | undefined }>();

  constructor(link: NatsLink, clock: Clock) {
    this.#link = link;
    this.#clock = clock;
  }

  /** STALE_EPOCH where the record is behind a seal. */
  async refuse(key: string, naming: StreamNaming, sequence: number): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const { lastSequence, isSealed } = await this.#look(key, naming);
      if (isSealed) {
        const seal = await sealOf(this.#link, naming);
        if (seal !== undefined && seal < sequence) throw logSealed(key);
        return;
      }
      if (lastSequence >= sequence || attempt === attemptsMax) return;
      await sleep(this.#clock, againMs);
    }
  }

  /** A look that begins after this call. */
  #look(key: string, naming: StreamNaming): Look {
    const known = this.#checks.get(key);
    if (known === undefined) return this.#begin(key, naming);
    const begin = (): Look => this.#begin(key, naming);
    known.next ??= known.now.then(begin, begin);
    return known.next;
  }

  #begin(key: string, naming: StreamNaming): Look {
    const entry = { now: this.#ask(naming), next: undefined as Look | undefined };
    this.#checks.set(key, entry);
    const end = (): void => {
      if (entry.next === undefined) this.#checks.delete(key);
    };
    entry.now.then(end, end);
    return entry.now;
  }

  async #ask({ stream, sealSubject }: StreamNaming): Look {
    const info = await this.#link.request(() =>
      this.#link.manager.streams.info(stream, { subjects_filter: sealSubject }),
    );
    return { lastSequence: info.state.last_seq, isSealed: (info.state.subjects?.[sealSubject] ?? 0) > 0 };
  }
}
