import { hostPort, type Runtime } from "../../libs/base/index.js";
import type { NodeConfig } from "../../libs/config/index.js";
import { type RpcServer } from "../../libs/rpc/server/index.js";
import { type Logger, type Telemetry } from "../../libs/telemetry/index.js";
import type { Closers } from "./closers.js";
import type { NodeTls } from "./tls.js";
import type { Router } from "../router/index.js";
import { listen } from "./listen.js";

/** What the doors beside the public gRPC service are opened with. */
interface DoorsOptions {
  config: NodeConfig;
  router: Router;
  /** The public gRPC service, which is not listening yet. */
  server: RpcServer;
  tls: NodeTls | undefined;
  telemetry: Telemetry;
  logger: Logger;
  runtime: Runtime;
  closers: Closers;
  version: string;
  ready: () => boolean;
}

/** Addresses are host:port, "" where there is no such door. */
interface Doors {
  httpAddress: string;
  qdrantAddress: string;
  qdrantGrpcAddress: string;
  qdrantServer: RpcServer | undefined;
}

/** Gives the router's services to the public server, and to REST and Qdrant's API where they are set; these listen when it resolves. */
export async function openDoors(options: DoorsOptions): Promise<Doors> {
  const { config, router, server, tls, telemetry, logger, runtime, closers, version, ready } = options;
  const doors: Doors = { httpAddress: "", qdrantAddress: "", qdrantGrpcAddress: "", qdrantServer: undefined };
  const { http, qdrant } = config;
  const hasDoors = [http.port, qdrant.httpPort, qdrant.grpcPort].some((port) => port !== undefined);
  if (!hasDoors) {
    router.serve(server);
    return doors;
  }
  const { createQdrantGrpc, LocalBackend, metricsFor, QdrantDoor, RestDoor } = await import("../gateway/index.js");
  const backend = new LocalBackend();
  const common = {
    ...{ backend, logger, version, tls: tls?.server, ...runtime },
    ready,
    metrics: metricsFor(backend, telemetry.prometheusPage),
  };
  const rest = http.port === undefined ? undefined : new RestDoor({ ...common, corsOrigins: http.corsOrigins });
  const other = qdrant.httpPort === undefined ? undefined : new QdrantDoor(common);
  const services = qdrant.grpcPort === undefined ? undefined : createQdrantGrpc({ ...common, node: config.nodeId });
  for (const door of [rest, other, services]) if (door !== undefined) tls?.addServer(door);
  // One set of handlers behind all doors.
  router.serve({
    addService(definition, handlers) {
      server.addService(definition, handlers);
      backend.addService(definition, handlers);
    },
    get unsentBytes() {
      // Asked for by each query.
      const ofOthers = (rest?.unsentBytes ?? 0) + (other?.unsentBytes ?? 0) + (services?.unsentBytes ?? 0);
      return server.unsentBytes + ofOthers + backend.gathered.bytes;
    },
  });
  if (rest !== undefined) {
    doors.httpAddress = hostPort(http.host, await rest.listen(http.host, http.port ?? 0));
    closers.add("REST service", () => rest.drain(closers.drainMs()));
  }
  if (other !== undefined) {
    doors.qdrantAddress = hostPort(qdrant.host, await other.listen(qdrant.host, qdrant.httpPort ?? 0));
    closers.add("service of Qdrant's API", () => other.drain(closers.drainMs()));
  }
  if (services !== undefined) {
    const place = { host: qdrant.host, port: qdrant.grpcPort ?? 0 };
    doors.qdrantGrpcAddress = await listen(services, place, closers, "Qdrant's");
    doors.qdrantServer = services;
  }
  return doors;
}
