import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, Server as TlsServer } from "node:tls";
import type { Duplex } from "node:stream";
import { assert, type KithError, type Runtime } from "../../base/index.js";
import type { TraceContext } from "../../telemetry/index.js";
import type { FailureLog } from "../common/call-stats.js";
import type { ServerTls } from "./tls.js";

/** What a connection of another protocol may use of the server. */
export interface ProtocolPort extends Runtime {
  /** Logs what a request threw, and makes it the error that the other side may see. */
  report(thrown: unknown, method: string, trace: TraceContext): KithError;
}

/** One connection of a protocol; it is over when its socket has closed. */
export interface ProtocolConnection {
  /** The server shuts down: answer what is in flight, refuse the rest, then end the connection. */
  drain(): void;
  /** End the connection now. */
  shutDown(): void;
}

/** A protocol that shares the port of a server with gRPC. Its connections begin with a preface that HTTP/2 does not. */
export interface PortProtocol {
  /** Its name in the health service. */
  readonly service: string;
  /** Sent by the client first of all. */
  readonly preface: Buffer;
  /** Serves one connection, of which nothing was read yet. */
  serve(socket: Duplex, port: ProtocolPort): ProtocolConnection;
}

export interface SharedPortOptions extends Runtime {
  protocols: readonly PortProtocol[];
  tls: ServerTls | undefined;
  failures: FailureLog;
  grpc: { injectConnection(connection: Duplex): void; drain(graceMs: number): void; destroy(): void };
}

/** What a client of gRPC sends first of all (RFC 9113, 3.4). */
const http2Preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
/** Time for the first bytes of a connection, and for TLS before. */
const firstBytesTimeoutMs = 10_000;

/**
 * One port for gRPC and other protocols, which may be none: the first bytes of a connection tell which it is. It knows every socket, so
 * that it can always be closed.
 */
export class SharedPort {
  readonly #options: SharedPortOptions;
  readonly #server: Server;
  readonly #connections = new Set<ProtocolConnection>();
  /** Everything that peers hold open, those amid a TLS handshake too. */
  readonly #sockets = new Set<Socket>();
  /** Of which nothing has come yet. */
  readonly #silent = new Set<Socket>();
  #draining = false;

  constructor(options: SharedPortOptions) {
    this.#options = options;
    const { tls } = options;
    const accept = (socket: Socket): void => this.#accept(socket);
    this.#server =
      tls === undefined
        ? createServer({ noDelay: true }, accept)
        : createTlsServer(
            {
              cert: tls.cert,
              key: tls.key,
              ...(tls.ca && { ca: tls.ca, requestCert: true, rejectUnauthorized: true }),
              // What gRPC's clients ask for; those of other protocols ask for nothing.
              ALPNProtocols: ["h2"],
              // Whatever flags Node was given.
              minVersion: "TLSv1.2",
              handshakeTimeout: firstBytesTimeoutMs,
              noDelay: true,
            },
            accept,
          );
    this.#server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
    // Somebody without TLS or without a certificate: the connection is closed, which is all there is to do.
    this.#server.on("tlsClientError", () => undefined);
  }

  /** For connections that come from now on. */
  setTls({ cert, key, ca }: ServerTls): void {
    const server = this.#server;
    assert(server instanceof TlsServer, "a server without TLS cannot be given certificates");
    server.setSecureContext({ cert, key, ...(ca && { ca }), minVersion: "TLSv1.2" });
  }

  /** Resolves with the port. */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, host, () => {
        this.#server.off("error", reject);
        resolve((this.#server.address() as AddressInfo).port);
      });
    });
  }

  /** Of other protocols than gRPC. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  drain(): void {
    this.#draining = true;
    for (const connection of this.#connections) connection.drain();
  }

  shutDown(): void {
    for (const connection of this.#connections) connection.shutDown();
  }

  /** Ends what is open: politely, and after `graceMs` by force. */
  async close(graceMs: number): Promise<void> {
    for (const socket of this.#silent) socket.destroy();
    this.#options.grpc.drain(graceMs);
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      // Not all of a server's connections were told to end: a peer may not close its side.
      this.#options.clock.setTimer(() => this.#destroyAll(), graceMs).unref();
    });
  }

  #destroyAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #accept(socket: Socket): void {
    this.#silent.add(socket);
    socket.on("close", () => this.#silent.delete(socket));
    const timer = this.#options.clock.setTimer(() => socket.destroy(), firstBytesTimeoutMs).unref();
    // It may break before it has said anything.
    const onError = (): void => void socket.destroy();
    socket.on("error", onError);
    const { protocols, grpc } = this.#options;
    const longest = Math.max(0, ...protocols.map(({ preface }) => preface.length));
    // A connection that has not sent all of it has no session, and nothing else would end it.
    const isPartOfHttp2 = (bytes: Buffer): boolean =>
      bytes.length < http2Preface.length && startsAlike(bytes, http2Preface);
    let first = Buffer.alloc(0);
    const read = (): void => {
      const chunk = socket.read() as Buffer | null;
      if (chunk === null) return;
      first = Buffer.concat([first, chunk]);
      const candidates = protocols.filter(({ preface }) => startsAlike(first, preface));
      if ((candidates.length > 0 && first.length < longest) || isPartOfHttp2(first)) return;
      socket.off("readable", read);
      socket.off("error", onError);
      timer.close();
      this.#silent.delete(socket);
      socket.unshift(first);
      const [protocol] = candidates;
      if (protocol === undefined) grpc.injectConnection(socket);
      else this.#serve(socket, protocol);
    };
    socket.on("readable", read);
    socket.on("close", () => timer.close());
  }

  #serve(socket: Socket, protocol: PortProtocol): void {
    const { failures, clock, random } = this.#options;
    const connection = protocol.serve(socket, {
      clock,
      random,
      report: (thrown, method, trace) => failures.report(thrown, method, trace),
    });
    this.#connections.add(connection);
    socket.on("close", () => this.#connections.delete(connection));
    if (this.#draining) connection.drain();
  }
}

/** Whether they are the same as far as both go. */
function startsAlike(bytes: Buffer, preface: Buffer): boolean {
  assert(preface.length > 0, "a protocol without a preface would take all connections");
  const length = Math.min(bytes.length, preface.length);
  return bytes.compare(preface, 0, length, 0, length) === 0;
}
