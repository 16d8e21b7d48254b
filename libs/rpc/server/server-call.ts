import { setMaxListeners } from "node:events";
import type { Metadata, ServerUnaryCall } from "@grpc/grpc-js";
import { type Cancellation, type Clock, KithError } from "../../base/index.js";
import type { CallAccess, CallContext } from "../../call/index.js";
import type { TraceContext } from "../../telemetry/index.js";
import { deadlinePassed, deadlineTickMs, type Expiring } from "../common/deadline.js";

type AuthContext = ReturnType<ServerUnaryCall<unknown, unknown>["getAuthContext"]>;

/** Where to reach the client of a call: what grpc-js calls have in common. */
export interface IncomingCall {
  readonly metadata: Metadata;
  readonly cancelled: boolean;
  getPeer(): string;
  getAuthContext(): AuthContext;
  getDeadline(): Date | number;
  once(event: "cancelled", listener: () => void): unknown;
}

/**
 * One call that a handler serves. The signal is made when it is first asked for: most handlers of cheap calls never
 * do, and an AbortController with its listener costs more than the rest of this object.
 */
export abstract class ServerCall implements CallContext, Cancellation, Expiring {
  readonly deadlineMs: number;
  /** The server's. */
  readonly clock: Clock;
  sweepSlot = -1;
  /** Set by whoever asks for the caller. */
  access: CallAccess | undefined;
  abstract readonly trace: TraceContext;
  #controller: AbortController | undefined;
  #reason: KithError | undefined;
  #listeners: (() => void)[] | undefined;

  constructor(deadlineMs: number, clock: Clock) {
    this.deadlineMs = deadlineMs;
    this.clock = clock;
  }

  /** Aborted, with a KithError as its reason, when the client goes away, the deadline passes or the server must end. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      // As many listen as the call has parts: one for each replica that it asks.
      setMaxListeners(0, this.#controller.signal);
      if (this.#reason === undefined && this.#listeners === undefined) this.watchCancellation();
      if (this.#reason !== undefined) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  /** This call, as what is needed to be told of its end. */
  get cancellation(): Cancellation {
    return this;
  }

  get reason(): KithError | undefined {
    return this.#reason;
  }

  addEventListener(_type: "abort", listener: () => void): void {
    if (this.#listeners === undefined) {
      this.#listeners = [];
      if (this.#controller === undefined && this.#reason === undefined) {
        this.watchCancellation();
        // Found out only now, so that whoever asked for `aborted` before was told that all is well.
        if (this.#reason !== undefined) queueMicrotask(listener);
      }
    }
    if (this.#reason === undefined) this.#listeners.push(listener);
  }

  removeEventListener(_type: "abort", listener: () => void): void {
    const at = this.#listeners?.indexOf(listener) ?? -1;
    if (at >= 0) this.#listeners?.splice(at, 1);
  }

  /** Starts to call abort() when the client goes away; called once, when somebody asks for the signal or listens. */
  protected abstract watchCancellation(): void;

  abstract expire(): void;

  get aborted(): boolean {
    return this.#reason !== undefined;
  }

  /** Tells the handler to stop. The first reason stays. */
  abort(reason: KithError): void {
    if (this.#reason !== undefined) return;
    this.#reason = reason;
    this.#controller?.abort(reason);
    const listeners = this.#listeners?.splice(0) ?? [];
    for (const listener of listeners) listener();
  }

  /**
   * The client has gone: because its deadline passed, or because it lost interest. Its clock started earlier, and gRPC
   * rounds what is left, so its end may come before ours: within what a deadline may be late here, it was the deadline.
   */
  protected clientGone(): void {
    if (this.deadlineMs <= this.clock.monotonicMs() + deadlineTickMs) this.abort(deadlinePassed());
    else this.abort(new KithError("CANCELLED", "the client cancelled the call"));
  }
}

/** Of the subject of the client's certificate; undefined where there is none, or none that TLS has verified. */
export function commonNameOf(call: Pick<IncomingCall, "getAuthContext">): string | undefined {
  const name: unknown = call.getAuthContext().sslPeerCertificate?.subject.CN;
  return typeof name === "string" ? name : undefined;
}

/** Monotonic deadline of a grpc-js call: the client's, but no later than `maxMs` from now; `defaultMs` where it gave none. */
export function deadlineOf(call: IncomingCall, clock: Clock, nowMs: number, defaultMs: number, maxMs: number): number {
  const wall = call.getDeadline();
  const wallMs = typeof wall === "number" ? wall : wall.getTime();
  if (wallMs === Infinity) return nowMs + defaultMs;
  return nowMs + Math.min(maxMs, wallMs - clock.nowMs());
}
