import { type Clock, KithError, toKithError } from "../../libs/base/index.js";
import type { CollectionsView } from "../../libs/cluster/index.js";
import type { Continuation, Log, LogState } from "../../libs/log/index.js";
import type { Collection, ReplicaStatus, ShardId, ShardPlacement } from "../../libs/model/index.js";
import { counterOf, type Logger } from "../../libs/telemetry/index.js";
import { decodeRecord } from "../../libs/wire/index.js";

export interface LogMenderOptions {
  collections: CollectionsView;
  log: Log;
  statusOf: (node: string, replica: ShardId) => Promise<ReplicaStatus>;
  isHolder: () => boolean;
  clock: Clock;
  logger: Logger;
}

/** What was seen of a log. */
interface Seen {
  incarnation: string;
  lastSequence: number;
  /** When it was compared with its replicas last, in monotonic milliseconds. */
  comparedMs: number;
}

/** What is wrong with a log, and what it is to go on from. */
export interface LogLoss {
  why: string;
  /** Undefined where it is to begin anew. */
  continuation: Continuation | undefined;
  /** Records that replicas have not applied may be among those that are dropped. */
  carriesSinceMs: number | undefined;
}

/** A log that looks as before is compared with its replicas so often. */
const compareEveryMs = 15_000;
/** A log must look wrong for so long before it is mended: a new leader answers before it has applied all that is committed. */
const confirmMs = 8_000;
/** A replica whose node cannot be asked is waited for so long: it may have more than the others. */
const silenceMs = 60_000;
/** Records of a log that is mended that are kept, in bytes: they are in memory for a moment. */
const carriedBytesMax = 256 * 1024 * 1024;

const mended = counterOf("kith.log.mended");

/**
 * What is wrong with a log, by what its replicas have applied; undefined where it leads on from the one that has most, or no replica knows better.
 *
 * @param state undefined where the log is gone
 */
export async function findLoss(
  state: LogState | undefined,
  replicas: readonly ReplicaStatus[],
  checksumAt: (sequence: number) => Promise<number | undefined>,
): Promise<LogLoss | undefined> {
  const knowing = replicas.filter(({ incarnation = "" }) => incarnation !== "");
  const following = knowing.filter(({ incarnation }) => incarnation === state?.incarnation);
  // Where a replica has applied records of the log as it is, that is the log: others copy this replica.
  const hasFollower = following.some(({ appliedSequence }) => appliedSequence > 0);
  const best = furthest(hasFollower ? following : knowing.filter((each) => !following.includes(each)));
  if (best === undefined) {
    if (state !== undefined) return undefined;
    return { why: "it is gone, and nothing of it was applied", continuation: undefined, carriesSinceMs: undefined };
  }
  const { incarnation = "", appliedSequence: sequence, lastChecksum, newestAppendedAtMs } = best;
  const from = { incarnation, sequence, ...(lastChecksum !== undefined && { checksum: lastChecksum }) };
  if (state === undefined) {
    const continuation = { ...from, first: sequence + 1 };
    return { why: "it is gone", continuation, carriesSinceMs: undefined };
  }
  const { firstSequence, lastSequence, continues } = state;
  const isTakenUp = continues?.sequence === sequence && continues.incarnation === incarnation;
  // The replica is about to find out.
  if (isTakenUp && continues.first === firstSequence) return undefined;
  const behind = { ...from, first: Math.max(sequence, lastSequence) + 1 };
  const carriesSinceMs = newestAppendedAtMs ?? 0;
  if (incarnation !== state.incarnation) {
    return { why: `it is another one than replicas have read`, continuation: behind, carriesSinceMs };
  }
  if (lastSequence < sequence) {
    return { why: `it ends at ${lastSequence}, and was put back`, continuation: behind, carriesSinceMs };
  }
  if (firstSequence > sequence + 1) {
    const why = `it begins at ${firstSequence}: the records in between are lost, as no replica has applied them`;
    return { why, continuation: { ...from, first: firstSequence }, carriesSinceMs: undefined };
  }
  if (lastChecksum === undefined || sequence < firstSequence) return undefined;
  const checksum = await checksumAt(sequence);
  if (checksum === undefined || checksum === lastChecksum) return undefined;
  const why = `it was put back and went on: it holds another record ${sequence} than replicas have applied`;
  return { why, continuation: behind, carriesSinceMs };
}

function furthest(replicas: readonly ReplicaStatus[]): ReplicaStatus | undefined {
  return replicas.reduce<ReplicaStatus | undefined>(
    (best, each) => (best === undefined || each.appliedSequence > best.appliedSequence ? each : best),
    undefined,
  );
}

/**
 * Mends logs that are not what replicas have read: deleted, put back to an earlier state, made anew, or trimmed past all replicas. The log goes on from the
 * replica that has applied most, with sequences above all that were seen. What was written since to a log that had been put back is appended again.
 */
export class LogMender {
  readonly #options: LogMenderOptions;
  readonly #seen = new Map<string, Seen>();
  /** By shard: since when its log looks wrong, and why. */
  readonly #wrongSinceMs = new Map<string, number>();
  /** By replica: since when it cannot be asked. */
  readonly #silentSinceMs = new Map<string, number>();

  constructor(options: LogMenderOptions) {
    this.#options = options;
  }

  forget(): void {
    this.#seen.clear();
    this.#wrongSinceMs.clear();
    this.#silentSinceMs.clear();
  }

  /** Whether some log looks wrong, and is to be looked at again soon. */
  get doubts(): boolean {
    return this.#wrongSinceMs.size > 0;
  }

