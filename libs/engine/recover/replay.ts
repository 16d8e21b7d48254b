import { deferred, KithError, type Runtime, toKithError, withAbort } from "../../base/index.js";
import type { Log, LogEntry } from "../../log/index.js";
import type { Collection } from "../../model/index.js";
import { PointStore, type StoreOptions } from "../../storage/index.js";
import { decodeRecord } from "../../wire/index.js";
import { Applier } from "../apply/applier.js";
import type { OpenReplica, ReplicaContext } from "../replica/open-replica.js";
import { defaultTuning } from "../replica/options.js";
import { ReplicaContent } from "./content.js";
import { openReplica } from "./recovery.js";

export interface ReplayOptions extends Runtime {
  directory: string;
  store?: Partial<StoreOptions> | undefined;
  collection: Collection;
  shard: number;
  log: Log;
  /**
   * The last record to apply; or all that were written no later than a time, by the clocks of their routers, up to `end` where that is given. Missing: none
   * is applied.
   */
  until?: { sequence: number } | { timeMs: number; end?: number } | undefined;
  signal: AbortSignal;
}

type Until = NonNullable<ReplayOptions["until"]>;

/** It has no maintenance that would flush it. */
const flushNeverMs = 2 ** 31 - 1;

/** The state that the log led to. */
export interface Replayed {
  sequence: number;
  content: ReplicaContent;
  close(): Promise<void>;
}

/**
 * Brings what lies in a directory to a later state, by the records of its log, and goes no further. Without indexes: nobody searches it.
 * FAILED_PRECONDITION where the log does not hold the records.
 */
export async function replay(options: ReplayOptions): Promise<Replayed> {
  const { directory, collection, shard, clock, random, signal } = options;
  const context: ReplicaContext = {
    ...{ directory, clock, random, tuning: defaultTuning, closing: signal },
    flushEveryMs: () => flushNeverMs,
    kindsOf: () => [],
    // Nobody waits for it, and a fault ends the replay.
    onAlarm: () => undefined,
    onApplied: () => undefined,
    onFault: () => undefined,
  };
  const replica = await openReplica(context, collection, shard, (path) => PointStore.open(path, options.store));
  try {
    if (options.until !== undefined) await applyUntil(replica, { ...options, until: options.until });
    const content = await ReplicaContent.take(replica);
    const close = async (): Promise<void> => {
      await content.close();
      await replica.close();
    };
    return { sequence: replica.appliedSequence, content, close };
  } catch (error) {
    await replica.close();
    throw error;
  }
}

async function applyUntil(
  replica: OpenReplica,
  { collection, shard, log, until, signal }: ReplayOptions & { until: Until },
): Promise<void> {
  const name = { collectionId: collection.id, shard };
  const from = replica.appliedSequence + 1;
  const cannot = (why: string): KithError =>
    new KithError(
      "FAILED_PRECONDITION",
      `the log of shard ${shard} does not lead on from sequence ${replica.appliedSequence}: ${why}`,
    );
  // It may go at any moment.
  const orGone = (error: unknown): never => {
    throw toKithError(error).code === "NOT_FOUND" ? cannot("it is gone, as after a split or a merge") : error;
  };
  const { incarnation, firstSequence, lastSequence } = await log.state(name).catch(orGone);
  const isSealed = "timeMs" in until && (await log.sealedAt(name).catch(orGone)) !== undefined;
  if (isSealed) throw cannot("the shard was split or merged, and others have what was written to it later");
  if (incarnation !== replica.identity.incarnation) throw cannot("it is another one by now");
  const wanted = "sequence" in until ? until.sequence : (until.end ?? lastSequence);
  if (wanted > lastSequence) throw cannot(`it ends at ${lastSequence}, and ${wanted} is asked for`);
  if (wanted < from) return;
  if (firstSequence > from) throw cannot(`it begins at ${firstSequence}; what was before has been trimmed`);
  const applier = new Applier(replica);
  const done = deferred<void>();
  const onEntries = async (entries: readonly LogEntry[]): Promise<void> => {
    const taken = entries.slice(0, lengthUntil(entries, until, wanted));
    await applier.apply(taken);
    if (taken.length < entries.length || replica.appliedSequence >= wanted) done.resolve();
  };
  const subscription = log.subscribe(name, {
    ...{ fromSequence: from, incarnation, lastChecksum: replica.lastChecksum, onEntries },
    onFault: (fault) => done.reject(cannot(`it has a ${fault.kind}`)),
    onError: (error) => done.reject(error),
  });
  try {
    await withAbort(done.promise, signal).catch(orGone);
  } finally {
    await subscription.close();
  }
}

/** How many of the entries are no later than what is wanted. */
function lengthUntil(entries: readonly LogEntry[], until: Until, wanted: number): number {
  const end = entries.findIndex(
    ({ sequence, data }) => sequence > wanted || ("timeMs" in until && decodeRecord(data).appendedAtMs > until.timeMs),
  );
  return end === -1 ? entries.length : end;
}
