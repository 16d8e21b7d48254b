import { setMaxListeners } from "node:events";
import { context } from "@opentelemetry/api";
import { abortReason, type Clock, KithError, type Random, type Runtime, sleep } from "../base/index.js";
import { type Channel, type ChannelTls, createChannel, unaryCall } from "../rpc/client/index.js";
import type { UnaryDefinition } from "../rpc/common/index.js";
import { type Span, type SpanCollector, startSpan } from "../telemetry/index.js";
import type { ParsePayload } from "./decode.js";
import { Retrier, type RetryOptions } from "./retry.js";
import { hasFiles, noTls, readTls, type TlsOptions } from "./tls.js";
import type { CallOptions } from "./types/calls.js";

export interface TransportOptions extends Runtime {
  target: string;
  tls?: boolean | TlsOptions;
  /** Sent with every call. */
  headers?: Readonly<Record<string, string>>;
  apiKey?: string | (() => string);
  deadlineMs: number;
  retry: RetryOptions;
  parsePayload?: ParsePayload;
}

/** 23 days. Timers of Node end at once beyond 2^31 - 1 ms. */
const deadlineMsMax = 2_000_000_000;

/** A time to wait as timers can take it: Infinity, and all beyond 23 days, become that. INVALID_ARGUMENT for others than positive numbers. */
export function checkWait(ms: number, what: string): number {
  if (typeof ms === "number" && ms > 0) return Math.min(ms, deadlineMsMax);
  throw new KithError("INVALID_ARGUMENT", `${what} is ${ms}; it must be more than 0 milliseconds`, {
    details: { field: what, value: String(ms) },
  });
}

/** What gRPC's metadata carries: printable ASCII. */
const headerText = /^[ -~]*$/;

function checkKey(key: string): string {
  if (typeof key === "string" && headerText.test(key)) return key;
  throw new KithError(
    "INVALID_ARGUMENT",
    "options.apiKey has a character that no key has, such as the end of a line; trim what was read from a file",
    { details: { field: "apiKey" } },
  );
}

function checkHeaders(headers: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  for (const [name, value] of Object.entries(headers)) {
    if (/^[0-9a-z_.-]+$/i.test(name) && typeof value === "string" && headerText.test(value)) continue;
    throw new KithError(
      "INVALID_ARGUMENT",
      `options.headers has ${JSON.stringify(name.slice(0, 64))}, whose name or value cannot be sent: names are letters, digits, "_", "." and "-", values printable ASCII`,
      { details: { field: "headers" } },
    );
  }
  return headers;
}

/** One call as a whole: its span, signal and overall deadline. */
export interface Call {
  readonly span: Span;
  readonly signal: AbortSignal | undefined;
  /** Monotonic milliseconds. */
  readonly endMs: number;
}

/** The channel to the server with what every call shares: deadlines, spans, retries, headers. */
export class Transport {
  readonly channel: Channel;
  readonly retrier: Retrier;
  readonly clock: Clock;
  readonly random: Random;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #apiKey: string | (() => string) | undefined;
  readonly parsePayload: ParsePayload;
  readonly #tls: TlsOptions | undefined;
  readonly #deadlineMs: number;
  readonly #closing = new AbortController();

  constructor(options: TransportOptions) {
    this.clock = options.clock;
    this.random = options.random;
    this.#headers = checkHeaders(options.headers ?? {});
    this.#apiKey = typeof options.apiKey === "string" ? checkKey(options.apiKey) : options.apiKey;
    this.parsePayload = options.parsePayload ?? ((json) => JSON.parse(json) as unknown);
    // Every call in flight listens, as many as there are.
    setMaxListeners(0, this.#closing.signal);
    this.#deadlineMs = checkWait(options.deadlineMs, "deadlineMs");
    this.retrier = new Retrier(options.retry, options, (ms, signal) => this.pause(ms, signal));
    const { tls } = options;
    const shown = tls === true ? {} : tls === false ? undefined : tls;
    this.#tls = shown;
    const tlsOfChannel = shown && (hasFiles(shown) ? () => readTls(shown) : readTls(shown));
    try {
      this.channel = createChannel(options.target, {
        clock: options.clock,
        ...(tlsOfChannel && { tls: tlsOfChannel }),
      });
    } catch (error) {
      throw error instanceof KithError ? error : noTls(error as Error);
    }
  }

  /** As a connection that is made now has it; undefined for plain text. */
  get tls(): ChannelTls | undefined {
    return this.#tls && readTls(this.#tls);
  }

  /** What a call that begins now sends along. */
  get headers(): Readonly<Record<string, string>> {
    const key = this.#apiKey;
    if (key === undefined) return this.#headers;
    return { ...this.#headers, authorization: `Bearer ${typeof key === "string" ? key : checkKey(key())}` };
  }

  get target(): string {
    return this.channel.target;
  }

  /** Aborted when the client is closed. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  close(): void {
    if (this.closing.aborted) return;
    this.#closing.abort(new KithError("CANCELLED", "the client was closed while the call was in flight"));
    this.channel.close();
  }

  /** Runs a call in its span, with its overall deadline. */
  async call<T>(
    name: string,
    options: CallOptions | undefined,
    body: (call: Call) => Promise<T>,
    collector?: SpanCollector,
  ): Promise<T> {
    if (this.closing.aborted) {
      throw new KithError("FAILED_PRECONDITION", "the client is closed; connect() gives a new one");
    }
    const signal = options?.signal;
    if (signal !== undefined && !(signal instanceof AbortSignal)) {
      throw new KithError("INVALID_ARGUMENT", "options.signal is no AbortSignal", { details: { field: "signal" } });
    }
    if (signal?.aborted) throw abortReason(signal);
    if (signal !== undefined) setMaxListeners(0, signal);
    const span = startSpan({ otel: context.active(), ...(collector && { collector }) }, name, { role: "client" });
    try {
      const result = await body({ span, signal, endMs: this.endMs(options?.deadlineMs) });
      span.end();
      return result;
    } catch (error) {
      span.end(error);
      throw error;
    }
  }

  endMs(deadlineMs: number | undefined): number {
    const waitMs = deadlineMs === undefined ? this.#deadlineMs : checkWait(deadlineMs, "deadlineMs");
    return this.clock.monotonicMs() + waitMs;
  }

  /** Waits before the next attempt; rejects with CANCELLED when the client is closed, or with the signal's reason. */
  pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
    return sleep(this.clock, ms, this.#endOf(signal));
  }

  #endOf(signal: AbortSignal | undefined): AbortSignal {
    return signal === undefined ? this.closing : AbortSignal.any([signal, this.closing]);
  }

  /** A call that may be repeated. */
  retried<Req, Res>(method: UnaryDefinition<Req, Res>, request: Req, call: Call): Promise<Res> {
    return this.retrier.run(call, () => this.unary(method, request, call));
  }

  /** One attempt. */
  unary<Req, Res>(method: UnaryDefinition<Req, Res>, request: Req, call: Call): Promise<Res> {
    return unaryCall(this.channel, method, request, {
      signal: this.#endOf(call.signal),
      deadlineMs: call.endMs,
      trace: call.span.trace,
      metadata: this.headers,
    });
  }
}
