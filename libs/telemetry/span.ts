import {
  type Attributes,
  context as otelContext,
  type Context,
  isSpanContextValid,
  type Link,
  propagation,
  ROOT_CONTEXT,
  type Span as OtelSpan,
  SpanKind,
  type SpanOptions as OtelSpanOptions,
  SpanStatusCode,
  trace as otelTrace,
  TraceFlags,
  type Tracer,
} from "@opentelemetry/api";
import { errorTable, assert, type Clock, type Random, type Runtime, toKithError } from "../base/index.js";

/** One finished step of a call, as it is shown to the person who asked for a trace. */
export interface CollectedSpan {
  spanId: string;
  parentSpanId: string;
  name: string;
  /** Microseconds since the Unix epoch. */
  startUs: number;
  durationUs: number;
  attributes: Record<string, string>;
  node: string;
}

/** Collects the spans of one call that asked for its trace; bounded. */
export class SpanCollector {
  static readonly maxSpans = 512;
  readonly spans: CollectedSpan[] = [];
  readonly clock: Clock;
  readonly #random: Random;

  constructor(
    readonly node: string,
    { clock, random }: Runtime,
  ) {
    this.clock = clock;
    this.#random = random;
  }

  /** Of a span that has no id from OpenTelemetry. */
  newSpanId(): string {
    return this.#random.bytes(8).toString("hex");
  }

  add(span: CollectedSpan): void {
    if (this.spans.length < SpanCollector.maxSpans) this.spans.push(span);
  }
}

/** Where a span hangs: the OpenTelemetry context and, for a call that asked for its trace, the collector. */
export interface TraceContext {
  readonly otel: Context;
  readonly collector?: SpanCollector;
  readonly spanId?: string;
  /** A span of this process decided that the trace is not recorded: its children need not ask again. */
  readonly unsampled?: boolean;
  /** No span yet, but the trace that begins here was drawn to be recorded. */
  readonly drawn?: boolean;
}

export const noTrace: TraceContext = { otel: ROOT_CONTEXT };

/**
 * For calls that nobody asked for and that repeat for ever, such as polls: a trace that is not sampled, here and (by its traceparent)
 * in the processes that they reach.
 */
export const untraced: TraceContext = {
  otel: otelTrace.setSpanContext(ROOT_CONTEXT, {
    traceId: "00000000000000000000000000000001",
    spanId: "0000000000000001",
    traceFlags: TraceFlags.NONE,
  }),
  unsampled: true,
};

export interface Span {
  /** The context for spans below this one. */
  readonly trace: TraceContext;
  set(name: string, value: string | number | boolean): void;
  /** Ends the span; with an error it is marked as failed. Ending twice has no effect. */
  end(error?: unknown): void;
}

/** A span that nobody sees; those below it hang where it would. */
class SilentSpan implements Span {
  constructor(readonly trace: TraceContext) {}
  set(): void {
    // Nobody sees it.
  }
  end(): void {
    // Nobody sees it.
  }
}

const noSpan = new SilentSpan(noTrace);

export type SpanRole = "internal" | "client" | "server" | "producer" | "consumer";
const kinds: Record<SpanRole, SpanKind> = {
  internal: SpanKind.INTERNAL,
  client: SpanKind.CLIENT,
  server: SpanKind.SERVER,
  producer: SpanKind.PRODUCER,
  consumer: SpanKind.CONSUMER,
};

let tracer: Tracer | undefined;
let rootRatio = 1;
/** Of those who enabled tracing. */
let chance: Random | undefined;

/**
 * Called by the set-up when a tracer provider is registered; until then spans cost a branch.
 *
 * @param random draws which traces are recorded, and the ids of those that are not; ids of recorded ones are OpenTelemetry's
 * @param ratio share of the traces that begin here which are recorded. Drawn here and not by a sampler: with 1 %, asking the
 * tracer for each query that is not recorded cost 1.7 µs, and its garbage as much again (bench:tracing)
 */
