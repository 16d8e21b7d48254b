import { JetStreamApiError } from "@nats-io/jetstream";
import { errors } from "@nats-io/transport-node";

/** Why a request to NATS had no answer. */
export type OutageReason =
  /** There is no connection, or it broke while the request was under way: its outcome is unknown. */
  | "disconnected"
  /** Nobody listens for the request: JetStream is starting, has no leader, or the stream does not exist. */
  | "no-responders"
  /** No answer in time, or none yet: the outcome is unknown. */
  | "timeout"
  /** The connection was closed for good. */
  | "closed";

/** A request failed because the server is away, not because it refused. */
export class NatsOutage extends Error {
  override readonly name = "NatsOutage";
  readonly reason: OutageReason;

  constructor(reason: OutageReason, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.reason = reason;
  }
}

/** Error numbers of the JetStream API that this project acts on (errors.json of the server). */
export const apiCode = {
  streamNotFound: 10059,
  streamNameExists: 10058,
  consumerNotFound: 10014,
  noMessage: 10037,
  wrongLastSequence: 10071,
  wrongLastSequenceUnknown: 10164,
  insufficientResources: 10023,
  storageExceeded: 10047,
  memoryExceeded: 10028,
  accountResourcesExceeded: 10002,
  storeFailed: 10077,
  noPeers: 10005,
  replicasNotSupported: 10074,
} as const;

/** The server is there but not ready: it starts, elects a leader, or lost its quorum. */
const transientCodes: ReadonlySet<number> = new Set([10008, 10009, 10039, 10076, 10118, 10194]);

/**
 * The servers of a cluster are still agreeing on an earlier publish of the same message id, and may yet drop it: asked again later,
 * they tell its sequence.
 */
const duplicateInProcess = 10158;

/** Turns what the NATS library throws into a NatsOutage where the server was away; other errors are given back as they are. */
export function classify(error: unknown): unknown {
  if (error instanceof NatsOutage) return error;
  if (error instanceof JetStreamApiError) {
    if (error.code === duplicateInProcess) return new NatsOutage("timeout", error.message, error);
    return transientCodes.has(error.code) ? new NatsOutage("no-responders", error.message, error) : error;
  }
  if (error instanceof errors.TimeoutError) return new NatsOutage("timeout", "no answer in time", error);
  if (error instanceof errors.ClosedConnectionError || error instanceof errors.DrainingConnectionError) {
    return new NatsOutage("closed", "the connection to NATS is closed", error);
  }
  if (error instanceof errors.NoRespondersError) return new NatsOutage("no-responders", "nobody answers", error);
  if (error instanceof errors.RequestError) {
    const nobody = error.isNoResponders();
    return new NatsOutage(nobody ? "no-responders" : "disconnected", error.message, error);
  }
  // The JetStream library names "no responders" so.
  if (error instanceof Error && error.name === "JetStreamNotEnabled") {
    return new NatsOutage("no-responders", "JetStream does not answer", error);
  }
  return error;
}

/** The number of a JetStream API error, or undefined for any other. */
export function apiErrorCode(error: unknown): number | undefined {
  return error instanceof JetStreamApiError ? error.code : undefined;
}
