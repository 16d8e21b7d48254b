import type { Client, ClientReadableStream, ServiceError } from "@grpc/grpc-js";

/**
 * The standard health service as Kubernetes and grpcurl use it, on the bytes of grpc.health.v1: a request is field 1, the
 * service's name; an answer is field 1, the status.
 */
const statuses = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

function encode(service: string): Buffer {
  const name = Buffer.from(service);
  return name.length === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, name.length]), name]);
}

function decode(bytes: Buffer): string {
  return statuses[bytes.length === 0 ? 0 : (bytes[1] ?? 0)] ?? "UNKNOWN";
}

/** The status of a service; "" is the process as a whole. */
export function healthOf(client: Client, service: string): Promise<string> {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      "/grpc.health.v1.Health/Check",
      encode,
      decode,
      service,
      { deadline: Date.now() + 5_000 },
      (error: ServiceError | null, status?: string) => (error ? reject(error) : resolve(status ?? "")),
    );
  });
}

/** Everything that Watch says, in order. */
export function watchHealth(client: Client, service: string): { seen: string[]; stop(): void } {
  const seen: string[] = [];
  const stream: ClientReadableStream<string> = client.makeServerStreamRequest(
    "/grpc.health.v1.Health/Watch",
    encode,
    decode,
    service,
  );
  stream.on("data", (status: string) => seen.push(status));
  // The server's end breaks the watch off; what it had said until then is what counts.
  stream.on("error", (error: ServiceError) => seen.push(`ended: ${error.code}`));
  return { seen, stop: () => stream.cancel() };
}