export function enableTracing(random: Random, ratio = 1): void {
  tracer = otelTrace.getTracer("kith");
  chance = random;
  rootRatio = ratio;
}

/** Another share of the traces that begin here. */
export function sampleTraces(ratio: number): void {
  rootRatio = ratio;
}

export function disableTracing(): void {
  tracer = undefined;
  rootRatio = 1;
}

function random(): Random {
  assert(chance !== undefined, "a trace is recorded or not only once tracing was enabled");
  return chance;
}

/**
 * A trace that is not recorded, and all spans of it: its ids are made, or read, when a log line or another process needs them.
 * One object for a whole call, so that a call costs what it costs without tracing.
 */
class UnrecordedTrace implements TraceContext, Span {
  readonly unsampled = true;
  #traceparent: string | undefined;
  #otel: Context | undefined;

  /** @param traceparent where the trace comes from another process */
  constructor(traceparent?: string) {
    this.#traceparent = traceparent;
  }

  get traceparent(): string {
    this.#traceparent ??= `00-${random().bytes(16).toString("hex")}-${random().bytes(8).toString("hex")}-00`;
    return this.#traceparent;
  }

  get otel(): Context {
    this.#otel ??= propagation.extract(ROOT_CONTEXT, { traceparent: this.traceparent });
    return this.#otel;
  }

  get trace(): this {
    return this;
  }

  set(): void {
    // Nobody sees it.
  }

  end(): void {
    // Nobody sees it.
  }
}

export interface SpanOptions {
  role?: SpanRole;
  attributes?: Attributes;
  /** traceparents of spans that led to this one without being its parent. */
  links?: readonly string[];
}

/** Starts a span below `parent`. Nearly free where tracing is off, or the trace is not recorded, and nobody collects. */
export function startSpan(parent: TraceContext, name: string, options?: SpanOptions): Span {
  if (tracer === undefined) return parent.collector === undefined ? noSpan : new ActiveSpan(parent, name, options);
  if (parent instanceof UnrecordedTrace) return parent;
  if (parent.unsampled === true) return unrecorded(parent, name, options);
  if (parent.otel === ROOT_CONTEXT && parent.drawn !== true && !draw()) {
    const trace = new UnrecordedTrace();
    if (parent.collector === undefined) return trace;
    return unrecorded({ ...parent, otel: trace.otel, unsampled: true }, name, options);
  }
  const otel = tracer.startSpan(name, otelOptions(options), parent.otel);
  if (otel.isRecording()) return new ActiveSpan(parent, name, options, otel);
  return unrecorded({ ...parent, otel: otelTrace.setSpan(parent.otel, otel), unsampled: true }, name, options);
}

/** Whether a trace that begins here is recorded. */
function draw(): boolean {
  return rootRatio >= 1 || random().float() < rootRatio;
}

function unrecorded(parent: TraceContext, name: string, options: SpanOptions | undefined): Span {
  return parent.collector === undefined ? new SilentSpan(parent) : new ActiveSpan(parent, name, options);
}

const internalOptions = { kind: SpanKind.INTERNAL };

function otelOptions(options: SpanOptions | undefined): OtelSpanOptions {
  if (options === undefined) return internalOptions;
  return {
    kind: kinds[options.role ?? "internal"],
    ...(options.attributes && { attributes: options.attributes }),
    ...(options.links && { links: options.links.flatMap(linkOf) }),
  };
}

class ActiveSpan implements Span {
  readonly trace: TraceContext;
  readonly #otel: OtelSpan | undefined;
  readonly #parent: TraceContext;
  readonly #name: string;
  /** Monotonic; 0 where nobody collects. */
  readonly #startMs: number;
  readonly #attributes: Record<string, string> = {};
  #ended = false;

