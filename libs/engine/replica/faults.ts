import { AssertionError, type ErrorCode, KithError, toKithError } from "../../base/index.js";
import type { LogFault } from "../../log/index.js";

/**
 * What may end a fault: "none": nothing that the replica may decide itself; "reopen": opening the directory again;
 * "rebuild": wiping the directory and replaying the log, if the log still holds everything, else "copy": taking the
 * content of another replica, which has what this one cannot read in the log.
 */
export type Cure = "none" | "reopen" | "rebuild" | "copy";

/** Why a replica stopped. */
export class ReplicaFault extends Error {
  override readonly name = "ReplicaFault";

  constructor(
    readonly kind: string,
    readonly cure: Cure,
    message: string,
    cause?: unknown,
    /** What a copy must have applied to be of help. */
    readonly copyMinSequence = 0,
  ) {
    super(message, cause === undefined ? undefined : { cause });
  }

  /** Of what went wrong; undefined where that is no error of an operation. */
  get code(): ErrorCode | undefined {
    return this.cause === undefined ? undefined : toKithError(this.cause).code;
  }
}

export function recordFault(sequence: number, error: unknown): ReplicaFault {
  return new ReplicaFault(
    "record_corrupt",
    "copy",
    `record ${sequence} of the log cannot be read: ${textOf(error)}; the log itself is damaged, so replaying it does not help: ` +
      "restore the log from a backup or remove the shard",
    error,
    sequence,
  );
}

export function newerFault(sequence: number): ReplicaFault {
  return new ReplicaFault(
    "record_newer",
    "none",
    `record ${sequence} of the log needs a newer version of Kith: it holds an operation that this version does not know. ` +
      "Start this node with the version of the routers, and update shard nodes before routers",
  );
}

export function logFault(fault: LogFault): ReplicaFault {
  if (fault.kind === "gap") return gapFault(fault.expected, fault.found);
  return new ReplicaFault(
    "log_rewound",
    "copy",
    `the log, which ends at ${fault.lastSequence} (incarnation ${fault.incarnation}), is not the one of which this replica has applied ${fault.lastRead} ` +
      "records: the log was restored, emptied or replaced. It is mended when all replicas of the shard can be asked, or this one copies one that follows it",
  );
}

export function gapFault(expected: number, found: number): ReplicaFault {
  return new ReplicaFault(
    "log_gap",
    "copy",
    `the log goes on at ${found}, but this replica needs ${expected}: the records between were trimmed or lost. ` +
      "Build this replica anew from another one, or restore a backup",
    undefined,
    found - 1,
  );
}

/** An operation of the log that is followed was refused, or not: nobody knows any more. */
export function forgottenFault(sequence: number, error: KithError): ReplicaFault {
  return new ReplicaFault(
    "outcome_forgotten",
    "copy",
    `what an operation of record ${sequence} did is not remembered any more by the shard that this one comes from`,
    error,
    sequence,
  );
}

/** Whatever went wrong while applying, reading or recovering. */
export function faultOf(error: unknown): ReplicaFault {
  if (error instanceof ReplicaFault) return error;
  if (error instanceof AssertionError) {
    return new ReplicaFault("assertion", "rebuild", `an invariant is broken: ${error.message}`, error);
  }
  const { code, message } = toKithError(error);
  if (code === "CORRUPT_DATA") return new ReplicaFault("store_corrupt", "rebuild", message, error);
  if (code === "DISK_FULL") return new ReplicaFault("disk_full", "reopen", message, error);
  return new ReplicaFault("io_error", "reopen", message, error);
}

/** What a caller gets from a replica that cannot answer. */
export function unavailable(state: string, reason: string): KithError {
  const message = reason === "" ? `the replica is ${state}` : `the replica is ${state}: ${reason}`;
  return new KithError("SHARD_UNAVAILABLE", message, { retryAfterMs: 200 });
}

export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
