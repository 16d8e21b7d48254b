import { randomInt } from "node:crypto";
import { createServer } from "node:net";

/**
 * A free port of 127.0.0.1 that no other process of the tests gets, below the range that the kernel gives to outgoing connections
 * (32768 and up on Linux): a node that is down for a while would otherwise find its port taken by some connection when it comes back.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = randomInt(10_240, 32_768);
    if ((await reserve(port)) && (await isFree(port))) return port;
  }
  throw new Error("no free port found in 100 attempts");
}

/**
 * The same port of another loopback address is held until this process ends, however it ends: between the moment when a port was found
 * free and the moment when a node listens there, nobody else finds it free. Systems without that address go without.
 */
function reserve(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer().unref();
    server.once("error", (error: NodeJS.ErrnoException) => resolve(error.code === "EADDRNOTAVAIL"));
    server.listen(port, "127.0.0.2", () => resolve(true));
  });
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
