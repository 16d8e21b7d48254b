import type { IncomingMessage, ServerResponse } from "node:http";
import { toKithError } from "../../../libs/base/index.js";
import type { ServerTls } from "../../../libs/rpc/server/index.js";
import { HttpPort } from "./port.js";
import type { RestOptions, RestServer } from "./server.js";

const closeGraceMs = 200;

/** The port of the REST service. What answers on it is loaded with the first request: it and its libraries are 14 MiB that many never need. */
export class RestDoor {
  readonly #options: RestOptions;
  readonly #port: HttpPort;
  #loading: Promise<RestServer> | undefined;
  #server: RestServer | undefined;
  #drained: Promise<void> | undefined;

  constructor(options: RestOptions) {
    this.#options = options;
    const handler = (request: IncomingMessage, response: ServerResponse): void => this.#handle(request, response);
    this.#port = new HttpPort({ clock: options.clock, tls: options.tls, handler });
  }

  /** Bytes of large answers that clients have not taken yet. */
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

  /** As a gRPC server's: new calls get SHUTTING_DOWN, those in flight have `timeoutMs`, then connections are closed. */
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
        this.#options.logger.error(`the REST service could not be loaded: ${message}`, { code });
        response.writeHead(500, { connection: "close" }).end();
      },
    );
  }

  async #load(): Promise<RestServer> {
    const { RestServer } = await import("./server.js");
    const server = await RestServer.make(this.#options);
    this.#server = server;
    return server;
  }
}