  /** Forgets what was seen of shards that are no more. */
  keep(shards: ReadonlySet<string>): void {
    for (const map of [this.#seen, this.#wrongSinceMs])
      for (const key of map.keys()) if (!shards.has(key)) map.delete(key);
  }

  /** The log's state where it is well, as far as can be told; undefined where it is not, or is gone. */
  async look(record: Collection, shard: ShardPlacement): Promise<LogState | undefined> {
    const { log, clock } = this.#options;
    const name = { collectionId: record.id, shard: shard.shard };
    const key = `${record.id}/${shard.shard}`;
    const state = await stateOf(log, name);
    const nowMs = clock.monotonicMs();
    const seen = this.#seen.get(key);
    const isAsBefore =
      state !== undefined &&
      seen !== undefined &&
      state.incarnation === seen.incarnation &&
      state.lastSequence >= seen.lastSequence &&
      nowMs - seen.comparedMs < compareEveryMs &&
      !this.#wrongSinceMs.has(key);
    if (isAsBefore) {
      this.#seen.set(key, { ...seen, lastSequence: state.lastSequence });
      return state;
    }
    const statuses = await this.#statuses(name, shard, nowMs);
    if (statuses === undefined) return undefined;
    const loss = await findLoss(state, statuses, (sequence) => log.checksum(name, sequence));
    if (loss === undefined) {
      this.#wrongSinceMs.delete(key);
      if (state === undefined) return undefined;
      const { incarnation, lastSequence } = state;
      this.#seen.set(key, { incarnation, lastSequence, comparedMs: nowMs });
      return state;
    }
    const sinceMs = this.#wrongSinceMs.get(key) ?? nowMs;
    this.#wrongSinceMs.set(key, sinceMs);
    if (nowMs - sinceMs >= confirmMs) await this.#mend(record, name, state, loss);
    return undefined;
  }

  /** What the replicas say; undefined while one is waited for that cannot be asked. */
  async #statuses(name: ShardId, { replicas }: ShardPlacement, nowMs: number): Promise<ReplicaStatus[] | undefined> {
    let isComplete = true;
    const asked = replicas.map(async ({ node }) => {
      const key = `${name.collectionId}/${name.shard}/${node}`;
      try {
        const status = await this.#options.statusOf(node, name);
        // One that is still opened does not know yet what it has.
        if (status.state === "initializing" && status.incarnation === "")
          throw new KithError("SHARD_UNAVAILABLE", "it is being opened");
        this.#silentSinceMs.delete(key);
        return [status];
      } catch {
        const sinceMs = this.#silentSinceMs.get(key) ?? nowMs;
        this.#silentSinceMs.set(key, sinceMs);
        if (nowMs - sinceMs < silenceMs) isComplete = false;
        return [];
      }
    });
    const statuses = (await Promise.all(asked)).flat();
    return isComplete && statuses.length > 0 ? statuses : undefined;
  }

  async #mend(record: Collection, name: ShardId, state: LogState | undefined, loss: LogLoss): Promise<void> {
    const { log, logger, isHolder, collections } = this.#options;
    const { continuation, carriesSinceMs, why } = loss;
    const { sequence, first } = continuation ?? { sequence: 0, first: 1 };
    const carried =
      state === undefined || carriesSinceMs === undefined ? [] : await this.#later(name, state, carriesSinceMs);
    const isThere = collections.findById(record.id)?.state === "ready";
    if (!isHolder() || !isThere) return;
    if (continuation === undefined) await log.create(name);
    else await log.mend(name, continuation);
    // Under ids of their own place, so that a coordinator that takes over in the middle does not append them twice.
    for (const [i, data] of carried.entries()) {
      await log.append(name, data, { messageId: `mended-${first}-${i}` });
    }
    const key = `${name.collectionId}/${name.shard}`;
    this.#wrongSinceMs.delete(key);
    this.#seen.delete(key);
    mended.add(1, { "kith.collection": record.name, "kith.shard": name.shard });
    logger.error(
      `log alarm: the log of shard ${name.shard} of "${record.name}" was not what replicas have read: ${why}. It goes on from what they have, ` +
        `which is record ${sequence}, with ${first}; ${carried.length} records that were written since then were appended again`,
      { collection: record.name, shard: name.shard, alarm: "log_mended" },
    );
  }

  /** The last records of the log that were written after a time, by the clocks of routers, in order. */
  async #later(name: ShardId, { firstSequence, lastSequence }: LogState, sinceMs: number): Promise<Uint8Array[]> {
    const { log, logger } = this.#options;
    const found: Uint8Array[] = [];
    let sizeBytes = 0;
    for (let sequence = lastSequence; sequence >= firstSequence; sequence--) {
      try {
        const data = await log.read(name, sequence);
        if (data === undefined) continue;
        if (decodeRecord(data).appendedAtMs <= sinceMs) break;
        found.push(data);
        sizeBytes += data.byteLength;
      } catch (error) {
        const { code, message } = toKithError(error);
        if (code !== "CORRUPT_DATA") throw error;
        logger.error(`record ${sequence} of a log that is mended cannot be read, and is dropped: ${message}`, { code });
      }
      if (sizeBytes > carriedBytesMax) {
        throw new KithError(
          "FAILED_PRECONDITION",
          `more than ${carriedBytesMax} bytes were written to the log since it was put back: restore the log as it was, or remove the replicas that have read it`,
        );
      }
    }
    return found.reverse();
  }
}

async function stateOf(log: Log, name: ShardId): Promise<LogState | undefined> {
  try {
    return await log.state(name);
  } catch (error) {
    if (toKithError(error).code === "NOT_FOUND") return undefined;
    throw error;
  }
}
