import type { IncomingMessage, ServerResponse } from "node:http";
import { toKithError } from "../../../libs/base/index.js";
import type { ServerTls } from "../../../libs/rpc/server/index.js";
import { HttpPort } from "../rest/port.js";
import type { QdrantOptions } from "./options.js";
import type { QdrantServer } from "./server.js";

const closeGraceMs = 200;

/** The port of Qdrant's REST API. What answers on it is loaded with the first request. */
export class QdrantDoor {
  readonly #options: QdrantOptions;
  readonly #port: HttpPort;
  #loading: Promise<QdrantServer> | undefined;
  #server: QdrantServer | undefined;
  #drained: Promise<void> | undefined;

  constructor(options: QdrantOptions) {
    this.#options = options;
    const handler = (request: IncomingMessage, response: ServerResponse): void => this.#handle(request, response);
    this.#port = new HttpPort({ clock: options.clock, tls: options.tls, handler });
  }

  /** Bytes of answers that clients have not taken yet. */
  get unsentBytes(): number {
    return this.#server?.unsentBytes ?? 0;
  }

  /** Resolves with the port; 0 takes a free one. */
  listen(host: string, port: number): Promise<number> {
    return this.#port.listen(host, port);
  }

  /** Shows and asks for these certificates from the next connection on. */
  setTls(tls: ServerTls): void {
    this.#port.setTls(tls);
  }

  /** New calls get SHUTTING_DOWN, those in flight have `timeoutMs`, then connections are closed. */
  drain(timeoutMs: number): Promise<void> {
    this.#drained ??= this.#drain(timeoutMs);
    return this.#drained;
  }

  async #drain(timeoutMs: number): Promise<void> {
    const idle = this.#server?.drain(timeoutMs);
    this.#port.drain();
    await idle;
    await this.#port.close(closeGraceMs);
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    if (this.#server !== undefined) {
      this.#server.handle(request, response);
      return;
    }
    this.#loading ??= this.#load();
    this.#loading.then(
      (server) => server.handle(request, response),
      (error: unknown) => {
        const { code, message } = toKithError(error);
        this.#options.logger.error(`the service of Qdrant's API could not be loaded: ${message}`, { code });
        response.writeHead(500, { connection: "close" }).end();
      },
    );
  }

  async #load(): Promise<QdrantServer> {
    const { QdrantServer } = await import("./server.js");
    const { selfOf } = await import("./self.js");
    this.#server = new QdrantServer(this.#options, selfOf(this.#options));
    return this.#server;
  }
}
