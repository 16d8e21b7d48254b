import { KithError, sleep, toKithError } from "../../libs/base/index.js";
import { Replica } from "../../libs/engine/index.js";
import {
  type Collection,
  type FilePlace,
  type FollowedShard,
  followedBy,
  type OperationOutcome,
  type ShardId,
  type Snapshot,
  type SnapshotWanted,
} from "../../libs/model/index.js";
import { untraced } from "../../libs/telemetry/index.js";
import { type FetchSnapshot, PlacedPeers } from "./peers.js";
import { countHandles, leaveHandles } from "./file-handles.js";
import { Pace } from "./pace.js";
import { Semaphore } from "./semaphore.js";
import { type Hosted } from "./hosted.js";
import type { ShardHostOptions } from "./options.js";
import type { ReplicaFolders } from "./replica-folders.js";

/** What an opener knows of the other replicas of its node. */
interface Here {
  /** Undefined for one that the catalog does not place here, or no more. */
  find: (name: ShardId) => Hosted | undefined;
  snapshot: (name: ShardId, wanted: SnapshotWanted) => Promise<Snapshot>;
}

/** Alarms that are as it should be where a replica joins. */
const expectedOfJoining: ReadonlySet<string> = new Set(["copy_started", "copied"]);
/** A replica that cannot tell what operations did is asked again after so long. */
const tellAgainMs = 100;
const reopenAfterMs = { initial: 500, max: 15_000 };
/**
 * Replicas that are opened at once. Each of them fills a LevelDB's caches and walks through all its points, and loads every
 * vector field on a native thread of its own: hundreds at once would cost more memory and threads than they save time.
 */
export const opensMax = 4;
/** Replicas without anything on disk that are opened at once: they have nothing to walk through or to load. */
export const freshOpensMax = 16;

/** Opens the replicas of a node, with all that they ask other nodes, other replicas of this one, and backups. */
export class ReplicaOpener {
  readonly #options: ShardHostOptions;
  readonly #folders: ReplicaFolders;
  readonly #here: Here;
  readonly #opens = new Semaphore(opensMax);
  readonly #freshOpens = new Semaphore(freshOpensMax);
  readonly #pace: Pace;

  constructor(options: ShardHostOptions, folders: ReplicaFolders, here: Here) {
    this.#options = options;
    this.#folders = folders;
    this.#here = here;
    const { clock, copyBytesPerSecond = () => 0 } = options;
    this.#pace = new Pace(clock, copyBytesPerSecond);
  }

