import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { KithError } from "../../libs/base/index.js";
import { repositoryRoot } from "./paths.js";
import { withDescendants } from "./process-stats.js";

export interface OwnServerOptions {
  /** embedded: `kith dev`. up: `kith up`, a local cluster with JetStream. */
  kind: "embedded" | "up";
  shards?: number;
  replicas?: number;
  /** Further arguments of node, such as --cpu-prof. */
  nodeArgs?: readonly string[];
  /** Further options of the command, such as --tls-cert. */
  args?: readonly string[];
  env?: Record<string, string>;
  /** Serve metrics for Prometheus. */
  metrics?: boolean;
  /** Another checkout that is built, to compare with; default: this one. */
  root?: string;
  /** Told each line of its output and its log, with the process that wrote it. */
  onLine?: (line: string, pid: number | undefined) => void;
}

const readyTimeoutMs = 120_000;
const stopTimeoutMs = 60_000;
const rememberedLines = 30;

/** A Kith of our own in a temporary folder, in processes of its own, started from dist/. */
export class OwnServer {
  readonly #options: OwnServerOptions;
  readonly dataDirectory: string;
  /** Page of metrics, if it was asked for. */
  readonly metricsUrl: string | undefined;
  readonly #env: Record<string, string>;
  #child: ChildProcess | undefined;
  #exited: Promise<void> = Promise.resolve();
  #target = "";
  readonly #others = new Map<Port, string>();
  /** Lines of its log; shown when it fails. */
  readonly #lines: string[] = [];

  private constructor(options: OwnServerOptions, dataDirectory: string, metricsPort: number | undefined) {
    this.#options = options;
    this.dataDirectory = dataDirectory;
    this.#env = {
      ...(metricsPort === undefined
        ? {}
        : {
            OTEL_METRICS_EXPORTER: "prometheus",
            OTEL_EXPORTER_PROMETHEUS_HOST: "127.0.0.1",
            OTEL_EXPORTER_PROMETHEUS_PORT: String(metricsPort),
          }),
      ...options.env,
    };
    this.metricsUrl = metricsPort === undefined ? undefined : `http://127.0.0.1:${metricsPort}/metrics`;
  }

  static async start(options: OwnServerOptions): Promise<OwnServer> {
    const data = await mkdtemp(join(tmpdir(), "kith-bench-"));
    const server = new OwnServer(options, data, options.metrics === true ? await freePort() : undefined);
    try {
      await server.launch();
    } catch (error) {
      await server.stop();
      throw error;
    }
    return server;
  }

  /** host:port of its router. */
  get target(): string {
    return this.#target;
  }

  /** host:port of its REST API. */
  get httpTarget(): string {
    return this.targetOf("http");
  }

  /** host:port of one of its other doors. */
  targetOf(port: Port): string {
    const found = this.#others.get(port);
    if (found === undefined) throw new KithError("FAILED_PRECONDITION", `the server says nothing of ${port}`);
    return found;
  }

  /** All its processes. */
  get pids(): number[] {
    return this.#child?.pid === undefined ? [] : withDescendants([this.#child.pid]);
  }

  /** Starts the process on the data folder; resolves when it serves. */
  async launch(): Promise<void> {
    const main = programOf(this.#options.root ?? repositoryRoot);
    const { kind, shards, replicas, nodeArgs = [] } = this.#options;
    const args = ["--output", "json", kind === "embedded" ? "dev" : "up", "--data", this.dataDirectory, "--port", "0"];
    if (kind === "up") args.push("--shards", String(shards ?? 2), "--replicas", String(replicas ?? 1));
    args.push(...(this.#options.args ?? []));
    const child = spawn(process.execPath, [...nodeArgs, main, ...args], {
      // By the channel the server notices the end of this process, even by kill -9, and ends too: see SupervisedChild.
      stdio: ["ignore", "pipe", "pipe", "ipc"],
      env: { ...process.env, ...this.#env },
    });
    this.#child = child;
    this.#exited = new Promise((resolve) => {
      child.on("exit", () => resolve());
      child.on("error", () => resolve());
    });
    this.#target = await this.#ready(child);
  }

  #ready(child: ChildProcess): Promise<string> {
    return new Promise((resolve, reject) => {
      const fail = (why: string): void => {
        clearTimeout(timer);
        reject(new KithError("FAILED_PRECONDITION", `the server ${why}:\n${this.#lines.join("\n")}`));
      };
      const timer = setTimeout(() => fail(`was not ready after ${readyTimeoutMs} ms`), readyTimeoutMs);
      const onLine = (line: string): void => {
        if (this.#lines.push(line) > rememberedLines) this.#lines.shift();
        this.#options.onLine?.(line, child.pid);
        const target = readyTarget(line);
        if (target === undefined) return;
        for (const port of ports) {
          const other = readyTarget(line, port);
          if (other !== undefined) this.#others.set(port, other);
        }
        clearTimeout(timer);
        resolve(target);
      };
      for (const stream of [child.stdout, child.stderr]) {
        if (stream !== null) createInterface({ input: stream }).on("line", onLine);
      }
      child.on("error", (error) => fail(`cannot be started (${error.message})`));
      child.on("exit", (code, signal) => fail(`ended (${signal ?? `code ${code}`})`));
    });
  }

  /** Ends all its processes as a crash would, the parent first, so that it starts nothing again. The data stays. */
  async crash(): Promise<void> {
    for (const pid of this.pids) process.kill(pid, "SIGKILL");
    await this.#exited;
  }

  /** Ends it in good order, by force after a minute. The data stays. */
  async end(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), stopTimeoutMs);
    await this.#exited;
    clearTimeout(timer);
  }

  /** Ends it and removes its data. */
  async stop(): Promise<void> {
    await this.end();
    await rm(this.dataDirectory, { recursive: true, force: true });
  }
}

/** The built program of a checkout. */
export function programOf(root: string): string {
  const main = join(root, "dist", "services", "cli", "main.js");
  if (!existsSync(main)) {
    throw new KithError("FAILED_PRECONDITION", `${main} is missing: build it first (npm run build), or use --target`);
  }
  return main;
}

const ports = ["http", "qdrant", "qdrantGrpc"] as const;
type Port = (typeof ports)[number];

/** The address in the line that a server prints when it serves: of gRPC, or of another door where it has that. */
export function readyTarget(line: string, of: "target" | Port = "target"): string | undefined {
  if (!line.startsWith("{")) return undefined;
  try {
    const record = JSON.parse(line) as { event?: unknown } & Partial<Record<"target" | Port, unknown>>;
    const address = record[of];
    return record.event === "ready" && typeof address === "string" && address !== "" ? address : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.on("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => resolve(address !== null && typeof address === "object" ? address.port : 0));
    });
  });
}
