import { createServer as createHttp1, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createHttp2, type Http2Server, type Http2Session, type Http2Stream } from "node:http2";
import { type AddressInfo, createServer, type Server as NetServer, type Socket } from "node:net";
import { createServer as createTls, Server as TlsServer, type TLSSocket } from "node:tls";
import { assert, type Clock, hostPort, KithError, type Timer } from "../../../libs/base/index.js";
import type { ServerTls } from "../../../libs/rpc/server/index.js";

/** Time for the first bytes of a connection, for TLS, and for all headers of a request, in milliseconds. */
const headersTimeoutMs = 10_000;
/** Connections at once; more wait in the kernel. */
const connectionsMax = 4_096;
const streamsMax = 256;
const headerBytesMax = 32 * 1024;
const keepAliveMs = 65_000;

/** How HTTP/2 begins. */
const preface = Buffer.from("PRI ");

export type HttpHandler = (request: IncomingMessage, response: ServerResponse) => void;

/** One port for HTTP/1.1 and HTTP/2: by ALPN with TLS, by the first bytes of a connection without. It knows every socket, so that it can always be closed. */
export class HttpPort {
  readonly #clock: Clock;
  readonly #server: NetServer;
  readonly #http1: Server;
  readonly #http2: Http2Server;
  readonly #sockets = new Set<Socket>();
  readonly #sessions = new Set<Http2Session>();

  /** `slowHeadersMs`: time for all headers of a request; for tests. */
  constructor(options: {
    clock: Clock;
    tls: ServerTls | undefined;
    handler: HttpHandler;
    slowHeadersMs?: number | undefined;
  }) {
    const { tls, handler, slowHeadersMs = headersTimeoutMs } = options;
    this.#clock = options.clock;
    const http1Options = {
      headersTimeout: slowHeadersMs,
      // Bodies that stream may take as long as they come; how long nothing may come is body.ts's affair.
      requestTimeout: 0,
      keepAliveTimeout: keepAliveMs,
      maxHeaderSize: headerBytesMax,
      connectionsCheckingInterval: slowHeadersMs / 5,
      noDelay: true,
    };
    const http2Options = {
      settings: { maxConcurrentStreams: streamsMax, maxHeaderListSize: headerBytesMax },
      maxSessionMemory: 64,
      unknownProtocolTimeout: headersTimeoutMs,
    };
    const either = handler as never;
    const http1 = createHttp1(http1Options, handler);
    // It never listens itself, and only begins to look for slow clients when told that it does.
    http1.emit("listening");
    this.#http1 = http1;
    this.#http2 = createHttp2(http2Options, either);
    this.#server =
      tls === undefined
        ? createServer({ noDelay: true }, (socket) => this.#sniff(socket))
        : createTls(
            {
              cert: tls.cert,
              key: tls.key,
              ...(tls.ca && { ca: tls.ca, requestCert: true, rejectUnauthorized: true }),
              // Not Node's own server of both: with TLS that one waits for the headers of HTTP/1 for ever.
              ALPNProtocols: ["h2", "http/1.1"],
              minVersion: "TLSv1.2",
              handshakeTimeout: headersTimeoutMs,
              noDelay: true,
            },
            (socket) => this.#chosen(socket),
          );
    this.#server.on("tlsClientError", () => undefined);
    this.#server.maxConnections = connectionsMax;
    this.#http2.on("session", (session: Http2Session) => {
      this.#sessions.add(session);
      session.on("close", () => this.#sessions.delete(session));
      this.#endIdle(session);
      // Of a client: its streams end with it.
      session.on("error", () => undefined);
    });
    this.#server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      socket.on("error", () => undefined);
    });
    for (const server of [this.#http1, this.#http2]) server.on("clientError", refuse);
  }

  /** For connections that come from now on. Only of a port that has had certificates from the beginning. */
  setTls({ cert, key, ca }: ServerTls): void {
    const server: unknown = this.#server;
    assert(server instanceof TlsServer, "a port without TLS cannot be given certificates");
    server.setSecureContext({ cert, key, ...(ca && { ca }), minVersion: "TLSv1.2" });
  }

  /** Resolves with the port. INVALID_CONFIG where the address cannot be had. */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", (cause: NodeJS.ErrnoException) => {
        const address = hostPort(host, port);
        const why = cause.code === "EADDRINUSE" ? "is in use: choose another port" : `cannot be had: ${cause.message}`;
        reject(new KithError("INVALID_CONFIG", `${address}, for HTTP, ${why}`, { details: { address }, cause }));
      });
      this.#server.listen(port, host, () => resolve((this.#server.address() as AddressInfo).port));
    });
  }

  /** Takes no more connections, and asks those that there are to end once they have their answers. */
  drain(): void {
    this.#server.close();
    this.#http1.closeIdleConnections();
    for (const session of this.#sessions) session.close();
  }

  /** Ends what is open: politely, and after `graceMs` by force. */
  async close(graceMs: number): Promise<void> {
    this.drain();
    this.#http1.close();
    const cut = this.#clock.setTimer(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, graceMs);
    await new Promise<void>((resolve) => {
      const done = (): void => {
        if (this.#sockets.size === 0) resolve();
      };
      done();
      for (const socket of this.#sockets) socket.once("close", done);
    });
    cut.close();
  }

  /** A session without streams for as long as a connection of HTTP/1 may be idle is asked to end; one whose client does not hear that is cut. */
  #endIdle(session: Http2Session): void {
    let streams = 0;
    let timer: Timer | undefined;
    const wait = (): void => {
      timer = this.#clock
        .setTimer(() => {
          session.close();
          timer = this.#clock.setTimer(() => session.destroy(), headersTimeoutMs).unref();
        }, keepAliveMs)
        .unref();
    };
    session.on("stream", (stream: Http2Stream) => {
      streams++;
      timer?.close();
      stream.once("close", () => {
        if (--streams === 0 && !session.destroyed) wait();
      });
    });
    session.once("close", () => timer?.close());
    wait();
  }

  /** With TLS the handshake has agreed on one of them. */
  #chosen(socket: TLSSocket): void {
    (socket.alpnProtocol === "h2" ? this.#http2 : this.#http1).emit("connection", socket);
  }

  /** HTTP/2 with prior knowledge begins with a preface that no method of HTTP/1 begins with. */
  #sniff(socket: Socket): void {
    const timer = this.#clock.setTimer(() => socket.destroy(), headersTimeoutMs).unref();
    socket.once("close", () => timer.close());
    let first = Buffer.alloc(0);
    const read = (): void => {
      const chunk = socket.read() as Buffer | null;
      if (chunk === null) return;
      first = Buffer.concat([first, chunk]);
      const isHttp2 = preface.equals(first.subarray(0, preface.length));
      if (!isHttp2 && preface.subarray(0, first.length).equals(first)) return;
      socket.off("readable", read);
      timer.close();
      socket.unshift(first);
      (isHttp2 ? this.#http2 : this.#http1).emit("connection", socket);
    };
    socket.on("readable", read);
  }
}

/** What is not HTTP, or too slow, or with headers that are too large. */
function refuse(error: NodeJS.ErrnoException, socket: Socket): void {
  if (!socket.writable || socket.destroyed) return;
  const status =
    error.code === "ERR_HTTP_REQUEST_TIMEOUT"
      ? "408 Request Timeout"
      : error.code === "HPE_HEADER_OVERFLOW"
        ? "431 Request Header Fields Too Large"
        : "400 Bad Request";
  socket.end(`HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
}