  constructor(parent: TraceContext, name: string, options: SpanOptions | undefined, otel?: OtelSpan) {
    this.#parent = parent;
    this.#otel = otel;
    this.#name = name;
    this.#startMs = parent.collector?.clock.monotonicMs() ?? 0;
    const context = otel === undefined ? parent.otel : otelTrace.setSpan(parent.otel, otel);
    if (parent.collector === undefined) {
      this.trace = { otel: context };
      return;
    }
    for (const [key, value] of Object.entries(options?.attributes ?? {})) this.#attributes[key] = String(value);
    const spanId = otel?.spanContext().spanId ?? parent.collector.newSpanId();
    this.trace = { otel: context, collector: parent.collector, spanId, unsampled: parent.unsampled === true };
  }

  set(name: string, value: string | number | boolean): void {
    this.#otel?.setAttribute(name, value);
    if (this.trace.collector) this.#attributes[name] = String(value);
  }

  end(error?: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    if (error !== undefined) {
      const { code, message } = toKithError(error);
      // What is wrong with a request quotes it, and so values that belong into no trace.
      const isOfRequest = errorTable[code].httpStatus === 400;
      this.#otel?.setStatus({ code: SpanStatusCode.ERROR, message: isOfRequest ? code : message });
      this.set("error.type", code);
    }
    this.#otel?.end();
    const { collector } = this.trace;
    if (collector === undefined) return;
    const { clock } = collector;
    collector.add({
      spanId: this.trace.spanId ?? "",
      parentSpanId: this.#parent.spanId ?? "",
      name: this.#name,
      startUs: Math.round((clock.originMs + this.#startMs) * 1000),
      durationUs: Math.max(0, Math.round((clock.monotonicMs() - this.#startMs) * 1000)),
      attributes: this.#attributes,
      node: collector.node,
    });
  }
}

/** Runs `body` within a span that ends with it. */
export async function inSpan<T>(
  parent: TraceContext,
  name: string,
  options: SpanOptions | undefined,
  body: (span: Span) => Promise<T>,
): Promise<T> {
  const span = startSpan(parent, name, options);
  try {
    const result = await body(span);
    span.end();
    return result;
  } catch (error) {
    span.end(error);
    throw error;
  }
}

/** The W3C traceparent of a context; "" where nothing is traced. */
export function traceparentOf(trace: TraceContext): string {
  if (tracer === undefined) return "";
  if (trace instanceof UnrecordedTrace) return trace.traceparent;
  const carrier: Record<string, string> = {};
  propagation.inject(trace.otel, carrier);
  return carrier["traceparent"] ?? "";
}

const unsampledParent = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-00$/;
const drawnTrace: TraceContext = { otel: ROOT_CONTEXT, drawn: true };

/**
 * The context behind a traceparent that came with a call; where none came, a trace begins. What is not recorded is known here
 * already, so that all of the call has one context. `parentSpanId` seeds the collected tree across processes.
 */
export function traceFrom(traceparent: string, collector?: SpanCollector, parentSpanId?: string): TraceContext {
  if (tracer !== undefined && rootRatio < 1 && collector === undefined) {
    if (traceparent === "") return draw() ? drawnTrace : new UnrecordedTrace();
    if (unsampledParent.test(traceparent)) return new UnrecordedTrace(traceparent);
  }
  const otel =
    tracer !== undefined && traceparent !== "" ? propagation.extract(ROOT_CONTEXT, { traceparent }) : ROOT_CONTEXT;
  if (collector === undefined) return otel === ROOT_CONTEXT ? noTrace : { otel };
  return { otel, collector, ...(parentSpanId && { spanId: parentSpanId }) };
}

/** The same place in the trace, for a call that asked for what is below it. */
export function collecting({ otel, drawn = false }: TraceContext, collector: SpanCollector): TraceContext {
  return { otel, drawn, collector };
}

function linkOf(traceparent: string): Link[] {
  const context = otelTrace.getSpanContext(propagation.extract(otelContext.active(), { traceparent }));
  return context && isSpanContextValid(context) ? [{ context }] : [];
}
