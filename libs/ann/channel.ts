import { type Cancellation, KithError, abortReason, assert, deferred, type Deferred } from "../base/index.js";
import { failure, native, stageSizes, type NativeAddon } from "./native.js";
import type { SearchResult } from "./types.js";

const plans = ["graph", "scan", "graph+scan"] as const;

/** One search on its way through the native pool. */
export interface SearchJob {
  id: number;
  k: number;
  ef: number;
  exact: boolean;
  query: Float32Array;
  filter: Uint8Array | undefined;
  slots: Uint32Array | undefined;
  signal: Cancellation | undefined;
  /** Called once when native code is done with the search; holding it keeps the index from being collected meanwhile. */
  onEnd: () => void;
}

const onceOnly = { once: true } as const;

class PendingSearch {
  constructor(
    readonly ticket: number,
    readonly job: SearchJob,
    private readonly cancelFlags: Uint8Array,
    readonly resolve: (result: SearchResult) => void,
    readonly reject: (reason: unknown) => void,
  ) {}

  /** Answers at once; the native search sees the flag and ends early. */
  readonly onAbort = (): void => {
    this.cancelFlags[this.ticket] = 1;
    this.reject(abortReason(this.job.signal as Cancellation));
  };
}

class PendingOperation {
  readonly done: Deferred<string> = deferred();
  constructor(readonly onDone: ((ticket: number) => void) | undefined) {}
}

/** What a native failure becomes for the caller. */
function toError(code: number, text: string, errno: number): KithError {
  switch (code) {
    case failure.notFinite:
      return new KithError(
        "VECTOR_NOT_FINITE",
        "the query has a component that is NaN or infinite; send finite numbers",
      );
    case failure.zeroVector:
      return new KithError(
        "ZERO_VECTOR",
        "the query is the zero vector, which has no direction; cosine cannot compare it",
      );
    case failure.resources:
      return new KithError("RESOURCE_EXHAUSTED", text);
    case failure.corrupt:
      return new KithError("CORRUPT_DATA", `${text}; delete the index folder and rebuild it`);
    case failure.io:
      // 28 is ENOSPC on Linux and macOS.
      return errno === 28
        ? new KithError("DISK_FULL", `${text}; free space and try again`)
        : new KithError("INTERNAL", text, { details: { errno } });
    case failure.cancelled:
      return new KithError("CANCELLED", text === "" ? "the call was cancelled" : text);
    case failure.closed:
      return new KithError("SHUTTING_DOWN", text);
    default:
      return new KithError("INTERNAL", `the native index failed with code ${code}: ${text}`);
  }
}

/**
 * The one way between this JavaScript environment and the native threads. Searches of one tick go in with one call;
 * completions come back by bursts through buffers that both sides know. A ticket names an operation in flight.
 */
class Channel {
  readonly #native: NativeAddon = native();
  readonly #headers = new Uint32Array(stageSizes.headers * stageSizes.headerWords);
  readonly #slots = new Uint32Array(stageSizes.results);
  readonly #distances = new Float32Array(stageSizes.results);
  readonly #cancelFlags = new Uint8Array(stageSizes.tickets);
  readonly #pending: (PendingSearch | PendingOperation | undefined)[] = [];
  readonly #freeTickets: number[] = [];
  readonly #threads: number;
  #ticketCount = 0;
  #searching = 0;
  #scheduled = false;
  #staged = 0;
  #stagedNumbers = 0;
  #requests = new Uint32Array(64 * stageSizes.headerWords);
  #queries = new Float32Array(64 * 128);
  #extras: (Uint8Array | Uint32Array)[] = [];

