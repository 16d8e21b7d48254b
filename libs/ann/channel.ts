import { type Cancellation, KithError, abortReason, assert, deferred, type Deferred } from "../base/index.js";
import { toKithFailure } from "./failures.js";
import type { Layout } from "./layout.js";
import { native, type NativeAddon } from "./native.js";
import type { SearchExplanation, SearchResult } from "./types.js";

/** One search on its way through the native pool. */
export interface SearchJob {
  id: number;
  k: number;
  ef: number;
  exact: boolean;
  scored: number;
  codesOnly: boolean;
  query: Float32Array;
  filter: Uint8Array | undefined;
  slots: Uint32Array | undefined;
  explain: boolean;
  signal: Cancellation | undefined;
  /** Called once when native code is done with the search; holding it keeps the index from being collected meanwhile. */
  onEnd: () => void;
}

const onceOnly = { once: true } as const;

/** What the channel must know of a search that is on its way. */
type Ending = Pick<SearchJob, "explain" | "signal" | "onEnd">;

class PendingSearch {
  constructor(
    readonly ticket: number,
    readonly job: Ending,
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

/**
 * The one way between this JavaScript environment and the native threads. Searches of one tick go in with one call;
 * completions come back by bursts through buffers that both sides know. A ticket names an operation in flight.
 */
class Channel {
  readonly #native: NativeAddon = native();
  readonly #layout: Layout = this.#native.layout;
  readonly #headers = new Uint32Array(this.#layout.sizes.headers * this.#layout.header.words);
  readonly #slots = new Uint32Array(this.#layout.sizes.results);
  readonly #distances = new Float32Array(this.#layout.sizes.results);
  readonly #cancelFlags = new Uint8Array(this.#layout.sizes.tickets);
  /** Plans by their number. */
  readonly #plans: SearchResult["plan"][] = [];
  readonly #pending: (PendingSearch | PendingOperation | undefined)[] = [];
  readonly #freeTickets: number[] = [];
  readonly #threads: number;
  #ticketCount = 0;
  #searching = 0;
  #scheduled = false;
  #staged = 0;
  #stagedNumbers = 0;
  #requests = new Uint32Array(64 * this.#layout.request.words);
  #queries = new Float32Array(64 * 128);
  #extras: (Uint8Array | Uint32Array)[] = [];

  constructor() {
    for (const [plan, number] of Object.entries(this.#layout.plan)) {
      this.#plans[number] = plan as SearchResult["plan"];
    }
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
    return this.#pend(job, (ticket) => this.#stage(ticket, job));
  }

  /** A search that `start` hands over at once. What `start` throws is why it failed. */
  searchBy(ending: Ending, start: (ticket: number) => void): Promise<SearchResult & { allowedRows?: number }> {
    return this.#pend(ending, (ticket) => {
      this.#searching++;
      try {
        start(ticket);
      } catch (error) {
        this.#refuse(ticket, error);
      }
    });
  }

  #pend(job: Ending, start: (ticket: number) => void): Promise<SearchResult> {
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
      signal?.addEventListener("abort", pending.onAbort, onceOnly);
      start(ticket);
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
    try {
      if (start(ticket) === true) {
        this.#releaseTicket(ticket);
        return "";
      }
    } catch (error) {
      this.#releaseTicket(ticket);
      throw error;
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
      if (this.#ticketCount === this.#layout.sizes.tickets) {
        return new KithError(
          "RESOURCE_EXHAUSTED",
          `${this.#layout.sizes.tickets} searches of this process are in flight; wait for some to end`,
          { details: { inFlight: this.#layout.sizes.tickets }, retryAfterMs: 50 },
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
    const { request, flag } = this.#layout;
    const at = this.#staged * request.words;
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
    requests[at + request.ticket] = ticket;
    requests[at + request.index] = job.id;
    requests[at + request.k] = job.k;
    requests[at + request.ef] = job.ef;
    requests[at + request.flags] =
      (job.exact ? flag.exact : 0) |
      (job.filter ? flag.filter : 0) |
      (job.slots ? flag.slots : 0) |
      (job.codesOnly ? flag.codesOnly : 0);
    requests[at + request.scored] = job.scored;
    requests[at + request.queryAt] = this.#stagedNumbers;
    this.#queries.set(job.query, this.#stagedNumbers);
    // Slots are copied as the query is: the caller may change them before the searches of this tick are handed over.
    const extra = job.filter ?? job.slots?.slice();
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
    try {
      this.#native.submit(count, this.#requests, this.#queries, extras);
    } catch (error) {
      // None of them was taken.
      const { request } = this.#layout;
      for (let i = 0; i < count; i++) this.#refuse(this.#requests[i * request.words + request.ticket] as number, error);
    }
  };

  #refuse(ticket: number, error: unknown): void {
    const pending = this.#pending[ticket];
    if (!(pending instanceof PendingSearch)) return;
    this.#end(ticket, pending);
    pending.reject(error);
  }

  /** A search is over, and its ticket free. */
  #end(ticket: number, pending: PendingSearch): void {
    this.#releaseTicket(ticket);
    this.#searching--;
    pending.job.onEnd();
    pending.job.signal?.removeEventListener("abort", pending.onAbort);
  }

  #complete(count: number): void {
    const { header, failure } = this.#layout;
    for (let i = 0, at = 0; i < count; i++, at += header.words) {
      const ticket = this.#headers[at + header.ticket] as number;
      const code = this.#headers[at + header.failure] as number;
      const pending = this.#pending[ticket];
      if (pending instanceof PendingSearch) {
        this.#end(ticket, pending);
        const { signal } = pending.job;
        if (code === failure.none) {
          const result = this.#resultAt(at);
          if (pending.job.explain) result.explanation = this.#explanationAt(at);
          pending.resolve(result);
        } else pending.reject(signal?.aborted === true ? abortReason(signal) : this.#failureAt(at, ticket));
      } else if (pending instanceof PendingOperation) {
        this.#releaseTicket(ticket);
        if (code === failure.none) this.#succeed(ticket, pending);
        else pending.done.reject(this.#failureAt(at, ticket));
      }
    }
  }

  #succeed(ticket: number, pending: PendingOperation): void {
    try {
      const text = this.#native.takeText(ticket);
      pending.onDone?.(ticket);
      pending.done.resolve(text);
    } catch (error) {
      pending.done.reject(error);
    }
  }

  #resultAt(at: number): SearchResult & { allowedRows: number } {
    const { header } = this.#layout;
    const headers = this.#headers;
    const from = headers[at + header.from] as number;
    const to = from + (headers[at + header.count] as number);
    return {
      slots: this.#slots.slice(from, to),
      distances: this.#distances.slice(from, to),
      computed: headers[at + header.computed] as number,
      plan: this.#plans[headers[at + header.plan] as number] ?? "scan",
      allowedRows: headers[at + header.allowed] as number,
      queueUs: headers[at + header.queueUs] as number,
      searchUs: headers[at + header.searchUs] as number,
    };
  }

  #explanationAt(at: number): SearchExplanation {
    const { header } = this.#layout;
    const number = (name: keyof typeof header): number => this.#headers[at + header[name]] as number;
    const walkedRows = number("walked");
    const visitedRows = number("visited");
    const isScan = this.#plans[number("plan")] === "scan";
    const [allowedRows, walkUs, scanUs] = [number("allowed"), number("walkEstimateUs"), number("scanEstimateUs")];
    const twoHopsUs = number("twoHopsEstimateUs");
    return {
      plan: visitedRows === 0 ? "scan" : isScan ? "walk_then_scan" : number("twoHops") === 1 ? "two_hop_walk" : "walk",
      visitedRows,
      walkedRows,
      scannedRows: number("computed") - walkedRows,
      decision: walkUs === 0 ? undefined : { allowedRows, walkUs, scanUs, ...(twoHopsUs > 0 && { twoHopsUs }) },
    };
  }

  #failureAt(at: number, ticket: number): KithError {
    const { header, failure } = this.#layout;
    const text = this.#native.takeText(ticket);
    return toKithFailure(
      failure,
      this.#headers[at + header.failure] as number,
      text,
      this.#headers[at + header.computed],
    );
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
