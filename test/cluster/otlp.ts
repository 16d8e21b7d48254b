import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

export interface ExportedSpan {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  links?: { traceId: string; spanId: string }[];
  /** service.instance.id of the process that made it. */
  node: string;
}

export interface ExportedLog {
  message: string;
  /** Empty where the line belongs to no trace. */
  traceId: string;
  spanId: string;
  /** service.instance.id of the process that wrote it. */
  node: string;
}

interface Exporter {
  attributes: { key: string; value: { stringValue?: string } }[];
}

interface ExportBody {
  resourceSpans?: { resource: Exporter; scopeSpans: { spans: Omit<ExportedSpan, "node">[] }[] }[];
  resourceLogs?: {
    resource: Exporter;
    scopeLogs: { logRecords: { body: { stringValue: string }; traceId?: string; spanId?: string }[] }[];
  }[];
}

/** A collector that keeps every span and line of a log that is sent to it by OTLP over HTTP, as JSON. */
export async function startCollector(): Promise<{
  /** What a process needs in its environment to export its spans here. */
  env: Record<string, string>;
  spans: ExportedSpan[];
  logs: ExportedLog[];
  close(): Promise<void>;
}> {
  const spans: ExportedSpan[] = [];
  const logs: ExportedLog[] = [];
  const nodeOf = ({ attributes }: Exporter): string =>
    attributes.find(({ key }) => key === "service.instance.id")?.value.stringValue ?? "";
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const body = JSON.parse(Buffer.concat(chunks).toString()) as ExportBody;
      for (const { resource, scopeSpans } of body.resourceSpans ?? []) {
        const node = nodeOf(resource);
        for (const each of scopeSpans) for (const span of each.spans) spans.push({ ...span, node });
      }
      for (const { resource, scopeLogs } of body.resourceLogs ?? []) {
        const node = nodeOf(resource);
        for (const { logRecords } of scopeLogs) {
          for (const { body: text, traceId = "", spanId = "" } of logRecords) {
            logs.push({ message: text.stringValue, traceId, spanId, node });
          }
        }
      }
      response.setHeader("content-type", "application/json").end("{}");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    env: {
      OTEL_TRACES_EXPORTER: "otlp",
      OTEL_METRICS_EXPORTER: "none",
      OTEL_LOGS_EXPORTER: "none",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_BSP_SCHEDULE_DELAY: "100",
    },
    spans,
    logs,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
