import { expect, test, vi } from "vitest";
import { SeededRandom, systemRuntime } from "../base/index.js";
import { ManualClock } from "../base/testing.js";
import { counterOf, histogramOf, metricsEnabled, registerGauge } from "./metrics.js";
import { setupTelemetry } from "./setup.js";
import { noTrace, SpanCollector, startSpan, traceFrom, traceparentOf } from "./span.js";

test("while nobody asks, a span is one shared object and a context is not made", () => {
  const clock = vi.spyOn(performance, "now");
  const one = startSpan(noTrace, "a", { role: "server", attributes: { a: 1 } });
  const two = startSpan(one.trace, "b");
  one.set("x", 1);
  one.end(new Error("no effect"));
  expect(two).toBe(one);
  expect(two.trace).toBe(noTrace);
  expect(traceFrom("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")).toBe(noTrace);
  expect(traceparentOf(one.trace)).toBe("");
  expect(clock).not.toHaveBeenCalled();
  clock.mockRestore();
});

test("instruments drop what they get while metrics are off", async () => {
  const callback = vi.fn();
  const stop = registerGauge("kith.replica.lag", callback);
  counterOf("kith.write.points").add(5);
  histogramOf("kith.query.duration").record(1);
  expect(metricsEnabled()).toBe(false);
  expect(callback).not.toHaveBeenCalled();
  stop();
  const telemetry = await setupTelemetry({ ...systemRuntime, serviceName: "kith", nodeId: "n", version: "0", env: {} });
  expect(telemetry).toMatchObject({ traces: false, metrics: false, onLogRecord: undefined });
  await telemetry.shutdown();
});

test("a collector gets the tree of a call, with its node, bounded", () => {
  const collector = new SpanCollector("n1", systemRuntime);
  const root = startSpan({ ...noTrace, collector, spanId: "caller" }, "root", { attributes: { k: 10 } });
  const child = startSpan(root.trace, "child");
  child.end(new Error("boom"));
  child.end();
  root.end();
  expect(
    collector.spans.map(({ name, parentSpanId, node, attributes }) => [name, parentSpanId, node, attributes]),
  ).toEqual([
    ["child", root.trace.spanId, "n1", { "error.type": "INTERNAL" }],
    ["root", "caller", "n1", { k: "10" }],
  ]);
  for (let i = 0; i < 2 * SpanCollector.maxSpans; i++) startSpan(root.trace, "many").end();
  expect(collector.spans).toHaveLength(SpanCollector.maxSpans);
});

test("collected spans have the times and ids of the injected clock and chance", () => {
  const clock = new ManualClock();
  const spans = () => {
    const collector = new SpanCollector("n1", { clock, random: new SeededRandom(7) });
    const span = startSpan({ ...noTrace, collector }, "step");
    clock.jump(2.5);
    span.end();
    return collector.spans;
  };
  const startUs = clock.nowMs() * 1000;
  const [first] = spans();
  expect(first).toMatchObject({ startUs, durationUs: 2500, spanId: new SeededRandom(7).bytes(8).toString("hex") });
  expect(spans()).toEqual([{ ...first, startUs: startUs + 2500 }]);
});
