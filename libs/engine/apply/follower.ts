import { backoffMs, deferred, sleep, toKithError } from "../../base/index.js";
import type { Log, LogState, LogSubscription } from "../../log/index.js";
import type { ShardId } from "../../model/index.js";
import { Applier } from "./applier.js";
import { gapFault, logFault, recordFault, ReplicaFault, textOf } from "../replica/faults.js";
import { goesOnFrom, isBehindMend } from "../recover/known-past.js";
import { noteIdentity, takeUp, writeIncarnation } from "../replica/identity.js";
import type { OpenReplica } from "../replica/open-replica.js";

/** How often a log is looked for that is to be made. */
const ownLogEveryMs = 20;
/** Reads of one place of the log that go wrong before the replica takes it that the log is like that. */
const wrongReadsMax = 4;

export interface FollowerOptions {
  log: Log;
  name: ShardId;
  retryInitialMs: number;
  retryMaxMs: number;
  /** Called when it is known up to where the log went when the replica came to it. */
  onTarget(lastSequence: number): void;
  /** The log cannot be reached; tried again. */
  onUnreachable(error: unknown): void;
  /** A record came damaged, or not at all; read again. */
  onWrongRead(fault: ReplicaFault): void;
}

/**
 * Follows the log with an open replica until the open replica stops; rejects with the fault when something is wrong. A log that is
 * away is waited for. A record that comes damaged or does not come is read again some times, with pauses: memory or
 * transport may have been at fault, and nothing of it was applied.
 */
export async function followLog(replica: OpenReplica, options: FollowerOptions): Promise<void> {
  const applier = new Applier(replica);
  let wrongReads = { at: -1, count: 0 };
  for (let attempt = 0; !replica.stopped.aborted; attempt++) {
    try {
      if (replica.sealedAt !== undefined) {
        if (replica.identity.follows === undefined) {
          options.onTarget(replica.sealedAt);
          return await untilStopped(replica);
        }
        await takeOwnLog(replica);
      }
      const state = await options.log.state(followedName(replica, options.name));
      await meetLog(replica, state);
      options.onTarget(state.lastSequence);
      attempt = 0;
      await subscribe(replica, applier, options);
    } catch (error) {
      if (replica.fault !== undefined) throw replica.fault;
      if (replica.stopped.aborted) return;
      if (await isOwnLogToCome(replica, error)) continue;
      const fault = faultOfLog(replica, error);
      if (fault === undefined) options.onUnreachable(error);
      else {
        const at = replica.appliedSequence;
        wrongReads = { at, count: at === wrongReads.at ? wrongReads.count + 1 : 1 };
        if (!mayPass(fault) || wrongReads.count === wrongReadsMax) throw replica.fail(fault);
        attempt = wrongReads.count - 1;
        // Nothing to alarm anybody with the first times: with its collection a log is removed before its replicas are.
        if (fault.kind !== "log_removed") options.onWrongRead(fault);
      }
      const { clock, random } = replica.context;
      const pause = { initialMs: options.retryInitialMs, maxMs: options.retryMaxMs };
      await sleep(clock, backoffMs(attempt, pause, random), replica.stopped).catch((stopped: unknown) => {
        // Only the end of the open replica cuts the wait short, and the loop's condition sees it.
        if (!replica.stopped.aborted) throw stopped;
      });
    }
  }
}

/** The log that an open replica follows: its shard's own, or that of the shard that this one comes from. */
export function followedName({ identity }: Pick<OpenReplica, "identity">, name: ShardId): ShardId {
  return identity.follows === undefined ? name : { ...name, shard: identity.follows.shard };
}

