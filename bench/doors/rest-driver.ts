import { connect, type Socket } from "node:net";
import { deferred } from "../../libs/base/index.js";
import type { OnDone, QueryDriver } from "../load/driver.js";

/*
 * HTTP/1.1 straight on sockets, with requests that are bytes before the measurement begins. node:http, or undici, cost the client more than
 * the server spends on the answer; on a machine that both share, the client would be what is measured.
 */

export interface RestDriverOptions {
  /** host:port of the REST API. */
  target: string;
  /** Of each request, from "/". */
  path: string;
  /** Kept alive; HTTP/1.1 has one request at a time on each. */
  connections: number;
  /** JSON bodies. */
  bodies: readonly string[];
  onDone: OnDone;
}

/** POSTs one body for each query. A query for which no connection is free waits. */
export async function restDriver(options: RestDriverOptions): Promise<QueryDriver> {
  const { target, path, connections, bodies, onDone } = options;
  const requests = bodies.map((body) => requestBytes(target, path, body));
  const sockets = await Promise.all(Array.from({ length: connections }, () => openSocket(target)));
  return new RestConnections(sockets, requests, onDone);
}

function requestBytes(target: string, path: string, body: string): Buffer {
  const length = Buffer.byteLength(body);
  return Buffer.from(
    `POST ${path} HTTP/1.1\r\nhost: ${target}\r\ncontent-type: application/json\r\ncontent-length: ${length}\r\n\r\n${body}`,
  );
}

async function openSocket(target: string): Promise<Socket> {
  const { hostname, port } = new URL(`http://${target}`);
  const opened = deferred<Socket>();
  const socket = connect({ host: hostname.replace(/^\[|\]$/g, ""), port: Number(port), noDelay: true });
  socket.once("connect", () => opened.resolve(socket));
  socket.once("error", (error) => opened.reject(error));
  return opened.promise;
}

class RestConnections implements QueryDriver {
  failure: Error | undefined;
  readonly #all: RestConnection[];
  readonly #free: RestConnection[];
  readonly #requests: readonly Buffer[];
  readonly #waiting: { query: number; startMs: number }[] = [];
  #closing = false;

  constructor(sockets: readonly Socket[], requests: readonly Buffer[], onDone: OnDone) {
    this.#requests = requests;
    this.#all = sockets.map(
      (socket) =>
        new RestConnection(socket, {
          done: (connection, startMs, error) => {
            const next = this.#waiting.shift();
            if (next === undefined) this.#free.push(connection);
            else connection.send(this.#requests[next.query] as Buffer, next.startMs);
            onDone(startMs, error);
          },
          lost: (error, startMs) => {
            if (this.#closing) return;
            this.failure ??= error;
            if (startMs !== undefined) onDone(startMs, "UNAVAILABLE");
          },
        }),
    );
    this.#free = [...this.#all];
  }

  send(query: number, startMs: number): void {
    const connection = this.#free.pop();
    if (connection === undefined) this.#waiting.push({ query, startMs });
    else connection.send(this.#requests[query] as Buffer, startMs);
  }

  async close(): Promise<void> {
    this.#closing = true;
    for (const connection of this.#all) connection.close();
  }
}

interface Events {
  done(connection: RestConnection, startMs: number, error: string | undefined): void;
  /** `startMs` is that of the request which had no answer yet. */
  lost(error: Error, startMs: number | undefined): void;
}

/** One request at a time; answers are looked at just enough to see an error and their end. */
class RestConnection {
  readonly #socket: Socket;
  readonly #events: Events;
  #startMs: number | undefined;
  #error: string | undefined;
  /** Of the head that is not there as a whole yet. */
  #head: Buffer = Buffer.alloc(0);
  /** Bytes of the body that are to come; undefined before the end of the head. */
  #left: number | undefined;

  constructor(socket: Socket, events: Events) {
    this.#socket = socket;
    this.#events = events;
    socket.on("data", (chunk) => this.#read(chunk));
    socket.on("error", (error) => this.#end(error));
    socket.on("close", () => this.#end(new Error("the server closed the connection")));
  }

  send(request: Buffer, startMs: number): void {
    this.#startMs = startMs;
    this.#socket.write(request);
  }

  close(): void {
    this.#socket.destroy();
  }

  #read(chunk: Buffer): void {
    if (this.#left === undefined) {
      const bytes = this.#head.length === 0 ? chunk : Buffer.concat([this.#head, chunk]);
      const end = bytes.indexOf("\r\n\r\n");
      if (end < 0) {
        this.#head = bytes;
        return;
      }
      this.#head = Buffer.alloc(0);
      const head = bytes.toString("latin1", 0, end + 2);
      const length = /\r\ncontent-length: *(\d+)\r\n/i.exec(head)?.[1];
      if (length === undefined) {
        this.#socket.destroy(new Error(`an answer without a content-length: ${head.slice(0, 200)}`));
        return;
      }
      const status = head.slice(9, 12);
      this.#error = status === "200" ? undefined : `HTTP ${status}`;
      this.#left = Number(length) - (bytes.length - end - 4);
    } else {
      this.#left -= chunk.length;
    }
    if (this.#left > 0) return;
    if (this.#left < 0 || this.#startMs === undefined) {
      this.#socket.destroy(new Error("the server sent more than the answer"));
      return;
    }
    const startMs = this.#startMs;
    this.#startMs = undefined;
    this.#left = undefined;
    this.#events.done(this, startMs, this.#error);
  }

  #end(error: Error): void {
    const startMs = this.#startMs;
    this.#startMs = undefined;
    this.#events.lost(error, startMs);
  }
}
