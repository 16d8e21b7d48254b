import { randomInt } from "node:crypto";
import { createConnection, createServer, type Server, type Socket } from "node:net";

/**
 * Addresses of pods, each with all ports of its own: 127.x.y.n of the loopback interface, which Linux answers to as a whole. They stand for
 * pod addresses and for the names in the cluster's DNS.
 */
export class PodNetwork {
  readonly #subnet = `127.${randomInt(16, 250)}.${randomInt(1, 250)}`;
  readonly #addresses = new Map<string, string>();

  /** Of a pod; the same while the rehearsal lasts. */
  addressOf(pod: string): string {
    const known = this.#addresses.get(pod);
    if (known !== undefined) return known;
    const address = `${this.#subnet}.${this.#addresses.size + 1}`;
    this.#addresses.set(pod, address);
    return address;
  }

  /** A text of a manifest with addresses instead of names, and the pod's own one instead of all. */
  resolve(text: string, own: string): string {
    return text
      .replaceAll("0.0.0.0", this.addressOf(own))
      .replace(/\b([a-z][a-z0-9-]*-\d+)\.[a-z][a-z0-9-]*(\.[a-z0-9-]+\.svc)?(?=:\d)/g, (_, pod: string) =>
        this.addressOf(pod),
      );
  }
}

/** A service with an address of its own: each connection goes to an endpoint that is ready when it is opened, in turns. */
export class Service {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #next = 0;

  constructor(endpoints: () => { host: string; port: number }[]) {
    this.#server = createServer((socket) => {
      this.#keep(socket);
      const all = endpoints();
      const endpoint = all[this.#next++ % Math.max(1, all.length)];
      if (endpoint === undefined) {
        socket.destroy();
        return;
      }
      const upstream = createConnection(endpoint);
      this.#keep(upstream);
      socket.pipe(upstream).pipe(socket);
      socket.on("close", () => upstream.destroy());
      upstream.on("close", () => socket.destroy());
    });
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    const address = this.#server.address();
    return `127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`;
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    // Whoever breaks off is seen by the other side.
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.#sockets.delete(socket));
  }
}
