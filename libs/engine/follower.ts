import { backoffMs, deferred, sleep, toKithError } from "../base/index.js";
import type { Log, LogName, LogState, LogSubscription } from "../log/index.js";
import { Applier } from "./apply.js";
import { gapFault, logFault, recordFault, ReplicaFault, textOf } from "./faults.js";
import { noteIdentity, writeIncarnation } from "./identity.js";
import type { Session } from "./session.js";

/** Reads of one place of the log that go wrong before the replica takes it that the log is like that. */
const wrongReadsMax = 4;

export interface FollowerOptions {
  log: Log;
  name: LogName;
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
 * Follows the log with a session until the session stops; rejects with the fault when something is wrong. A log that is
 * away is waited for. A record that comes damaged or does not come is read again some times, with pauses: memory or
 * transport may have been at fault, and nothing of it was applied.
 */
export async function followLog(session: Session, options: FollowerOptions): Promise<void> {
  const applier = new Applier(session);
  let wrongReads = { at: -1, count: 0 };
  for (let attempt = 0; !session.stopped.aborted; attempt++) {
    try {
      const state = await options.log.state(options.name);
      await meetLog(session, state);
      options.onTarget(state.lastSequence);
      attempt = 0;
      await subscribe(session, applier, options);
    } catch (error) {
      if (session.fault !== undefined) throw session.fault;
      if (session.stopped.aborted) return;
      const fault = faultOfLog(session, error);
      if (fault === undefined) options.onUnreachable(error);
      else {
        const at = session.appliedSequence;
        wrongReads = { at, count: at === wrongReads.at ? wrongReads.count + 1 : 1 };
        if (!mayPass(fault) || wrongReads.count === wrongReadsMax) throw session.fail(fault);
        attempt = wrongReads.count - 1;
        options.onWrongRead(fault);
      }
      const waitMs = backoffMs(attempt, { initialMs: options.retryInitialMs, maxMs: options.retryMaxMs });
      await sleep(waitMs, session.stopped).catch((stopped: unknown) => {
        // Only the end of the session cuts the wait short, and the loop's condition sees it.
        if (!session.stopped.aborted) throw stopped;
      });
    }
  }
}

/** What is wrong with the log; undefined where it is only away. */
function faultOfLog(session: Session, error: unknown): ReplicaFault | undefined {
  if (error instanceof ReplicaFault) return error;
  const { code } = toKithError(error);
  if (code === "CORRUPT_DATA") return recordFault(session.appliedSequence + 1, error);
  if (code !== "NOT_FOUND" || session.identity.incarnation === "") return undefined;
  return new ReplicaFault(
    "log_removed",
    "none",
    `the log of this shard is gone: ${textOf(error)}; if the collection was deleted, remove this replica`,
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

/** Compares the log with what the session has applied; remembers the log's identity at the first contact. */
async function meetLog(session: Session, state: LogState): Promise<void> {
  const { identity, appliedSequence } = session;
  const { incarnation, firstSequence, lastSequence } = state;
  const rewound = logFault({ kind: "rewound", lastRead: appliedSequence, lastSequence, incarnation });
  if (identity.incarnation !== "" && identity.incarnation !== incarnation) throw session.fail(rewound);
  // Asked again before it is believed: a new leader answers before it has applied all that is committed.
  if (lastSequence < appliedSequence) throw rewound;
  if (firstSequence > appliedSequence + 1) throw session.fail(gapFault(appliedSequence + 1, firstSequence));
  if (identity.incarnation !== "") return;
  await writeIncarnation(session.context.directory, incarnation);
  await noteIdentity(session, { incarnation });
}

async function subscribe(session: Session, applier: Applier, options: FollowerOptions): Promise<void> {
  const ended = deferred<void>();
  let subscription: LogSubscription | undefined;
  const onStop = (): void => ended.resolve();
  session.stopped.addEventListener("abort", onStop, { once: true });
  try {
    subscription = options.log.subscribe(options.name, {
      fromSequence: session.appliedSequence + 1,
      incarnation: session.identity.incarnation,
      lastChecksum: session.lastChecksum,
      onEntries: (entries) => applier.apply(entries),
      onFault: (fault) => ended.reject(logFault(fault)),
      onError: (error) => ended.reject(error),
    });
    if (session.stopped.aborted) ended.resolve();
    await ended.promise;
  } finally {
    session.stopped.removeEventListener("abort", onStop);
    await subscription?.close();
  }
}
