import { createConnection, createServer, type Server, type Socket } from "node:net";

/** Which way bytes go: on a cut one they wait, as they do while a network is away, and come when it is back. */
export interface Cut {
  /** From those who connect to the server behind. */
  toServer: boolean;
  /** From the server to those who connect. */
  toClient: boolean;
}

const none: Cut = { toServer: false, toClient: false };

interface Pair {
  client: Socket;
  server: Socket | undefined;
}

/** A piece of network between two processes, which can be cut, in both directions or in one. */
export class NetworkPiece {
  readonly #listener: Server;
  readonly #pairs = new Set<Pair>();
  readonly #host: string;
  readonly #port: number;
  #cut: Cut = none;
  /** Ends of connections that the other side does not hear of while the network is away. */
  #unheard: (() => void)[] = [];

  private constructor(host: string, port: number) {
    this.#host = host;
    this.#port = port;
    this.#listener = createServer((client) => this.#accept(client));
  }

  /** Listens on a port of its own (0: a free one) for what is meant for `host:port`. */
  static async open(own: number, host: string, port: number): Promise<NetworkPiece> {
    const piece = new NetworkPiece(host, port);
    await new Promise<void>((resolve, reject) => {
      piece.#listener.once("error", reject);
      piece.#listener.listen(own, "127.0.0.1", resolve);
    });
    return piece;
  }

  get port(): number {
    const address = this.#listener.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  }

  cut(cut: Cut): void {
    this.#cut = cut;
    for (const pair of this.#pairs) this.#apply(pair);
  }

  mend(): void {
    this.#cut = none;
    for (const tell of this.#unheard.splice(0)) tell();
    for (const pair of this.#pairs) {
      if (pair.server === undefined) this.#connect(pair);
      this.#apply(pair);
    }
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#listener.close(resolve));
    for (const { client, server } of this.#pairs) {
      client.destroy();
      server?.destroy();
    }
    await closed;
  }

  get #isWhole(): boolean {
    return !this.#cut.toServer && !this.#cut.toClient;
  }

  #accept(client: Socket): void {
    const pair: Pair = { client, server: undefined };
    this.#pairs.add(pair);
    client.pause();
    client.on("error", () => client.destroy());
    client.on("close", () => {
      this.#pairs.delete(pair);
      this.#tell(() => pair.server?.destroy());
    });
    client.on("data", (bytes) => {
      if (pair.server?.write(bytes) === false) client.pause();
    });
    // A new connection finds nobody while either direction is away: it takes both.
    if (this.#isWhole) this.#connect(pair);
  }

  #connect(pair: Pair): void {
    const { client } = pair;
    const server = createConnection({ host: this.#host, port: this.#port });
    pair.server = server;
    server.on("error", () => server.destroy());
    server.on("close", () => this.#tell(() => client.destroy()));
    server.on("data", (bytes) => {
      if (!client.write(bytes)) server.pause();
    });
    server.on("drain", () => this.#apply(pair));
    client.on("drain", () => this.#apply(pair));
    server.on("connect", () => this.#apply(pair));
  }

  #apply({ client, server }: Pair): void {
    if (server === undefined) return;
    if (this.#cut.toServer) client.pause();
    else client.resume();
    if (this.#cut.toClient) server.pause();
    else server.resume();
  }

  #tell(end: () => void): void {
    if (this.#isWhole) end();
    else this.#unheard.push(end);
  }
}
