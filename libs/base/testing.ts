import { randomInt } from "node:crypto";
import { createServer } from "node:net";

export { ManualClock } from "./testing/manual-clock.js";
export { makeAuthority, makeCertificate } from "./testing/certificates.js";
export { FastClock } from "./testing/fast-clock.js";
export { ShiftedClock } from "./testing/shifted-clock.js";

/**
 * Polls until `check` neither throws nor gives false, and resolves with what it gives; rejects with its last failure after
 * `withinMs`.
 */
export async function eventually<T>(check: () => Promise<T> | T, withinMs = 20_000): Promise<T> {
  const endMs = performance.now() + withinMs;
  for (;;) {
    try {
      const found = await check();
      if (found === false) throw new Error(`it did not happen: ${check.toString()}`);
      return found;
    } catch (error) {
      if (performance.now() > endMs) throw error;
      await new Promise((resolve) => setTimeout(resolve, pollMs));
    }
  }
}

const pollMs = 10;

/**
 * A free port of 127.0.0.1 that no other process of the tests gets, below the range that the kernel gives to outgoing connections
 * (32768 and up on Linux): a node that is down for a while would otherwise find its port taken by some connection when it comes back.
 * Of `count` such ports in a row, the first.
 */
export async function freePort(count = 1): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = randomInt(10_240, 32_768 - count);
    let found = 0;
    while (found < count && (await reserve(port + found)) && (await isFree(port + found))) found++;
    if (found === count) return port;
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
