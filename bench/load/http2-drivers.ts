import { status as grpcStatus } from "@grpc/grpc-js";
import { type ClientHttp2Session, type ClientHttp2Stream, connect, type IncomingHttpHeaders } from "node:http2";
import { deferred } from "../../libs/base/index.js";
import {
  type DriverOptions,
  type HttpDriverOptions,
  type OnDone,
  type QueryDriver,
  queryPath,
  queryStreamPath,
  windowBytes,
} from "./driver.js";
import { Pending } from "./pending.js";
import {
  encodeStreamRequest,
  failureCode,
  frameHeaderBytes,
  grpcFrame,
  patchRequestId,
  readStreamAnswer,
} from "./requests.js";

/*
 * gRPC straight on node:http2. A call through a gRPC library costs the client more than the server spends on the answer;
 * on a machine that both share, the client would be what is measured.
 */

const headersOf = (path: string): Record<string, string> => ({
  ":method": "POST",
  ":path": path,
  "content-type": "application/grpc",
  te: "trailers",
});

/** The name of a gRPC status other than OK; undefined for OK. */
function errorOf(headers: IncomingHttpHeaders): string | undefined {
  const code = headers["grpc-status"];
  return code === "0" ? undefined : (grpcStatus[Number(code)] ?? `grpc-status ${String(code)}`);
}

async function openSession(target: string, ca?: Buffer): Promise<ClientHttp2Session> {
  const settings = { initialWindowSize: windowBytes, enablePush: false };
  // Servers are named by address here, and TLS has names of hosts alone in its SNI; the certificate is checked all the same.
  const session =
    ca === undefined
      ? connect(`http://${target}`, { settings })
      : connect(`https://${target}`, { settings, ca, servername: "" });
  const opened = deferred<ClientHttp2Session>();
  session.once("connect", () => {
    session.setLocalWindowSize(windowBytes);
    opened.resolve(session);
  });
  session.once("error", (error) => opened.reject(error));
  return opened.promise;
}

/** Sends GOAWAY and ends the connection, at once where calls are still open. */
function closeSession(session: ClientHttp2Session): void {
  if (!session.destroyed) session.destroy();
}

export async function http2UnaryDriver(options: HttpDriverOptions): Promise<QueryDriver> {
  const { target, connections, ca, path = queryPath, headers } = options;
  const sessions = await Promise.all(Array.from({ length: connections }, () => openSession(target, ca)));
  return new Http2Unary(sessions, options.requests.map(grpcFrame), options.onDone, { ...headersOf(path), ...headers });
}

class Http2Unary implements QueryDriver {
  failure: Error | undefined;
  readonly #sessions: ClientHttp2Session[];
  readonly #frames: Buffer[];
  readonly #onDone: OnDone;
  readonly #headers: Record<string, string>;
  #next = 0;

  constructor(sessions: ClientHttp2Session[], frames: Buffer[], onDone: OnDone, headers: Record<string, string>) {
    this.#headers = headers;
    this.#sessions = sessions;
    this.#frames = frames;
    this.#onDone = onDone;
    for (const session of sessions) {
      const lost = (error?: Error): void => {
        this.failure ??= error ?? new Error("the server closed the connection");
      };
      session.on("error", lost);
      session.on("close", () => lost());
    }
  }

