import { type Clock, KithError, reasonOf, toKithError } from "../../../libs/base/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import type { Catalog } from "../../../libs/catalog/index.js";

/**
 * How long NATS may be away before calls that need it are given up, in milliseconds: longer than its servers take to elect a leader or to start
 * again. A server that hangs with its connection open is noticed after 4 to 6 s, so that each call ends within 10 s.
 */
const graceMs = 2_000;

/** Ends calls that wait for what cannot happen while the log's and the catalog's server is away. */
export class Outages {
  readonly #catalog: Catalog;
  readonly #clock: Clock;
  readonly #server: string | undefined;
  readonly #stopWatching: () => void;
  #awaySinceMs: number | undefined;

  /** `logKind`: with the embedded log there is no server, and what fails is this node's own disk. */
  constructor(catalog: Catalog, clock: Clock, logKind: "embedded" | "jetstream") {
    this.#catalog = catalog;
    this.#clock = clock;
    this.#server = logKind === "jetstream" ? "NATS" : undefined;
    this.#stopWatching = catalog.onAvailability(() => this.#note());
    this.#note();
  }

  /** LOG_UNAVAILABLE as soon as the server has been away for too long, whatever `work` waits for; it must obey the signal. */
  async guard<T>(call: CallContext, work: (call: CallContext) => Promise<T>): Promise<T> {
    if (this.#server === undefined) return work(call);
    const server = this.#server;
    const away = new AbortController();
    const judge = (): void => {
      timer?.close();
      timer = undefined;
      if (this.#awaySinceMs === undefined) return;
      const leftMs = graceMs - (this.#clock.monotonicMs() - this.#awaySinceMs);
      const giveUp = (): void => away.abort(unavailable(server, "it has been away for some seconds"));
      if (leftMs <= 0) giveUp();
      else timer = this.#clock.setTimer(giveUp, leftMs);
    };
    let timer: ReturnType<Clock["setTimer"]> | undefined;
    // This instance has listened for longer, and so has noted the change.
    const stop = this.#catalog.onAvailability(judge);
    judge();
    const { signal, deadlineMs, trace, access } = call;
    const either = signal === undefined ? away.signal : AbortSignal.any([signal, away.signal]);
    try {
      either.throwIfAborted();
      return await work({ signal: either, trace, access, ...(deadlineMs !== undefined && { deadlineMs }) });
    } catch (error) {
      const known = toKithError(error);
      throw known.code === "CATALOG_UNAVAILABLE" ? unavailable(server, reasonOf(known), known) : known;
    } finally {
      timer?.close();
      stop();
    }
  }

  close(): void {
    this.#stopWatching();
  }

  #note(): void {
    if (this.#catalog.available) this.#awaySinceMs = undefined;
    else this.#awaySinceMs ??= this.#clock.monotonicMs();
  }
}

function unavailable(server: string, why: string, cause?: KithError): KithError {
  const message = `${server}, which keeps the log and the catalog, does not answer: ${why}; try again when it is back`;
  return new KithError("LOG_UNAVAILABLE", message, { cause, retryAfterMs: 500 });
}
