import type { IncomingMessage, ServerResponse } from "node:http";
import { type Clock, toKithError } from "../../../libs/base/index.js";
import type { ServerTls } from "../../../libs/rpc/server/index.js";
import type { Logger } from "../../../libs/telemetry/index.js";
import { HttpPort } from "./port.js";

const closeGraceMs = 200;

/** What answers the requests of a port. */
export interface HttpService {
  /** Bytes of large answers that clients have not taken yet. */
  readonly unsentBytes: number;
  handle(request: IncomingMessage, response: ServerResponse): void;
  drain(timeoutMs: number): Promise<void>;
}

export interface LazyDoorOptions {
  clock: Clock;
  logger: Logger;
  tls?: ServerTls | undefined;
  /** Time for all headers of a request, in milliseconds; for tests. */
  slowHeadersMs?: number | undefined;
}

/** A port whose service is loaded with the first request: it and its libraries are 14 MiB that many never need. */
export class LazyDoor {
  readonly #logger: Logger;
  readonly #what: string;
  readonly #load: () => Promise<HttpService>;
  readonly #port: HttpPort;
  #loading: Promise<HttpService> | undefined;
  #service: HttpService | undefined;
  #drained: Promise<void> | undefined;

  /** `what`: the service, in logs. */
  constructor({ clock, logger, tls, slowHeadersMs }: LazyDoorOptions, what: string, load: () => Promise<HttpService>) {
    this.#logger = logger;
    this.#what = what;
    this.#load = load;
    const handler = (request: IncomingMessage, response: ServerResponse): void => this.#handle(request, response);
    this.#port = new HttpPort({ clock, tls, handler, slowHeadersMs });
  }

  /** Bytes of large answers that clients have not taken yet. */
  get unsentBytes(): number {
    return this.#service?.unsentBytes ?? 0;
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
    const idle = this.#service?.drain(timeoutMs);
    this.#port.drain();
    await idle;
    await this.#port.close(closeGraceMs);
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    if (this.#service !== undefined) {
      this.#service.handle(request, response);
      return;
    }
    this.#loading ??= this.#load().then((service) => (this.#service = service));
    this.#loading.then(
      (service) => service.handle(request, response),
      (error: unknown) => {
        const { code, message } = toKithError(error);
        this.#logger.error(`${this.#what} could not be loaded: ${message}`, { code });
        response.writeHead(500, { connection: "close" }).end();
      },
    );
  }
}