  send(query: number, startMs: number): void {
    const session = this.#sessions[this.#next] as ClientHttp2Session;
    this.#next = (this.#next + 1) % this.#sessions.length;
    const stream = session.request(this.#headers);
    let error: string | undefined = "UNAVAILABLE";
    stream.on("response", (headers) => {
      // A call that fails early has its status here and no trailers.
      if (headers["grpc-status"] !== undefined) error = errorOf(headers);
    });
    stream.on("trailers", (headers: IncomingHttpHeaders) => {
      error = errorOf(headers);
    });
    stream.on("error", (cause: NodeJS.ErrnoException) => {
      error = `UNAVAILABLE (${cause.code ?? cause.message})`;
    });
    stream.on("close", () => this.#onDone(startMs, error));
    stream.resume();
    stream.end(this.#frames[query]);
  }

  async close(): Promise<void> {
    this.#sessions.forEach(closeSession);
  }
}

export async function http2StreamDriver(options: DriverOptions): Promise<QueryDriver> {
  const messages = options.requests.map(encodeStreamRequest);
  const frames = messages.map(grpcFrame);
  const sessions = await Promise.all(Array.from({ length: options.connections }, () => openSession(options.target)));
  return new Http2Streams(sessions.map((session) => new Http2Stream(session, frames, options.onDone)));
}

class Http2Streams implements QueryDriver {
  readonly #streams: Http2Stream[];
  #next = 0;

  constructor(streams: Http2Stream[]) {
    this.#streams = streams;
  }

  get failure(): Error | undefined {
    return this.#streams.find((stream) => stream.failure !== undefined)?.failure;
  }

  send(query: number, startMs: number): void {
    (this.#streams[this.#next] as Http2Stream).send(query, startMs);
    this.#next = (this.#next + 1) % this.#streams.length;
  }

  async close(): Promise<void> {
    for (const stream of this.#streams) stream.close();
  }
}

/** One QueryStream. Frames that are due in one turn of the event loop go out as one write. */
class Http2Stream {
  failure: Error | undefined;
  readonly #session: ClientHttp2Session;
  readonly #stream: ClientHttp2Stream;
  readonly #frames: readonly Buffer[];
  readonly #pending: Pending;
  readonly #answer = { requestId: 0, failed: false };
  #out: Buffer[] = [];
  #rest: Buffer = Buffer.alloc(0);
  #closing = false;

  constructor(session: ClientHttp2Session, frames: readonly Buffer[], onDone: OnDone) {
    this.#session = session;
    this.#frames = frames;
    this.#pending = new Pending(onDone);
    this.#stream = session.request(headersOf(queryStreamPath));
    this.#stream.on("data", (chunk: Buffer) => this.#read(chunk));
    this.#stream.on("trailers", (headers: IncomingHttpHeaders) =>
      this.#end(errorOf(headers) ?? "the server ended the stream"),
    );
    this.#stream.on("response", (headers) => {
      if (headers["grpc-status"] !== undefined) this.#end(errorOf(headers) ?? "the server ended the stream");
    });
    this.#stream.on("error", (error: Error) => this.#end(error.message));
    this.#stream.on("close", () => this.#end("the stream was closed"));
    session.on("error", (error: Error) => this.#end(error.message));
  }

  send(query: number, startMs: number): void {
    const frame = Buffer.from(this.#frames[query] as Buffer);
    patchRequestId(frame, frameHeaderBytes, this.#pending.add(startMs));
    if (this.#out.push(frame) === 1) setImmediate(() => this.#flush());
  }

  close(): void {
    this.#closing = true;
    this.#stream.close();
    closeSession(this.#session);
  }

  #flush(): void {
    const out = this.#out;
    this.#out = [];
    if (this.failure === undefined && !this.#closing) this.#stream.write(Buffer.concat(out));
  }

  #end(reason: string): void {
    if (this.failure !== undefined || this.#closing) return;
    this.failure = new Error(`QueryStream: ${reason}`);
    this.#pending.fail("UNAVAILABLE");
  }

  #read(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    while (bytes.length - at >= frameHeaderBytes) {
      const start = at + frameHeaderBytes;
      const end = start + bytes.readUInt32BE(at + 1);
      if (end > bytes.length) break;
      readStreamAnswer(bytes, start, end, this.#answer);
      this.#pending.done(
        this.#answer.requestId,
        this.#answer.failed ? failureCode(bytes.subarray(start, end)) : undefined,
      );
      at = end;
    }
    this.#rest = at === bytes.length ? emptyBytes : bytes.subarray(at);
  }
}

const emptyBytes = Buffer.alloc(0);
