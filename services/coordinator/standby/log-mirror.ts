import { backoffMs, deferred, KithError, type Runtime, sleep, toKithError } from "../../../libs/base/index.js";
import type { FollowedState } from "../../../libs/cluster/index.js";
import type { Log, LogEntry, LogFault, LogState } from "../../../libs/log/index.js";
import type { ShardId } from "../../../libs/model/index.js";

export interface LogMirrorOptions extends Runtime {
  name: ShardId;
  /** The primary's. */
  theirs: Log;
  ours: Log;
  /** The log of this cluster is begun again: what it lacks is not in the primary's any more. */
  onRestart: (reason: string) => void;
  /** It cannot be gone on with now; tried again. */
  onFailure: (error: KithError) => void;
}

const retryBackoff = { initialMs: 200, maxMs: 15_000 };
/** Ends of the primary's log that were seen and are not reached: more are not kept, so that the lag is told a little too high. */
const marksMax = 64;

/** Where the primary's log ended at a time. */
interface Mark {
  sequence: number;
  monotonicMs: number;
}

/**
 * Repeats the log of one shard of the primary: each record as it is stored there, under its own sequence, in a log with the same identity. Two that
 * do so at once, because one was overtaken as the coordinator, write the same; and a record that anybody else has written ends it.
 */
export class LogMirror {
  readonly #options: LogMirrorOptions;
  readonly #closing = new AbortController();
  readonly #ended: Promise<void>;
  #state: FollowedState = "following";
  #reason = "";
  #sequence = 0;
  #primarySequence = 0;
  /** Since when all that the primary had is here, by the monotonic clock. */
  #caughtUpMs: number | undefined;
  #marks: Mark[] = [];
  /** The next appends wait for each other, because the server did not take the last ones in their order. */
  #isCautious = false;

  constructor(options: LogMirrorOptions) {
    this.#options = options;
    this.#ended = this.#run();
  }

  get state(): FollowedState {
    return this.#state;
  }

  get reason(): string {
    return this.#reason;
  }

  get sequence(): number {
    return this.#sequence;
  }

