import { Client, credentials, type ClientDuplexStream, Metadata, status as grpcStatus } from "@grpc/grpc-js";
import {
  type DriverOptions,
  type OnDone,
  type QueryDriver,
  queryPath,
  queryStreamPath,
  windowBytes,
} from "./driver.js";
import { Pending } from "./pending.js";
import { encodeStreamRequest, failureCode, patchRequestId, readStreamAnswer } from "./requests.js";

/* The usual gRPC library of Node with raw bytes in and out: what a service written in Node sees of Kith at best. */

const raw = (bytes: Buffer): Buffer => bytes;
const readyTimeoutMs = 10_000;

async function openClients(options: DriverOptions): Promise<Client[]> {
  const clients = Array.from(
    { length: options.connections },
    () =>
      new Client(options.target, credentials.createInsecure(), {
        // Without a pool of its own every client of the process shares one connection.
        "grpc.use_local_subchannel_pool": 1,
        "grpc.enable_retries": 0,
        "grpc.max_receive_message_length": -1,
        "grpc-node.flow_control_window": windowBytes,
      }),
  );
  await Promise.all(
    clients.map(
      (client) =>
        new Promise<void>((resolve, reject) => {
          client.waitForReady(Date.now() + readyTimeoutMs, (error) => (error ? reject(error) : resolve()));
        }),
    ),
  );
  return clients;
}

export async function grpcUnaryDriver(options: DriverOptions): Promise<QueryDriver> {
  const clients = await openClients(options);
  const metadata = new Metadata();
  let next = 0;
  return {
    failure: undefined,
    send(query, startMs) {
      const client = clients[next] as Client;
      next = (next + 1) % clients.length;
      client.makeUnaryRequest(queryPath, raw, raw, options.requests[query] as Buffer, metadata, (error) =>
        options.onDone(startMs, error === null ? undefined : (grpcStatus[error.code] ?? String(error.code))),
      );
    },
    async close() {
      for (const client of clients) client.close();
    },
  };
}

export async function grpcStreamDriver(options: DriverOptions): Promise<QueryDriver> {
  const clients = await openClients(options);
  const messages = options.requests.map(encodeStreamRequest);
  const streams = clients.map((client) => new GrpcStream(client, messages, options.onDone));
  let next = 0;
  return {
    get failure() {
      return streams.find((stream) => stream.failure !== undefined)?.failure;
    },
    send(query, startMs) {
      (streams[next] as GrpcStream).send(query, startMs);
      next = (next + 1) % streams.length;
    },
    async close() {
      for (const stream of streams) stream.close();
    },
  };
}

class GrpcStream {
  failure: Error | undefined;
  readonly #client: Client;
  readonly #stream: ClientDuplexStream<Buffer, Buffer>;
  readonly #messages: readonly Buffer[];
  readonly #pending: Pending;
  readonly #answer = { requestId: 0, failed: false };
  #closing = false;

  constructor(client: Client, messages: readonly Buffer[], onDone: OnDone) {
    this.#client = client;
    this.#messages = messages;
    this.#pending = new Pending(onDone);
    this.#stream = client.makeBidiStreamRequest(queryStreamPath, raw, raw);
    this.#stream.on("data", (bytes: Buffer) => {
      readStreamAnswer(bytes, 0, bytes.length, this.#answer);
      this.#pending.done(this.#answer.requestId, this.#answer.failed ? failureCode(bytes) : undefined);
    });
    this.#stream.on("error", (error) => this.#end(error));
    this.#stream.on("end", () => this.#end(new Error("the server ended the stream")));
  }

  send(query: number, startMs: number): void {
    const message = Buffer.from(this.#messages[query] as Buffer);
    patchRequestId(message, 0, this.#pending.add(startMs));
    this.#stream.write(message);
  }

  close(): void {
    this.#closing = true;
    this.#stream.cancel();
    this.#client.close();
  }

  #end(error: Error): void {
    if (this.failure !== undefined || this.#closing) return;
    this.failure = error;
    this.#pending.fail("UNAVAILABLE");
  }
}