/** Nothing comes any more. */
function untilStopped({ stopped }: OpenReplica): Promise<void> {
  return new Promise((resolve) => {
    if (stopped.aborted) resolve();
    else stopped.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** The log that was followed is at its end, and all of it applied: from here on the shard's own is. */
async function takeOwnLog(replica: OpenReplica): Promise<void> {
  await writeIncarnation(replica.context.directory, "");
  // In one step with the identity: who follows nobody and is at its seal has no more to come.
  replica.sealedAt = undefined;
  replica.lastChecksum = undefined;
  // On the disk with all that was applied: nothing else has it once the log that was followed is removed.
  await noteIdentity(replica, { follows: undefined, incarnation: "" });
}

/** Whether the shard's own log is still to be made, by whoever has sealed the one that was followed. Waits a little, then. */
async function isOwnLogToCome(
  { identity, appliedSequence, context, stopped }: OpenReplica,
  error: unknown,
): Promise<boolean> {
  const isToCome = toKithError(error).code === "NOT_FOUND" && identity.incarnation === "" && appliedSequence > 0;
  if (isToCome) await sleep(context.clock, ownLogEveryMs, stopped).catch(() => undefined);
  return isToCome;
}

/** What is wrong with the log; undefined where it is only away. */
function faultOfLog(replica: OpenReplica, error: unknown): ReplicaFault | undefined {
  if (error instanceof ReplicaFault) return error;
  const { code } = toKithError(error);
  if (code === "CORRUPT_DATA") return recordFault(replica.appliedSequence + 1, error);
  if (code !== "NOT_FOUND" || replica.identity.incarnation === "") return undefined;
  if (replica.identity.follows !== undefined) {
    const message = `the log of the shard that this one comes from is gone, and was not read to its end: ${textOf(error)}`;
    return new ReplicaFault("log_removed", "copy", message, error);
  }
  return new ReplicaFault(
    "log_removed",
    "copy",
    `the log of this shard is gone: ${textOf(error)}; unless the collection was deleted it is made anew from what replicas have`,
    error,
  );
}

/**
 * Whether reading again may help. A gap that is in the log itself, and another incarnation, are found by `meetLog`, and are
 * final; that the log is gone is not believed at once, as a new leader may not know of it yet.
 */
function mayPass({ kind }: ReplicaFault): boolean {
  return ["log_gap", "log_rewound", "log_removed", "record_corrupt"].includes(kind);
}

/** Compares the log with what the open replica has applied; remembers the log's identity at the first contact. */
async function meetLog(replica: OpenReplica, state: LogState): Promise<void> {
  const known = {
    incarnation: replica.identity.incarnation,
    lastApplied: replica.appliedSequence,
    lastChecksum: replica.lastChecksum,
  };
  if (goesOnFrom(known, state)) await takeUp(replica, state);
  else if (isBehindMend(known, state)) throw replica.fail(gapFault(known.lastApplied + 1, state.firstSequence));
  const { identity, appliedSequence } = replica;
  const { incarnation, firstSequence, lastSequence } = state;
  const rewound = logFault({ kind: "rewound", lastRead: appliedSequence, lastSequence, incarnation });
  if (identity.incarnation !== "" && identity.incarnation !== incarnation) throw replica.fail(rewound);
  // Asked again before it is believed: a new leader answers before it has applied all that is committed.
  if (lastSequence < appliedSequence) throw rewound;
  if (firstSequence > appliedSequence + 1) throw replica.fail(gapFault(appliedSequence + 1, firstSequence));
  if (identity.incarnation !== "") return;
  await writeIncarnation(replica.context.directory, incarnation);
  await noteIdentity(replica, { incarnation });
}

async function subscribe(replica: OpenReplica, applier: Applier, options: FollowerOptions): Promise<void> {
  const ended = deferred<void>();
  let subscription: LogSubscription | undefined;
  const onStop = (): void => ended.resolve();
  replica.stopped.addEventListener("abort", onStop, { once: true });
  try {
    subscription = options.log.subscribe(followedName(replica, options.name), {
      fromSequence: replica.appliedSequence + 1,
      incarnation: replica.identity.incarnation,
      lastChecksum: replica.lastChecksum,
      onEntries: async (entries) => {
        await applier.apply(entries);
        if (replica.sealedAt !== undefined) ended.resolve();
      },
      onFault: (fault) => ended.reject(logFault(fault)),
      onError: (error) => ended.reject(error),
    });
    if (replica.stopped.aborted) ended.resolve();
    await ended.promise;
  } finally {
    replica.stopped.removeEventListener("abort", onStop);
    await subscription?.close();
  }
}
