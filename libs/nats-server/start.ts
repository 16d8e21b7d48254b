import { type ChildProcess, spawn } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { createConnection, createServer } from "node:net";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { KithError, sleep, systemClock, makeFolder } from "../base/index.js";
import { guardProcess } from "./guard.js";

export interface StartNatsServerOptions {
  /** Path of the executable. */
  binary: string;
  /** Holds the configuration file and the JetStream store; may be one that an earlier server used. */
  dataDirectory: string;
  /** 0 (default) takes a free one. */
  port?: number;
  /** Default 127.0.0.1. */
  host?: string;
  /** Upper bound of the JetStream store; default: what the server finds right for the disk. */
  maxStoreBytes?: number;
  /** Gets the server's own log, line by line. */
  log?: (line: string) => void;
  /**
   * The server ends when this process is gone, even by kill -9, and not by a Ctrl-C in the terminal, which is for this process: it may
   * have others to stop before.
   */
  tied?: boolean;
  /** Gives up the start. */
  signal?: AbortSignal;
}

export interface RunningNatsServer {
  /** nats://host:port */
  url: string;
  /** http://host:port of its monitoring pages, on a port of its own choice. */
  monitorUrl: string;
  host: string;
  port: number;
  pid: number;
  /** Ends it in good order (SIGTERM), by force after 10 s. Resolves when it has ended. */
  stop(): Promise<void>;
  /** Ends it as a crash would (SIGKILL). Resolves when it has ended. */
  kill(): Promise<void>;
  exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
}

const readyTimeoutMs = 20_000;
const stopTimeoutMs = 10_000;
const portAttempts = 5;
/** Last lines of the server's log, shown when it does not start. */
const rememberedLines = 20;

/** A port that is free at the moment. Another process may take it before the server does: the caller tries again. */
async function freePort(host: string): Promise<number> {
  return new Promise((resolvePort, reject) => {
    const probe = createServer();
    probe.on("error", reject);
    probe.listen(0, host, () => {
      const address = probe.address();
      const port = address !== null && typeof address === "object" ? address.port : 0;
      probe.close(() => resolvePort(port));
    });
  });
}

/** The server fsyncs every message before it acknowledges it: an acknowledged write survives the loss of power. */
function configuration(host: string, port: number, options: StartNatsServerOptions): string {
  const quoted = (text: string): string => JSON.stringify(text);
  const limit = options.maxStoreBytes === undefined ? "" : `\n  max_file_store: ${options.maxStoreBytes}`;
  return `# Written at every start.
host: ${quoted(host)}
port: ${port}
http: ${quoted(`${host.includes(":") ? `[${host}]` : host}:-1`)}
jetstream {
  store_dir: ${quoted(resolve(options.dataDirectory, "jetstream"))}
  sync_interval: always${limit}
}
`;
}

/** Whether a NATS server greets on the port. */
function greets(host: string, port: number): Promise<boolean> {
  return new Promise((resolveGreeting) => {
    const socket = createConnection({ host, port });
    const end = (greeted: boolean): void => {
      socket.destroy();
      resolveGreeting(greeted);
    };
    socket.setTimeout(1_000, () => end(false));
    socket.on("error", () => end(false));
    socket.on("close", () => end(false));
    socket.on("data", (data) => end(data.toString("latin1").startsWith("INFO ")));
  });
}

/**
 * Starts a nats-server with JetStream and waits until it serves. Unless it is `tied`, whoever starts one stops it on every way out,
 * and calls `kill` from an exit hook for the ways that leave no time. A server that was left behind holds its store
 * directory, and the next start on it fails.
 */
export async function startNatsServer(options: StartNatsServerOptions): Promise<RunningNatsServer> {
  const host = options.host ?? "127.0.0.1";
  const attempts = options.port === undefined || options.port === 0 ? portAttempts : 1;
  for (let attempt = 1; ; attempt++) {
    const port = options.port === undefined || options.port === 0 ? await freePort(host) : options.port;
    try {
      return await startOn(host, port, options);
    } catch (error) {
      const taken = error instanceof KithError && error.details["portTaken"] === true;
      if (!taken || attempt >= attempts) throw error;
    }
  }
}

async function startOn(host: string, port: number, options: StartNatsServerOptions): Promise<RunningNatsServer> {
  await makeFolder(options.dataDirectory);
  const configFile = join(options.dataDirectory, "nats-server.conf");
  await writeFile(configFile, configuration(host, port, options));
  const tied = options.tied === true;
  const child = spawn(options.binary, ["--config", configFile], {
    stdio: ["ignore", "ignore", "pipe"],
    detached: tied,
  });
  if (tied && child.pid !== undefined) child.on("exit", guardProcess(child.pid));
  const lines: string[] = [];
  let ready = false;
  let monitorUrl = "";
  createInterface({ input: child.stderr }).on("line", (line) => {
    ready ||= line.includes("Server is ready");
    const monitor = /Starting http monitor on (\S+)/.exec(line)?.[1];
    if (monitor !== undefined) monitorUrl = `http://${monitor}`;
    lines.push(line);
    if (lines.length > rememberedLines) lines.shift();
    options.log?.(line);
  });
  let spawnError: Error | undefined;
  child.on("error", (error) => {
    spawnError = error;
  });
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolveExit) => {
    child.on("exit", (code, signal) => resolveExit({ code, signal }));
    child.on("error", () => resolveExit({ code: null, signal: null }));
  });
  const end = performance.now() + readyTimeoutMs;
  while (!(ready && (await greets(host, port)))) {
    const ended = spawnError !== undefined || child.exitCode !== null || child.signalCode !== null;
    const givenUp = options.signal?.aborted === true;
    if (!ended && !givenUp && performance.now() < end) {
      await sleep(systemClock, 10);
      continue;
    }
    child.kill("SIGKILL");
    await exited;
    const text = lines.join("\n");
    const late = givenUp ? "it was told to end" : `it was not ready after ${readyTimeoutMs} ms`;
    const reason = spawnError?.message ?? (ended ? "it ended at once" : late);
    throw new KithError(
      "FAILED_PRECONDITION",
      `${options.binary} does not start on ${host}:${port}: ${reason}\n${text}`,
      {
        details: { portTaken: /address already in use/i.test(text) },
      },
    );
  }
  return handle(child, host, port, monitorUrl, exited);
}

function handle(
  child: ChildProcess,
  host: string,
  port: number,
  monitorUrl: string,
  exited: RunningNatsServer["exited"],
): RunningNatsServer {
  const alive = (): boolean => child.exitCode === null && child.signalCode === null;
  return {
    url: `nats://${host}:${port}`,
    monitorUrl,
    host,
    port,
    pid: child.pid ?? 0,
    exited,
    async stop() {
      if (!alive()) return;
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), stopTimeoutMs);
      await exited;
      clearTimeout(timer);
    },
    async kill() {
      if (!alive()) return;
      child.kill("SIGKILL");
      await exited;
    },
  };
}
