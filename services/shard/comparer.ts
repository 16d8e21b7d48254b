import { type Clock, sleep, toKithError } from "../../libs/base/index.js";
import type { Replica } from "../../libs/engine/index.js";
import type { Collection, ReplicaStatus, ShardId } from "../../libs/model/index.js";
import type { Logger } from "../../libs/telemetry/index.js";

/** A replica of this node that is open, with where the others are. */
export interface Compared {
  name: ShardId;
  collection: string;
  replica: Replica;
  others: readonly string[];
}

export interface ComparerOptions {
  replicas: () => readonly Compared[];
  statusOf: (node: string, replica: ShardId) => Promise<ReplicaStatus>;
  clock: Clock;
  logger: Logger;
  signal: AbortSignal;
  /** How often each replica is compared with the others, and how often all that it holds is read. Milliseconds. */
  compareEveryMs?: number;
  verifyEveryMs?: number;
}

const defaultCompareEveryMs = 30_000;
const defaultVerifyEveryMs = 24 * 3_600_000;
/** What is read in a second while a replica is verified: about a fiftieth of what a disk gives. */
const verifiedBytesPerSecond = 16 * 1024 * 1024;

/** What a replica is found to be beside the others. */
export type Verdict = "equal" | "minority" | "majority" | "undecided";

/** Digests of the latest record that the replica and others are known to have applied, compared. */
export function compareDigests(own: ReplicaStatus, others: readonly ReplicaStatus[]): Verdict {
  let equal = 0;
  const different = new Map<string, number>();
  for (const other of others) {
    const digest = commonDigests(own, other);
    if (digest === undefined) continue;
    if (digest.own === digest.other) equal++;
    else different.set(digest.other, (different.get(digest.other) ?? 0) + 1);
  }
  if (different.size === 0) return "equal";
  const most = Math.max(...different.values());
  if (most > equal + 1) return "minority";
  return equal + 1 > most ? "majority" : "undecided";
}

/** Of the latest sequence of which both tell; undefined where there is none, or the digests say nothing about each other. */
function commonDigests(own: ReplicaStatus, other: ReplicaStatus): { own: string; other: string } | undefined {
  if (own.digestFormat !== other.digestFormat || own.incarnation !== other.incarnation) return undefined;
  if (own.state !== "active" || other.state !== "active") return undefined;
  const known = new Map(marksOf(other).map(({ sequence, digest }) => [sequence, digest]));
  const common = marksOf(own).find(({ sequence }) => known.has(sequence));
  if (common === undefined) return undefined;
  return { own: common.digest, other: known.get(common.sequence) as string };
}

/** The newest first. */
function marksOf({ appliedSequence, digest, digestMarks = [] }: ReplicaStatus): { sequence: number; digest: string }[] {
  return [{ sequence: appliedSequence, digest }, ...[...digestMarks].reverse()];
}

/**
 * Compares the replicas of this node with the others of their shards, one after the other. One that most others contradict, or that disagrees with itself,
 * stops answering and takes a copy of another. Once a day each reads all that it holds, whether others contradict it or not.
 */
export class Comparer {
  readonly #options: ComparerOptions;
  /** By replica: when it was verified last, in monotonic milliseconds. */
  readonly #verifiedMs = new WeakMap<Replica, number>();
  readonly #told = new WeakSet<Replica>();
  readonly #running: Promise<void>;

  constructor(options: ComparerOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  /** Resolves when it has ended, after its signal. */
  async close(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, signal, replicas, logger, compareEveryMs = defaultCompareEveryMs } = this.#options;
    while (!signal.aborted) {
      // Only the host's closing cuts the wait short, and the loop's condition sees it.
      await sleep(clock, compareEveryMs, signal).catch(() => undefined);
      for (const compared of replicas()) {
        if (signal.aborted) return;
        try {
          await this.#compare(compared);
        } catch (error) {
          const { code, message } = toKithError(error);
          const fields = { collection: compared.collection, shard: compared.name.shard, code };
          if (!signal.aborted) logger.warn(`a replica could not be compared with the others: ${message}`, fields);
        }
      }
    }
  }

  async #compare({ name, collection, replica, others }: Compared): Promise<void> {
    const { clock, statusOf, logger, verifyEveryMs = defaultVerifyEveryMs } = this.#options;
    if (replica.state !== "active") return;
    const answers = await Promise.all(others.map((node) => statusOf(node, name).catch(() => undefined)));
    const told = answers.filter((each) => each !== undefined);
    const verdict = compareDigests(replica.status(), told);
    if (verdict === "minority") {
      replica.quarantine("most other replicas have other content after the same record", others.length > 0);
      return;
    }
    const nowMs = clock.monotonicMs();
    if (!this.#verifiedMs.has(replica)) this.#verifiedMs.set(replica, nowMs);
    const isDue = nowMs - (this.#verifiedMs.get(replica) ?? nowMs) >= verifyEveryMs;
    if (verdict !== "undecided" && !isDue) return;
    this.#verifiedMs.set(replica, nowMs);
    const wrong = await replica.verify((sizeBytes) =>
      sleep(clock, (sizeBytes / verifiedBytesPerSecond) * 1_000, this.#options.signal),
    );
    if (wrong !== undefined) replica.quarantine(`it disagrees with itself: ${wrong}`, others.length > 0);
    else if (verdict === "undecided" && !this.#told.has(replica)) {
      this.#told.add(replica);
      logger.error(
        `replica alarm: another replica of shard ${name.shard} of "${collection}" has other content after the same record, and this one agrees with itself: ` +
          "where the other one does so too, compare both, and remove the one that is wrong",
        { collection, shard: name.shard, alarm: "diverged_undecided" },
      );
    }
  }
}

/** Where the other replicas of a shard are, by the catalog; those that are joining have no say. */
export function othersOf(record: Collection | undefined, shard: number, self: string): string[] {
  const placed = record?.shards.find((each) => each.shard === shard)?.replicas ?? [];
  return placed.filter(({ node, state }) => node !== self && state !== "joining").map(({ node }) => node);
}
