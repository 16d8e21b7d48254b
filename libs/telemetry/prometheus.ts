import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { diag } from "@opentelemetry/api";
import { type PrometheusExporter, PrometheusSerializer } from "@opentelemetry/exporter-prometheus";
import type { ResourceMetrics } from "@opentelemetry/sdk-metrics";
import { KithError, toKithError } from "../base/index.js";
import { prometheusName } from "./prometheus-names.js";

/**
 * Serves the exporter's page by a server of our own: the exporter's does not tell its port, nor that it could not have it, nor bounds its
 * clients. INVALID_CONFIG where the address cannot be had.
 */
export async function servePrometheus(
  exporter: PrometheusExporter,
  { host, port }: { host: string; port: number },
): Promise<{ server: Server; url: string }> {
  const server = createServer((request, response) => {
    if (request.method === "GET" && request.url?.split("?")[0] === "/metrics") {
      void answer(exporter, response);
      return;
    }
    response.statusCode = 404;
    response.end("the metrics are at /metrics\n");
  });
  server.maxConnections = 32;
  server.requestTimeout = 10_000;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) => {
      const message = `cannot serve metrics on ${host}:${port}: ${cause.message}; set OTEL_EXPORTER_PROMETHEUS_PORT to another port`;
      reject(new KithError("INVALID_CONFIG", message, { details: { host, port }, cause }));
    });
    server.listen(port, host, resolve);
  });
  // Scraping must not hold a process that is otherwise done.
  server.unref();
  const bound = server.address() as AddressInfo;
  const shown = bound.family === "IPv6" ? `[${bound.address}]` : bound.address;
  return { server, url: `http://${shown}:${bound.port}/metrics` };
}

const serializer = new PrometheusSerializer();

/** The metrics as they are now, in Prometheus's text format. */
export async function prometheusText(exporter: PrometheusExporter): Promise<string> {
  const { resourceMetrics, errors } = await exporter.collect();
  for (const error of errors) diag.error(toKithError(error).message);
  return serializer.serialize(withUnits(resourceMetrics));
}

/** Never rejects. */
async function answer(exporter: PrometheusExporter, response: ServerResponse): Promise<void> {
  try {
    const text = await prometheusText(exporter);
    response.setHeader("content-type", "text/plain; version=0.0.4; charset=utf-8");
    response.end(text);
  } catch (error) {
    response.statusCode = 500;
    response.end(`the metrics could not be collected: ${toKithError(error).message}\n`);
  }
}

/** The exporter leaves units out of names, where Prometheus and its dashboards expect them. */
function withUnits(collected: ResourceMetrics): ResourceMetrics {
  const scopeMetrics = collected.scopeMetrics.map((scope) => ({
    ...scope,
    metrics: scope.metrics.map((metric) => {
      const { name, unit } = metric.descriptor;
      return { ...metric, descriptor: { ...metric.descriptor, name: prometheusName(name, unit) } };
    }),
  }));
  return { ...collected, scopeMetrics };
}
