import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { inject } from "vitest";
import { KithError } from "../base/index.js";
import { freePort } from "../base/testing.js";
import { pinnedVersion, resolveNatsServer, type RunningNatsServer, startNatsServer } from "./index.js";

/** Kept between runs and ignored by git. */
const cacheDirectory = fileURLToPath(new URL("../../.kith/cache/", import.meta.url));

export interface TestNatsServer {
  readonly url: string;
  readonly monitorUrl: string;
  readonly pid: number;
  /** Path of the executable. */
  readonly binary: string;
  readonly dataDirectory: string;
  /** SIGKILL. */
  kill(): Promise<void>;
  stop(): Promise<void>;
  /** Starts it again with the same port and store; it must have ended. */
  restart(): Promise<void>;
  /** Ends it and removes its directory. */
  dispose(): Promise<void>;
}

/** What the search before a test run came to: the program, or why there is none. */
export type FoundNatsServer = { path: string; version: string } | { missing: string };

declare module "vitest" {
  interface ProvidedContext {
    natsServer: FoundNatsServer;
  }
}

/** Finds a nats-server for the tests on the search path or in the project's cache, or fetches one into it. */
export async function findTestNatsServer(searchPath: string, log: (line: string) => void): Promise<FoundNatsServer> {
  try {
    const server = await resolveNatsServer({ searchPath, cacheDirectory, log });
    if (server.kind !== "binary") throw new KithError("INTERNAL", "the tests start their own nats-server");
    return server;
  } catch (error) {
    if (!(error instanceof KithError) || error.code !== "FAILED_PRECONDITION") throw error;
    return {
      missing:
        `the tests start nats-servers of their own, and there is none to be found (${error.details["tried"]}). ` +
        `Install nats-server ${pinnedVersion}, or Go to build it with, and put it on the PATH`,
    };
  }
}

/** The nats-server of this test run. A test that needs it fails where there is none; it never passes without. */
export function testNatsBinary(): string {
  const found = inject("natsServer");
  if ("missing" in found) throw new KithError("FAILED_PRECONDITION", found.missing);
  return found.path;
}

/** Starts a server for tests on a free port of the loopback interface, which it keeps, with its store in a temporary directory. */
export async function testNatsServer(options: { maxStoreBytes?: number } = {}): Promise<TestNatsServer> {
  const binary = testNatsBinary();
  const dataDirectory = await mkdtemp(join(tmpdir(), "kith-nats-"));
  const port = await freePort();
  let server: RunningNatsServer = await startNatsServer({ binary, dataDirectory, port, ...options });
  const onExit = (): void => {
    void server.kill();
  };
  process.on("exit", onExit);
  return {
    binary,
    dataDirectory,
    url: server.url,
    get monitorUrl() {
      return server.monitorUrl;
    },
    get pid() {
      return server.pid;
    },
    kill: () => server.kill(),
    stop: () => server.stop(),
    async restart() {
      server = await startNatsServer({ binary, dataDirectory, port, ...options });
    },
    async dispose() {
      await server.kill();
      process.off("exit", onExit);
      await rm(dataDirectory, { recursive: true, force: true });
    },
  };
}
