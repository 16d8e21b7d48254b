import type { Cancellation } from "../base/index.js";
import type { TraceContext } from "../telemetry/index.js";
import type { CallAccess } from "./access.js";
import type { CallContext } from "./context.js";

/** The same call, hung below another span. The signal stays lazy: most calls never ask for it. */
export function childCall(call: CallContext, trace: TraceContext): CallContext {
  return trace === call.trace ? call : new ChildCall(call, trace);
}

class ChildCall implements CallContext {
  readonly #parent: CallContext;

  constructor(
    parent: CallContext,
    readonly trace: TraceContext,
  ) {
    this.#parent = parent;
  }

  get signal(): AbortSignal | undefined {
    return this.#parent.signal;
  }

  get cancellation(): Cancellation | undefined {
    return this.#parent.cancellation ?? this.#parent.signal;
  }

  get access(): CallAccess | undefined {
    return this.#parent.access;
  }

  get deadlineMs(): number | undefined {
    return this.#parent.deadlineMs;
  }
}
