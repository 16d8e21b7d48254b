export const qdrantHelp = "answer Qdrant's clients too: REST at this port (default: 6333), gRPC at the next one";
export const qdrantGrpcHelp = "port of Qdrant's gRPC services, with --qdrant";

/** Qdrant's port of its REST API; that of gRPC is the next one. */
const defaultPort = 6333;

export interface QdrantFlags {
  host: string;
  qdrant?: boolean | number;
  qdrantGrpc?: number;
}

/** Qdrant's API of a local server, where it is asked for. */
export function qdrantSettings({ host, qdrant, qdrantGrpc }: QdrantFlags): {
  host: string;
  httpPort?: number;
  grpcPort?: number;
} {
  if (qdrant === undefined || qdrant === false) return { host };
  const httpPort = qdrant === true ? defaultPort : qdrant;
  // Free ones are no neighbours.
  return { host, httpPort, grpcPort: qdrantGrpc ?? (httpPort === 0 ? 0 : httpPort + 1) };
}

/** Where Qdrant's API is, for people. */
export function qdrantLine({ http, grpc }: { http: string; grpc: string }, tls: boolean): string {
  return `Qdrant's API at ${tls ? "https" : "http"}://${http}, its gRPC services at ${grpc}`;
}
