import type { IncomingMessage, ServerResponse } from "node:http";
import { TLSSocket } from "node:tls";
import { Metadata } from "@grpc/grpc-js";
import { type Clock, KithError } from "../../../libs/base/index.js";
import { deadlinePassed, shuttingDown } from "../../../libs/rpc/common/index.js";
import { ServerCall, type UnaryContext } from "../../../libs/rpc/server/index.js";
import { noTrace, type TraceContext } from "../../../libs/telemetry/index.js";

/** Headers that say who calls; handlers look for them where gRPC has its metadata. */
const callerHeaders = ["authorization", "api-key"] as const;

/** Time for a page, in milliseconds. */
const pageMs = 10_000;

/** One request of HTTP as the handlers of the public API see a call. */
export class HttpCall extends ServerCall implements UnaryContext {
  readonly trace: TraceContext;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  #metadata: Metadata | undefined;
  #onAbort: ((reason: KithError) => void) | undefined;

  constructor(
    request: IncomingMessage,
    response: ServerResponse,
    options: { deadlineMs: number; clock: Clock; trace: TraceContext },
  ) {
    super(options.deadlineMs, options.clock);
    this.request = request;
    this.response = response;
    this.trace = options.trace;
  }

  /** Of a page, which has neither a deadline of its own nor a trace. */
  static plain(request: IncomingMessage, response: ServerResponse, clock: Clock): HttpCall {
    return new HttpCall(request, response, { clock, trace: noTrace, deadlineMs: clock.monotonicMs() + pageMs });
  }

  get metadata(): Metadata {
    if (this.#metadata !== undefined) return this.#metadata;
    const metadata = new Metadata();
    for (const name of callerHeaders) {
      const value = this.request.headers[name];
      if (typeof value === "string") setHeader(metadata, name, value);
    }
    this.#metadata = metadata;
    return metadata;
  }

  /** "ip:port" of the client. */
  get peer(): string {
    const { remoteAddress, remotePort } = this.request.socket;
    return `${remoteAddress ?? "unknown"}:${remotePort ?? 0}`;
  }

  /** Of the subject of the client's certificate, where TLS has verified one. */
  get peerCommonName(): string | undefined {
    const { socket } = this.request;
    if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined;
    const name: unknown = socket.getPeerCertificate().subject.CN;
    return typeof name === "string" ? name : undefined;
  }

  /** The outcome of `work`, or the reason of an earlier end: the deadline, the client's leave, the end of the server. */
  race<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#onAbort = reject;
      work.then(resolve, reject);
    });
  }

  expire(): void {
    this.#end(deadlinePassed());
  }

  shutDown(): void {
    this.#end(shuttingDown());
  }

  /** The connection has closed before the answer was complete. */
  gone(): void {
    this.#end(new KithError("CANCELLED", "the client cancelled the call"));
  }

  #end(reason: KithError): void {
    this.abort(reason);
    this.#onAbort?.(reason);
    this.#onAbort = undefined;
  }

  // The server listens for the end of every response.
  protected watchCancellation(): void {
    if (this.response.destroyed) this.gone();
  }
}

function setHeader(metadata: Metadata, name: string, value: string): void {
  try {
    metadata.set(name, value);
  } catch (cause) {
    throw new KithError("UNAUTHENTICATED", `the header ${name} has characters that no credential has`, { cause });
  }
}
