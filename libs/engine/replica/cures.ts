import { backoffMs, KithError, type Runtime, sleep, toKithError } from "../../base/index.js";
import type { Log } from "../../log/index.js";
import type { CopyProgress, FollowedShard, ShardId } from "../../model/index.js";
import type { StoreOptions } from "../../storage/index.js";
import { isPastOf, type KnownPast } from "../recover/known-past.js";
import { copyPeer, type CopyWanted, type PeerCopy } from "../recover/resync.js";
import { textOf } from "./faults.js";
import { keepContent, removeContent } from "./layout.js";
import type { Alarm, Peers } from "./options.js";

export interface CureOptions extends Runtime {
  directory: string;
  /** Of the store that a copy fills. */
  store?: Partial<StoreOptions> | undefined;
  log: Log;
  name: ShardId;
  /** What it follows in place of a log of its own. */
  follows: () => FollowedShard | undefined;
  /** The sequence behind which its log begins. */
  beginsBehind: number;
  /** Undefined where the shard has no other replicas. */
  peers: Peers | undefined;
  retryInitialMs: number;
  retryMaxMs: number;
  pace?: ((sizeBytes: number, signal: AbortSignal) => Promise<void>) | undefined;
  /** Aborted when the replica is closed. */
  signal: AbortSignal;
  onAlarm(alarm: Alarm): void;
  /** What the replica has read of its log; undefined where that cannot be told, since its store cannot be read. */
  knownPast(): Promise<KnownPast | undefined>;
}

/** How a copy is tried for. */
interface Persistence {
  /** The log may be mended: it is looked at again soon, also where nobody can give a copy. */
  waitsForLog: boolean;
  keepsPart: boolean;
  knownPast: () => Promise<KnownPast | undefined>;
  /** Whether to leave it after so many attempts. */
  gaveUp: (attempt: number) => Promise<boolean>;
}

/** Before the log is used in the place of a copy. */
const startAttempts = 3;

/** Pauses grow so often where the log may be mended. */
const mendPauses = 2;

const nobody: Peers = {
  fetch: () => Promise.reject(new KithError("SHARD_UNAVAILABLE", "the shard has no other replica")),
};

export interface CopyEvents {
  /** What is being copied, and how far. */
  onProgress(text: string, progress: CopyProgress): void;
  /** Nobody could give a copy; tried again. */
  onFailure(error: unknown): void;
}

/** How a replica that has stopped gets its content back: from its log, or from another replica. */
export class Cures {
  readonly #options: CureOptions;

  constructor(options: CureOptions) {
    this.#options = options;
  }

  /** Waits before the next attempt, the longer the more there were. False when the replica was closed meanwhile. */
  async pause(attempt: number): Promise<boolean> {
    const { clock, random, signal, retryInitialMs, retryMaxMs } = this.#options;
    const ms = backoffMs(attempt, { initialMs: retryInitialMs, maxMs: retryMaxMs }, random);
    return sleep(clock, ms, signal).then(
      () => true,
      () => false,
    );
  }