  /** Opens it, and tries again until that works or `ended`. */
  async open(
    name: ShardId,
    record: Collection,
    ended: AbortSignal,
    onFailure: (failure: KithError) => void,
  ): Promise<Replica> {
    const { logger, clock } = this.#options;
    const fields = { collection: record.name, shard: name.shard };
    for (let delayMs = reopenAfterMs.initial; ; delayMs = Math.min(delayMs * 2, reopenAfterMs.max)) {
      try {
        // The place is given back between two tries: one that cannot be opened does not hold up the others.
        const opens = this.#folders.has(name) ? this.#opens : this.#freshOpens;
        return await opens.run(() => this.#tryOpen(name, record), ended);
      } catch (error) {
        if (ended.aborted) throw error;
        const failure = toKithError(error);
        logger.error(`the replica cannot be opened, next try in ${delayMs} ms: ${failure.message}`, fields);
        onFailure(failure);
        await sleep(clock, delayMs, ended);
      }
    }
  }

  async #tryOpen(name: ShardId, record: Collection): Promise<Replica> {
    const { nodeId, collections, log, clock, random, indexes, logger, fetchSnapshot, tuning, store } = this.#options;
    const { flushEveryMs } = this.#options;
    const fields = { collection: record.name, shard: name.shard };
    await leaveHandles(this.#options.countHandles ?? countHandles);
    const startMs = clock.monotonicMs();
    const isJoining = this.#isJoining(name, record);
    const isRestored = record.restoring?.parts !== undefined;
    const follows = (): FollowedShard | undefined => {
      const shards = collections.findById(record.id)?.shards ?? record.shards;
      return followedBy(shards, name.shard);
    };
    const replica = await Replica.open({
      directory: this.#folders.of(name),
      collection: record,
      shard: name.shard,
      log,
      clock,
      random,
      indexes,
      ...(flushEveryMs && { flushEveryMs }),
      ...(tuning && { tuning }),
      ...(store && { store }),
      ...((fetchSnapshot !== undefined || follows() !== undefined || isRestored) && {
        peers: new PlacedPeers(
          nodeId,
          name,
          collections,
          (...asked) => this.#fetchSnapshot(...asked),
          (...asked) => this.#restored(name, ...asked),
        ),
      }),
      follows,
      beginsBehind: record.shards.find(({ shard }) => shard === name.shard)?.origin?.merge?.beginsBehind,
      told: (shard, ...asked) => this.#told({ ...name, shard }, ...asked),
      startsAsCopy: isJoining || isRestored,
      // The collection answers nobody before: nothing is to be spared.
      pace: (sizeBytes, signal) =>
        collections.findById(record.id)?.restoring === undefined
          ? this.#pace.pass(sizeBytes, signal)
          : Promise.resolve(),
      onAlarm: ({ kind, message }) => {
        // The log of a collection that is being deleted may vanish before its replicas are closed.
        if (this.#here.find(name) === undefined) return;
        if ((isJoining || isRestored) && expectedOfJoining.has(kind)) logger.info(message, fields);
        else logger.error(`replica alarm: ${message}`, { ...fields, alarm: kind });
      },
    });
    logger.info(`replica opened in ${Math.round(clock.monotonicMs() - startMs)} ms`, {
      ...fields,
      applied: replica.appliedSequence,
    });
    return replica;
  }

  /** Of another node, or of this one. */
  #fetchSnapshot(...[node, replica, wanted, signal, address]: Parameters<FetchSnapshot>): Promise<Snapshot> {
    const { nodeId, fetchSnapshot } = this.#options;
    if (node === nodeId && address === undefined) return this.#here.snapshot(replica, wanted);
    if (fetchSnapshot !== undefined) return fetchSnapshot(node, replica, wanted, signal, address);
    return Promise.reject(new KithError("SHARD_UNAVAILABLE", `node ${nodeId} knows no other nodes`));
  }

  /** The files that a backup has of the shard; undefined where it is not restored by files, or is by now. */
  #restored(
    { collectionId, shard }: ShardId,
    incarnation: string,
    from: FilePlace | undefined,
  ): Promise<Snapshot> | undefined {
    const { collections, restoredFiles } = this.#options;
    const origin = collections.findById(collectionId)?.restoring;
    return origin?.parts === undefined ? undefined : restoredFiles?.(origin, shard, incarnation, from);
  }

  /** What operations of another shard did, as its replica here tells: a replica that follows that shard is where one of these is. */
  async #told(
    replica: ShardId,
    sequence: number,
    operationIds: readonly Uint8Array[],
    signal: AbortSignal,
  ): Promise<OperationOutcome[]> {
    for (;;) {
      const hosted = this.#here.find(replica);
      if (hosted === undefined) {
        const message = `node ${this.#options.nodeId} has no replica of shard ${replica.shard} any more`;
        return operationIds.map(() => new KithError("FAILED_PRECONDITION", message));
      }
      try {
        if (hosted.open !== undefined) {
          return await hosted.open.wait(sequence, operationIds, { signal, trace: untraced });
        }
      } catch (error) {
        if (signal.aborted) throw error;
      }
      await sleep(this.#options.clock, tellAgainMs, signal);
    }
  }

  #isJoining({ shard }: ShardId, { shards }: Collection): boolean {
    const placed = shards.find((each) => each.shard === shard)?.replicas;
    return placed?.some(({ node, state }) => node === this.#options.nodeId && state === "joining") === true;
  }
}
