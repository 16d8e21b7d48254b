import { ROOT_CONTEXT, trace as otelTrace } from "@opentelemetry/api";
import { expect, test } from "vitest";
import { createLogger, type LoggerOptions } from "./logger.js";

function capture(options: Partial<LoggerOptions> = {}) {
  const lines: string[] = [];
  const logger = createLogger({ level: "info", nodeId: "n1", write: (line) => lines.push(line), ...options });
  return { lines, logger };
}

test("JSON lines with node, fields, causes and the ids of the trace", () => {
  const { lines, logger } = capture();
  const traceId = "0af7651916cd43dd8448eb211c80319c";
  const spanId = "b7ad6b7169203331";
  const otel = otelTrace.setSpanContext(ROOT_CONTEXT, { traceId, spanId, traceFlags: 1 });
  logger.debug("not shown");
  logger.warn("slow", { ms: 12, trace: { otel }, error: new Error("outer", { cause: new Error("inner") }) });
  expect(lines).toHaveLength(1);
  const record = JSON.parse(lines[0] as string) as Record<string, unknown>;
  expect(record).toMatchObject({ level: "warn", node: "n1", msg: "slow", ms: 12, trace_id: traceId, span_id: spanId });
  expect(JSON.stringify(record["error"])).toMatch(/outer.*inner/s);
  expect(String(record["time"])).toMatch(/^\d{4}-\d\d-\d\dT.*Z$/);
});

test("readable lines for people; a sink gets the same records", () => {
  const seen: string[] = [];
  const { lines, logger } = capture({ pretty: true, onRecord: ({ message }) => seen.push(message) });
  logger.info("listening", { port: 7070, roles: ["router"] });
  logger.debug("not shown");
  expect(lines.join("")).toMatch(/^\d\d:\d\d:\d\d\.\d{3} INFO {2}n1 listening port=7070 roles=\["router"\]\n$/);
  expect(seen).toEqual(["listening"]);
});
