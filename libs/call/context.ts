import type { Cancellation } from "../base/index.js";
import type { TraceContext } from "../telemetry/index.js";
import type { CallAccess } from "./access.js";

/** What every call inside Kith carries. */
export interface CallContext {
  /** Aborted when the caller goes away or the deadline passes. */
  readonly signal?: AbortSignal;
  /** The same as `signal`, without the cost of making one; for what runs once for every query. */
  readonly cancellation?: Cancellation;
  /** Monotonic milliseconds of the injected clock at which the call must have ended. */
  readonly deadlineMs?: number;
  readonly trace: TraceContext;
  /** What the caller may do. Missing of what a process asks for itself; no router resolves a collection for a call without it. */
  readonly access?: CallAccess | undefined;
}
