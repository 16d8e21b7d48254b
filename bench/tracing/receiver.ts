import { createServer, type Server } from "node:http";

/** Takes what exporters send and throws it away. */
export class TraceReceiver {
  receivedBytes = 0;
  readonly #server: Server = createServer((request, response) => {
    request.on("data", (chunk: Buffer) => {
      this.receivedBytes += chunk.length;
    });
    request.on("end", () => response.writeHead(200, { "content-type": "application/x-protobuf" }).end());
  });

  listen(): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#server.on("error", reject);
      this.#server.listen(0, "127.0.0.1", () => {
        const address = this.#server.address();
        resolve(`http://127.0.0.1:${address !== null && typeof address === "object" ? address.port : 0}`);
      });
    });
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}