  get primarySequence(): number {
    return Math.max(this.#sequence, this.#primarySequence);
  }

  /** All that the primary had so many milliseconds ago is here; undefined before it was so once. */
  get lagMs(): number | undefined {
    if (this.#caughtUpMs === undefined) return undefined;
    return Math.max(0, this.#options.clock.monotonicMs() - this.#caughtUpMs);
  }

  /** The primary's log ended so, at a time of the monotonic clock. */
  noteEnd(sequence: number, monotonicMs: number): void {
    this.#primarySequence = Math.max(this.#primarySequence, sequence);
    if (this.#sequence >= sequence) this.#caughtUpMs = Math.max(this.#caughtUpMs ?? monotonicMs, monotonicMs);
    else if (this.#marks.length < marksMax) this.#marks.push({ sequence, monotonicMs });
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#ended;
  }

  async #run(): Promise<void> {
    const { clock, random, onFailure } = this.#options;
    const { signal } = this.#closing;
    for (let attempt = 0; !signal.aborted; attempt++) {
      const before = this.#sequence;
      try {
        if (await this.#follow()) return;
      } catch (error) {
        if (signal.aborted) return;
        const failure = toKithError(error);
        if (failure.message !== this.#reason) onFailure(failure);
        // An outage ends by itself; what else is wrong is to be looked at.
        this.#state = failure.retryable || failure.code === "NOT_FOUND" ? "waiting" : "failed";
        this.#reason = failure.message;
      }
      if (this.#sequence > before) attempt = 0;
      await sleep(clock, backoffMs(attempt, retryBackoff, random), signal).catch(() => undefined);
    }
  }

  /** Until the log is sealed (true), this is closed, or something is wrong. */
  async #follow(): Promise<boolean> {
    const { name, theirs, ours, clock } = this.#options;
    const askedMs = clock.monotonicMs();
    const their = await theirs.state(name);
    const own = await this.#ownLog(their);
    this.#moveTo(own.lastSequence);
    this.noteEnd(their.lastSequence, askedMs);
    if ((await ours.sealedAt(name)) !== undefined) return this.#endAtSeal();
    const lastChecksum =
      own.lastSequence >= own.firstSequence ? await ours.checksum(name, own.lastSequence) : undefined;
    if (this.#closing.signal.aborted) return false;
    this.#state = "following";
    this.#reason = "";
    const ended = deferred<boolean>();
    const onClose = (): void => ended.resolve(false);
    this.#closing.signal.addEventListener("abort", onClose, { once: true });
    const subscription = theirs.subscribe(name, {
      ...{ fromSequence: own.lastSequence + 1, incarnation: their.incarnation, lastChecksum },
      onEntries: async (entries) => {
        if (await this.#append(entries)) ended.resolve(this.#endAtSeal());
      },
      onFault: (fault) => ended.reject(faultOf(fault)),
      onError: (error) => ended.reject(toKithError(error)),
    });
    try {
      return await ended.promise;
    } finally {
      this.#closing.signal.removeEventListener("abort", onClose);
      await subscription.close();
    }
  }

  #endAtSeal(): true {
    this.#state = "sealed";
    this.#reason = "";
    this.#marks = [];
    this.#primarySequence = this.#sequence;
    return true;
  }

  /** The log of this cluster: made where it is not there, and begun again where the primary's does not hold what would come next. */
  async #ownLog(their: LogState): Promise<LogState> {
    const { name, ours } = this.#options;
    const begin = { afterSequence: their.firstSequence - 1, incarnation: their.incarnation };
    const own = await ours.create(name, begin);
    const isAnother = own.incarnation !== their.incarnation;
    if (isAnother && their.continues === undefined) {
      throw notTheirs(
        `the primary has another log than the one that is repeated here up to record ${own.lastSequence}`,
      );
    }
    if (!isAnother && own.lastSequence > their.lastSequence) {
      throw notTheirs(`the primary's log ends at ${their.lastSequence}, and has come to ${own.lastSequence} here`);
    }
    if (!isAnother && own.lastSequence + 1 >= their.firstSequence) return own;
    const reason = isAnother
      ? "the primary's log was mended, and is another one"
      : `the primary's log begins at ${their.firstSequence}, and has come to ${own.lastSequence} here`;
    this.#options.onRestart(reason);
    await ours.remove(name);
    return ours.create(name, begin);
  }

  /** Whether the last of them was the seal. */
  async #append(entries: readonly LogEntry[]): Promise<boolean> {
    const { name, ours } = this.#options;
    const seal = entries.find(({ isSeal }) => isSeal === true);
    // What stands behind a seal counts for nothing.
    const records = seal === undefined ? entries : entries.filter(({ sequence }) => sequence < seal.sequence);
    try {
      if (this.#isCautious) for (const each of records) await this.#appendOne(each);
      else await Promise.all(records.map((each) => this.#appendOne(each)));
      if (seal !== undefined) await ours.seal(name, seal.data, { expectedSequence: seal.sequence });
      this.#isCautious = false;
    } catch (error) {
      if (toKithError(error).code === "REVISION_MISMATCH") this.#isCautious = true;
      throw error;
    }
    const last = seal ?? records.at(-1);
    if (last !== undefined) this.#moveTo(last.sequence);
    return seal !== undefined;
  }

  async #appendOne({ sequence, data, traceparent }: LogEntry): Promise<void> {
    const options = { messageId: `mirror-${sequence}`, expectedSequence: sequence };
    await this.#options.ours.append(this.#options.name, data, {
      ...options,
      ...(traceparent !== undefined && { traceparent }),
    });
  }

  #moveTo(sequence: number): void {
    this.#sequence = sequence;
    while (this.#marks[0] !== undefined && this.#marks[0].sequence <= sequence) {
      this.#caughtUpMs = this.#marks.shift()?.monotonicMs;
    }
  }
}

function notTheirs(what: string): KithError {
  return new KithError(
    "FAILED_PRECONDITION",
    `${what}: it is left as it is. Where the primary is right, delete the collection's log in this cluster's NATS, and it is begun again`,
  );
}

function faultOf(fault: LogFault): KithError {
  if (fault.kind === "gap") {
    return new KithError(
      "LOG_UNAVAILABLE",
      `the primary's log lacks the records from ${fault.expected} to ${fault.found - 1}`,
    );
  }
  return notTheirs(`the primary's log holds other records than were repeated here up to ${fault.lastRead}`);
}
