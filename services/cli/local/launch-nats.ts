import { rm } from "node:fs/promises";
import { join } from "node:path";
import { deferred, makeFolder } from "../../../libs/base/index.js";
import { type RunningNatsServer, startNatsServer } from "../../../libs/nats-server/index.js";
import type { Launched, ReadyMessage } from "./launch.js";
import { endLeftover, writePidFile } from "./pid-file.js";

export interface LaunchNatsOptions {
  /** The nats-server program. */
  binary: string;
  /** Its store. */
  data: string;
  /** 0 takes a free one. */
  port: number;
}

/** Runs a nats-server that ends when this process does. */
export function launchNats(options: LaunchNatsOptions, onLine: (line: string) => void): Launched {
  const ready = deferred<ReadyMessage>();
  const ended = deferred<string>();
  const stopping = new AbortController();
  let server: RunningNatsServer | undefined;
  const run = async (): Promise<string> => {
    // nats-server does not lock its store: two of them on one store would destroy it (tried with 2.14.9).
    await makeFolder(options.data);
    const pidFile = join(options.data, "nats-server.pid");
    await endLeftover(pidFile, options.data, onLine);
    server = await startNatsServer({
      binary: options.binary,
      dataDirectory: options.data,
      port: options.port,
      log: onLine,
      tied: true,
      signal: stopping.signal,
    });
    await writePidFile(pidFile, server.pid);
    const { url, port, monitorUrl } = server;
    ready.resolve({ kind: "ready", url, port, monitorUrl });
    const { code, signal } = await server.exited;
    await rm(pidFile, { force: true });
    return signal === null ? `with code ${code}` : `by ${signal}`;
  };
  run().then(
    (how) => ended.resolve(how),
    (error: unknown) => ended.reject(error),
  );
  return {
    get pid() {
      return server?.pid;
    },
    ready: ready.promise,
    ended: ended.promise,
    stop: () => {
      stopping.abort();
      if (server !== undefined) void server.stop();
    },
    kill: () => {
      stopping.abort();
      if (server !== undefined) void server.kill();
    },
  };
}
