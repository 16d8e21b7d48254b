import type { Attributes } from "@opentelemetry/api";
import { status as grpcStatus } from "@grpc/grpc-js";
import { type Clock, errorTable, KithError, type Runtime, toKithError } from "../../base/index.js";
import { type Histogram, type Logger, metricsEnabled, type Span, type TraceContext } from "../../telemetry/index.js";

const names = new Map<number, string>();
for (const [name, code] of Object.entries(grpcStatus)) if (typeof code === "number") names.set(code, name);

/** The duration metric of one method; attribute objects are made once per method and code. */
export class MethodStats {
  readonly #ok: Attributes;
  readonly #failed = new Map<string, Attributes>();

  constructor(
    /** "kith.v1.Points/Query" */
    readonly method: string,
    readonly duration: Histogram,
    /** The protocol that carries it: "grpc", or "kith" for the link. */
    system = "grpc",
  ) {
    this.#ok = { "rpc.system.name": system, "rpc.method": method, "rpc.response.status_code": "OK" };
  }

  /** `startMs` is 0 where metrics were off when the call began. */
  record(startMs: number, clock: Clock, error?: KithError): void {
    if (startMs === 0 || !metricsEnabled()) return;
    const attributes = error === undefined ? this.#ok : this.#failure(error);
    this.duration.record((clock.monotonicMs() - startMs) / 1000, attributes);
  }

  #failure(error: KithError): Attributes {
    let attributes = this.#failed.get(error.code);
    if (attributes === undefined) {
      const status = names.get(errorTable[error.code].grpcStatus) ?? "UNKNOWN";
      attributes = { ...this.#ok, "rpc.response.status_code": status, "error.type": error.code };
      this.#failed.set(error.code, attributes);
    }
    return attributes;
  }
}

/** Statuses that mean a fault of the server; the others are the client's affair and leave a server's span unmarked. */
const serverFaults = new Set<number>([
  grpcStatus.UNKNOWN,
  grpcStatus.DEADLINE_EXCEEDED,
  grpcStatus.UNIMPLEMENTED,
  grpcStatus.INTERNAL,
  grpcStatus.UNAVAILABLE,
  grpcStatus.DATA_LOSS,
]);

/** Ends the span of a served call as the semantic conventions for gRPC want it. */
export function endServerSpan(span: Span, error?: KithError): void {
  if (error === undefined) {
    span.set("rpc.response.status_code", "OK");
    span.end();
    return;
  }
  const status = errorTable[error.code].grpcStatus;
  span.set("rpc.response.status_code", names.get(status) ?? "UNKNOWN");
  if (serverFaults.has(status)) span.end(error);
  else {
    span.set("error.type", error.code);
    span.end();
  }
}

const grpcInvalidArgument = 3;

/** Warnings of one code that are logged within `warnWindowMs`; the rest is counted. */
const warnBurst = 5;
const warnWindowMs = 10_000;

/** Logs failed calls at the level of their code, and turns what was thrown into what clients may see. */
export class FailureLog {
  readonly #logger: Logger;
  readonly #runtime: Runtime;
  readonly #windows = new Map<string, { startMs: number; logged: number; suppressed: number }>();

  constructor(logger: Logger, runtime: Runtime) {
    this.#logger = logger;
    this.#runtime = runtime;
  }

  /**
   * The error to answer. What is not a KithError is a fault of ours: its text may name files, keys or values of others,
   * so that it goes to the log alone, and the client gets a reference to that line.
   */
  report(thrown: unknown, method: string, trace: TraceContext): KithError {
    const error = toKithError(thrown);
    if (error.code === "INTERNAL" && !(thrown instanceof KithError)) {
      const reference = this.#runtime.random.bytes(4).toString("hex");
      this.#logger.error(`${method} failed: ${error.message}`, { trace, method, reference, error: thrown });
      return new KithError("INTERNAL", `an internal error occurred; the server's log has it as "${reference}"`, {
        details: { reference },
        cause: thrown,
      });
    }
    this.#log(error, method, trace);
    return error;
  }

  #log(error: KithError, method: string, trace: TraceContext): void {
    const level = errorTable[error.code].logLevel;
    if (errorTable[error.code].grpcStatus === grpcInvalidArgument) {
      // What is wrong with a request quotes it: values of payloads, vectors, ids. The caller has been told.
      const { path, field } = error.details;
      const at = path ?? field;
      this.#logger[level](`${method}: ${error.code}`, {
        trace,
        method,
        code: error.code,
        ...(at !== undefined && { at }),
      });
      return;
    }
    const fields = { trace, method, code: error.code, details: error.details };
    if (level === "error") this.#logger.error(`${method}: ${error.message}`, { ...fields, error });
    else if (level !== "warn") this.#logger[level](`${method}: ${error.message}`, fields);
    else {
      const now = this.#runtime.clock.monotonicMs();
      let window = this.#windows.get(error.code);
      if (window === undefined || now - window.startMs >= warnWindowMs) {
        const suppressed = window?.suppressed ?? 0;
        window = { startMs: now, logged: 0, suppressed: 0 };
        this.#windows.set(error.code, window);
        if (suppressed > 0) {
          this.#logger.warn(`${suppressed} more calls failed with ${error.code}`, { code: error.code, suppressed });
        }
      }
      if (window.logged >= warnBurst) window.suppressed++;
      else {
        window.logged++;
        this.#logger.warn(`${method}: ${error.message}`, fields);
      }
    }
  }
}
