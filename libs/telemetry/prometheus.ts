import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { PrometheusExporter } from "@opentelemetry/exporter-prometheus";
import { KithError } from "../base/index.js";

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
      exporter.getMetricsRequestHandler(request, response);
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
