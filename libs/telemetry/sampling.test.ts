import { propagation, trace as otelTrace } from "@opentelemetry/api";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import {
  AlwaysOnSampler,
  InMemorySpanExporter,
  ParentBasedSampler,
  SimpleSpanProcessor,
  TracerProvider,
} from "@opentelemetry/sdk-trace";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemRandom, systemRuntime } from "../base/index.js";
import {
  collecting,
  disableTracing,
  enableTracing,
  noTrace,
  SpanCollector,
  startSpan,
  traceFrom,
  traceparentOf,
} from "./span.js";

let exporter: InMemorySpanExporter;
const ratio = 0.25;
beforeEach(() => {
  exporter = new InMemorySpanExporter();
  const sampler = new ParentBasedSampler({ root: new AlwaysOnSampler() });
  otelTrace.setGlobalTracerProvider(
    new TracerProvider({ sampler, spanProcessors: [new SimpleSpanProcessor({ exporter })] }),
  );
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  enableTracing(systemRandom, ratio);
});
afterEach(() => {
  disableTracing();
  otelTrace.disable();
  propagation.disable();
});

/** A call with one step, whose second half is in another process. */
function call(from: string, collector?: SpanCollector): string {
  const root = startSpan(traceFrom(from, collector), "root");
  const step = startSpan(root.trace, "step");
  const traceparent = traceparentOf(step.trace);
  startSpan(traceFrom(traceparent), "remote").end();
  step.end();
  root.end();
  return traceparent;
}

function recorded(): Map<string, string[]> {
  const byTrace = new Map<string, string[]>();
  for (const span of exporter.getFinishedSpans()) {
    const { traceId } = span.spanContext();
    byTrace.set(traceId, [...(byTrace.get(traceId) ?? []), span.name]);
  }
  return byTrace;
}

test("a share of the traces is recorded, each of them whole, and each has ids of its own", () => {
  const count = 4_000;
  const traceparents = Array.from({ length: count }, () => call(""));
  for (const names of recorded().values()) expect(names.sort()).toEqual(["remote", "root", "step"]);
  // Five standard deviations.
  const slack = 5 * Math.sqrt(count * ratio * (1 - ratio));
  expect(Math.abs(recorded().size - count * ratio)).toBeLessThan(slack);
  const ids = traceparents.map((traceparent) => /^00-([0-9a-f]{32})-[0-9a-f]{16}-0[01]$/.exec(traceparent)?.[1]);
  expect(ids).not.toContain(undefined);
  expect(new Set(ids).size).toBe(count);
  expect(traceparents.filter((traceparent) => traceparent.endsWith("-01"))).toHaveLength(recorded().size);
});

test("what another process has decided is obeyed, and its ids go on", () => {
  const id = "0af7651916cd43dd8448eb211c80319c";
  for (let i = 0; i < 50; i++) expect(call(`00-${id}-b7ad6b7169203331-00`)).toMatch(new RegExp(`^00-${id}-.*-00$`));
  expect(recorded().size).toBe(0);
  expect(otelTrace.getSpanContext(traceFrom(`00-${id}-b7ad6b7169203331-00`).otel)?.traceId).toBe(id);
  for (let i = 0; i < 50; i++) expect(call(`00-${id}-b7ad6b7169203331-01`)).toMatch(new RegExp(`^00-${id}-.*-01$`));
  expect(recorded().get(id)).toHaveLength(150);
});

test("a call that asks for its trace gets all of it, recorded or not", () => {
  for (let i = 0; i < 120; i++) {
    const collector = new SpanCollector("n", systemRuntime);
    const traceparent = call("", collector);
    expect(collector.spans.map(({ name }) => name)).toEqual(["step", "root"]);
    expect(collector.spans[0]?.parentSpanId).toBe(collector.spans[1]?.spanId);
    expect(traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$/);
  }
  expect(recorded().size).toBeGreaterThan(0);
  expect(recorded().size).toBeLessThan(120);
});

test("a span of a trace that is not recorded tells whose it is", () => {
  enableTracing(systemRandom, 0);
  const { trace } = startSpan(noTrace, "root");
  const [, traceId] = traceparentOf(trace).split("-");
  expect(otelTrace.getSpanContext(trace.otel)?.traceId).toBe(traceId);
  expect(traceparentOf(startSpan(trace, "child").trace)).toBe(traceparentOf(trace));
});

test("a call that is not recorded has one context from its beginning on, so that nothing is made for its steps", () => {
  enableTracing(systemRandom, 0);
  for (const from of ["", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"]) {
    const begun = traceFrom(from);
    const root = startSpan(begun, "root", { role: "server" });
    expect(root.trace).toBe(begun);
    expect(startSpan(root.trace, "step").trace).toBe(begun);
  }
  const odd = "00-00000000000000000000000000000000-b7ad6b7169203331-00";
  expect(traceparentOf(traceFrom(odd))).not.toContain("00000000000000000000000000000000");
});

test("a call that asks for its trace after it began is drawn for once", () => {
  const count = 2_000;
  for (let i = 0; i < count; i++) {
    const collector = new SpanCollector("n", systemRuntime);
    startSpan(collecting(traceFrom(""), collector), "root").end();
    expect(collector.spans).toHaveLength(1);
  }
  const slack = 5 * Math.sqrt(count * ratio * (1 - ratio));
  expect(Math.abs(recorded().size - count * ratio)).toBeLessThan(slack);
});
