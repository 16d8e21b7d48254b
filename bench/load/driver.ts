/** Called once per request with what was passed to `send`, and the code of the error, if it failed. */
export type OnDone = (startMs: number, error: string | undefined) => void;

/** Sends pre-encoded queries. Answers are looked at just enough to see an error. */
export interface QueryDriver {
  /** Sends query number `query`; `startMs` is handed back. Never calls back before it returns. */
  send(query: number, startMs: number): void;
  /** Set when the connection is lost; nothing more can be sent then. */
  readonly failure: Error | undefined;
  close(): Promise<void>;
}

export type Mode = "unary" | "stream";
export type DriverKind = "http2" | "grpc-js" | "h2load";

export interface DriverOptions {
  target: string;
  connections: number;
  /** Encoded QueryRequests. */
  requests: readonly Buffer[];
  onDone: OnDone;
}

/** What calls straight on HTTP may have beside. */
export interface HttpDriverOptions extends DriverOptions {
  /** Further headers of each call, by their names in lower case. */
  headers?: Readonly<Record<string, string>>;
  /** Of the call, where it is not Kith's own. */
  path?: string;
  /** PEM of the authority that the server's certificate is from: calls go over TLS. */
  ca?: Buffer;
}

export const queryPath = "/kith.v1.Points/Query";
export const queryStreamPath = "/kith.v1.Points/QueryStream";
/** Receive window of a connection and of a stream, in bytes: large, so that flow control does not set the pace. */
export const windowBytes = 8 * 1024 * 1024;