  /** Empties the directory if the log, of this incarnation, can give everything back; otherwise says why not. */
  async wipe(incarnation: string): Promise<string | undefined> {
    const { signal } = this.#options;
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        return await this.#tryWipe(incarnation);
      } catch (error) {
        if (toKithError(error).code === "NOT_FOUND") return "the log is gone";
        this.#options.onAlarm({ kind: "log_unreachable", message: textOf(error) });
        if (!(await this.pause(attempt))) break;
      }
    }
    return "the replica is closing";
  }

  async #tryWipe(incarnation: string): Promise<string | undefined> {
    const { log, directory } = this.#options;
    const name = this.#logName;
    const state = await log.state(name);
    if (state.incarnation !== incarnation) return "the log is not known to be the one it was filled from";
    if (state.firstSequence !== this.#options.beginsBehind + 1) {
      return `the log begins at ${state.firstSequence} and cannot give everything back; build this replica anew from another one`;
    }
    const unreadable = await unreadableFor(() => log.read(name, state.firstSequence));
    if (unreadable !== undefined) return unreadable;
    const known = await this.#options.knownPast();
    if (known !== undefined && !(await isPastOf(known, state, (at) => log.checksum(name, at)))) {
      return `the log ends at ${state.lastSequence} and is not the one of which ${known.lastApplied} records were applied`;
    }
    // What nobody can read may be more than the log has.
    if (known === undefined) await keepContent(directory);
    await removeContent(directory);
    return undefined;
  }

  /**
   * Puts another replica's content in the place of this one's; tries until one gives it, or the log that this one has read is
   * back, or mended ("back"). Undefined where nobody can be asked, or the replica was closed.
   */
  async copy(wanted: CopyWanted, waitsForLog: boolean, events: CopyEvents): Promise<PeerCopy | "back" | undefined> {
    return this.#tryCopy(wanted, events, {
      waitsForLog,
      keepsPart: false,
      knownPast: () => this.#options.knownPast(),
      gaveUp: () => Promise.resolve(false),
    });
  }

  /**
   * A first content for a replica that has none. Undefined where there is nothing to copy, where the log can give everything and nobody gives
   * a copy after some attempts, or where the replica was closed.
   */
  async start(events: CopyEvents): Promise<PeerCopy | undefined> {
    if (await this.#isLogEmpty()) return undefined;
    const wanted = { minSequence: 0, unlessBack: false };
    const copy = await this.#tryCopy(wanted, events, {
      waitsForLog: false,
      keepsPart: true,
      knownPast: () => Promise.resolve(undefined),
      gaveUp: async (attempt) => attempt >= startAttempts && (await this.#isLogWhole()),
    });
    return copy === "back" ? undefined : copy;
  }

  async #tryCopy(
    wanted: CopyWanted,
    events: CopyEvents,
    { waitsForLog, keepsPart, knownPast, gaveUp }: Persistence,
  ): Promise<PeerCopy | "back" | undefined> {
    const { signal } = this.#options;
    const peers = this.#options.peers ?? (waitsForLog ? nobody : undefined);
    if (peers === undefined) return undefined;
    const common = { ...this.#options, keepsPart, onProgress: events.onProgress.bind(events) };
    for (let attempt = 0; !signal.aborted; attempt++) {
      const options = { ...common, follows: this.#options.follows(), logName: this.#logName };
      try {
        return (await copyPeer(peers, wanted, await knownPast(), options)) ?? "back";
      } catch (error) {
        if (signal.aborted) break;
        const isCorrupt = toKithError(error).code === "CORRUPT_DATA";
        if (isCorrupt) common.onAlarm({ kind: "copy_corrupt", message: textOf(error) });
        events.onFailure(error);
        const pauses = waitsForLog ? Math.min(attempt, mendPauses) : attempt;
        if ((await gaveUp(attempt + 1)) || !(await this.pause(pauses))) break;
      }
    }
    return undefined;
  }

  /** The log that the replica is to follow, by what the catalog has now. */
  get #logName(): ShardId {
    const { name, follows } = this.#options;
    return { ...name, shard: follows()?.shard ?? name.shard };
  }

  /** Nothing was written yet, as far as the log can tell now. */
  async #isLogEmpty(): Promise<boolean> {
    const { log, beginsBehind } = this.#options;
    return log.state(this.#logName).then(
      ({ lastSequence }) => lastSequence <= beginsBehind,
      // One that begins behind others is made when its replicas are placed.
      (error: unknown) => beginsBehind > 0 && toKithError(error).code === "NOT_FOUND",
    );
  }

  /** The log can give everything, as far as it can tell now. */
  async #isLogWhole(): Promise<boolean> {
    return this.#options.log.state(this.#logName).then(
      ({ firstSequence }) => firstSequence === this.#options.beginsBehind + 1,
      () => false,
    );
  }
}

/** Why the log could give nothing back here though it holds it: its records are encrypted with a key that this node lacks. */
async function unreadableFor(read: () => Promise<unknown>): Promise<string | undefined> {
  try {
    await read();
    return undefined;
  } catch (error) {
    const { code, message } = toKithError(error);
    return code === "FAILED_PRECONDITION" ? message : undefined;
  }
}
