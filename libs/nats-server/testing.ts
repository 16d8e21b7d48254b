import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { KithError } from "../base/index.js";
import { resolveNatsServer, type RunningNatsServer, startNatsServer } from "./index.js";

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

/** The nats-server that tests use: from the search path or the project's cache, fetched into it at the first use. */
export async function testNatsBinary(): Promise<string> {
  // eslint-disable-next-line no-restricted-properties -- in a test run no main.ts reads the environment for us
  const searchPath = process.env["PATH"] ?? "";
  const server = await resolveNatsServer({ searchPath, cacheDirectory });
  if (server.kind !== "binary") throw new KithError("INTERNAL", "the tests start their own nats-server");
  return server.path;
}

/** Starts a server for tests on a free port of the loopback interface, with its store in a temporary directory. */
export async function testNatsServer(options: { maxStoreBytes?: number } = {}): Promise<TestNatsServer> {
  const binary = await testNatsBinary();
  const dataDirectory = await mkdtemp(join(tmpdir(), "kith-nats-"));
  let server: RunningNatsServer = await startNatsServer({ binary, dataDirectory, ...options });
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
      server = await startNatsServer({ binary, dataDirectory, port: server.port, ...options });
    },
    async dispose() {
      await server.kill();
      process.off("exit", onExit);
      await rm(dataDirectory, { recursive: true, force: true });
    },
  };
}