  constructor() {
    const opened = this.#native.open(
      (count) => this.#complete(count),
      this.#headers,
      this.#slots,
      this.#distances,
      this.#cancelFlags,
    );
    assert(opened, "the native index could not connect to the event loop");
    const info = new Float64Array(2);
    this.#native.nativeInfo(info);
    this.#threads = info[0] ?? 1;
  }

  search(job: SearchJob): Promise<SearchResult> {
    const { signal } = job;
    return new Promise((resolve, reject) => {
      const ticket = signal?.aborted === true ? abortReason(signal) : this.#takeTicket();
      if (ticket instanceof KithError) {
        job.onEnd();
        reject(ticket);
        return;
      }
      const pending = new PendingSearch(ticket, job, this.#cancelFlags, resolve, reject);
      this.#pending[ticket] = pending;
      this.#stage(ticket, job);
      signal?.addEventListener("abort", pending.onAbort, onceOnly);
    });
  }

  /**
   * Runs an operation and returns the text that it completes with. `start` returns true when nothing was left to do.
   * Aborting `signal` asks the operation to end early. `onDone` runs while the ticket is still this operation's.
   */
  async operate(
    start: (ticket: number) => boolean | undefined,
    signal?: AbortSignal,
    onDone?: (ticket: number) => void,
  ): Promise<string> {
    if (signal?.aborted === true) throw abortReason(signal);
    const pending = new PendingOperation(onDone);
    const ticket = this.#takeTicket();
    if (ticket instanceof KithError) throw ticket;
    this.#pending[ticket] = pending;
    if (start(ticket) === true) {
      this.#releaseTicket(ticket);
      return "";
    }
    let aborted: KithError | undefined;
    const onAbort = (): void => {
      this.#cancelFlags[ticket] = 1;
      if (signal !== undefined) aborted = abortReason(signal);
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      return await pending.done.promise;
    } catch (error) {
      throw error instanceof KithError && error.code === "CANCELLED" ? (aborted ?? error) : error;
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
  }

  #takeTicket(): number | KithError {
    let ticket = this.#freeTickets.pop();
    if (ticket === undefined) {
      if (this.#ticketCount === stageSizes.tickets) {
        return new KithError(
          "RESOURCE_EXHAUSTED",
          `${stageSizes.tickets} searches of this process are in flight; wait for some to end`,
          { details: { inFlight: stageSizes.tickets }, retryAfterMs: 50 },
        );
      }
      ticket = this.#ticketCount++;
    }
    this.#cancelFlags[ticket] = 0;
    return ticket;
  }

  #releaseTicket(ticket: number): void {
    this.#pending[ticket] = undefined;
    this.#freeTickets.push(ticket);
  }

  #stage(ticket: number, job: SearchJob): void {
    const at = this.#staged * stageSizes.headerWords;
    if (at === this.#requests.length) {
      const larger = new Uint32Array(at * 2);
      larger.set(this.#requests);
      this.#requests = larger;
    }
    const numbers = this.#stagedNumbers + job.query.length;
    if (numbers > this.#queries.length) {
      const larger = new Float32Array(numbers * 2);
      larger.set(this.#queries.subarray(0, this.#stagedNumbers));
      this.#queries = larger;
    }
    const requests = this.#requests;
    requests[at] = ticket;
    requests[at + 1] = job.id;
    requests[at + 2] = job.k;
    requests[at + 3] = job.ef;
    requests[at + 4] = (job.exact ? 1 : 0) | (job.filter ? 2 : 0) | (job.slots ? 4 : 0);
    requests[at + 5] = this.#stagedNumbers;
    this.#queries.set(job.query, this.#stagedNumbers);
    const extra = job.filter ?? job.slots;
    if (extra !== undefined) this.#extras.push(extra);
    this.#staged++;
    this.#stagedNumbers = numbers;
    if (this.#scheduled) return;
    this.#scheduled = true;
    // While a thread is idle, a search should not wait for the rest of the tick. When all are busy it would wait in
    // their queue anyway, so it waits here until the event loop has read what is there: one crossing for many.
    if (this.#searching < this.#threads) queueMicrotask(this.#flush);
    else setImmediate(this.#flush);
  }

  readonly #flush = (): void => {
    this.#scheduled = false;
    const count = this.#staged;
    this.#staged = 0;
    this.#stagedNumbers = 0;
    this.#searching += count;
    const extras = this.#extras;
    if (extras.length > 0) this.#extras = [];
    this.#native.submit(count, this.#requests, this.#queries, extras);
  };

  #complete(count: number): void {
    const headers = this.#headers;
    for (let i = 0, at = 0; i < count; i++, at += stageSizes.headerWords) {
      const ticket = headers[at] as number;
      const code = headers[at + 1] as number;
      const pending = this.#pending[ticket];
      this.#releaseTicket(ticket);
      if (pending instanceof PendingSearch) {
        this.#searching--;
        pending.job.onEnd();
        const { signal } = pending.job;
        signal?.removeEventListener("abort", pending.onAbort);
        if (code === failure.none) {
          const from = headers[at + 7] as number;
          const to = from + (headers[at + 2] as number);
          pending.resolve({
            slots: this.#slots.slice(from, to),
            distances: this.#distances.slice(from, to),
            computed: headers[at + 3] as number,
            plan: plans[headers[at + 4] as number] ?? "scan",
            queueUs: headers[at + 5] as number,
            searchUs: headers[at + 6] as number,
          });
        } else {
          pending.reject(signal?.aborted === true ? abortReason(signal) : toError(code, "", 0));
        }
      } else if (pending instanceof PendingOperation) {
        const text = this.#native.takeText(ticket);
        if (code === failure.none) {
          pending.onDone?.(ticket);
          pending.done.resolve(text);
        } else pending.done.reject(toError(code, text, headers[at + 3] as number));
      }
    }
  }
}

let channel: Channel | undefined;

export type { Channel };

/** The channel of this environment, opened on first use. */
export function openChannel(): Channel {
  channel ??= new Channel();
  return channel;
}

/** Whether the pool's size can still be chosen. */
export function channelIsOpen(): boolean {
  return channel !== undefined;
}
