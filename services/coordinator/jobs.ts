import { type Clock, heardByMany, KithError, type Random, type Runtime, sleep } from "../../libs/base/index.js";
import type { OperationProgress } from "../../libs/cluster/index.js";

/** Work that takes longer than a step of an operation should. `T`: what it keeps for a further attempt. */
interface Job<T> {
  /** What is done so far. */
  state: T;
  readonly abort: AbortController;
  readonly work: Promise<void>;
  outcome: { isDone: true } | { isDone: false; error: unknown } | undefined;
}

/** What a job tells while it is under way. */
export interface JobControl<T> {
  readonly signal: AbortSignal;
  /** Keeps what is done: the operation's record has it soon. */
  readonly keep: (state: T) => void;
}

/** A step looks at its job for so long before it writes down how far that is. */
const lookMs = 1_000;

/**
 * Work of operations in this process, by the operation's id. A step of the operation looks in on it now and then and writes down how far
 * it is; a coordinator that takes over begins it again from there.
 */
export class Jobs {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #jobs = new Map<string, Job<unknown>>();
  /** By id: who may begin the work. */
  readonly #claims = new Map<string, string>();

  constructor({ clock, random }: Runtime) {
    this.#clock = clock;
    this.#random = random;
  }

  /**
   * Whether the work is under way, or may be begun by who has this claim: an operation whose record names the claim of no other process. It is good
   * for one beginning.
   */
  mayLook(id: string, claim: string): boolean {
    return this.#jobs.has(id) || this.#claims.get(id) === claim;
  }

  /** A new claim to begin the work. */
  claim(id: string): string {
    const claim = this.#random.uuid();
    this.#claims.set(id, claim);
    return claim;
  }

  /**
   * Begins the work, if it is not under way, and looks at it for a second at most; gives what is done so far, and whether that is all.
   * Rejects with what ended the work; the next call begins it again.
   */
  async look<T extends { progress?: OperationProgress }>(
    id: string,
    from: T,
    begin: (job: JobControl<T>) => Promise<void>,
  ): Promise<{ state: T; isDone: boolean }> {
    let job = this.#jobs.get(id) as Job<T> | undefined;
    if (job === undefined) {
      this.#claims.delete(id);
      job = this.#begin(from, begin);
      this.#jobs.set(id, job);
    }
    const looked = new AbortController();
    await Promise.race([job.work, sleep(this.#clock, lookMs, looked.signal).catch(() => undefined)]);
    looked.abort();
    const { outcome, state } = job;
    if (outcome === undefined) return { state, isDone: false };
    this.#jobs.delete(id);
    if (!outcome.isDone) throw outcome.error;
    return { state, isDone: true };
  }

  #begin<T>(from: T, begin: (job: JobControl<T>) => Promise<void>): Job<T> {
    const abort = new AbortController();
    const job: Job<T> = { state: from, abort, work: Promise.resolve(), outcome: undefined };
    const control = {
      signal: heardByMany(abort.signal),
      keep: (state: T) => {
        job.state = state;
      },
    };
    const work = begin(control).then(
      () => {
        job.outcome = { isDone: true };
      },
      (error: unknown) => {
        job.outcome = { isDone: false, error };
      },
    );
    return Object.assign(job, { work });
  }

  /** Ends the work, if there is any; resolves when it has ended. */
  async abort(id: string): Promise<void> {
    const job = this.#jobs.get(id);
    this.#jobs.delete(id);
    this.#claims.delete(id);
    job?.abort.abort(new KithError("CANCELLED", "the operation was ended"));
    await job?.work;
  }

  abortAll(): void {
    for (const job of this.#jobs.values()) job.abort.abort(new KithError("CANCELLED", "another coordinator goes on"));
  }

  async close(): Promise<void> {
    await Promise.all([...this.#jobs.keys()].map((id) => this.abort(id)));
  }
}
