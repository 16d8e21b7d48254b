import { readdir } from "node:fs/promises";
import { totalmem } from "node:os";
import { join, resolve } from "node:path";
import { KithError, sleep, systemClock, systemRuntime, prepareData } from "../../../libs/base/index.js";
import { loadNodeConfig } from "../../../libs/config/index.js";
import { type NatsServer, resolveNatsServer } from "../../../libs/nats-server/index.js";
import type { RunningNode } from "../../node/index.js";
import type { Style } from "../cells.js";
import type { CommandContext } from "../context.js";
import { UsageError } from "../failure.js";
import { programVersion } from "../version.js";
import { type ChildHooks, type ChildSpec, SupervisedChild } from "./child.js";
import { authSettings, cacheDirectory, childEnvironment, sharedSettings } from "./environment.js";
import { httpSettings } from "./http-port.js";
import { qdrantSettings } from "./qdrant-port.js";
import { launchProgram } from "./launch.js";
import { launchNats } from "./launch-nats.js";
import { readableLine } from "./log-lines.js";
import { serverFlags } from "./node-flags.js";
import { lockFolder } from "./pid-file.js";
import { type ServedTls, tlsFlags } from "./tls.js";

export interface UpOptions {
  shards: number;
  replicas: number;
  data: string;
  host: string;
  port: number;
  httpPort?: number | "off";
  qdrant?: boolean | number;
  qdrantGrpc?: number;
  allowInsecure?: boolean;
  logLevel?: string;
  /** Start a nats-server even where the environment names one: nothing is to be left on that one. */
  ownNats?: boolean;
  /** Of the router and the shard nodes. */
  tls?: ServedTls;
}

const upTimeoutMs = 60_000;
const nodeStopTimeoutMs = 20_000;
const natsStopTimeoutMs = 12_000;
/** What nats-server says of its ordinary life; it has no setting for less. */
const natsChatter = /^\[\d+\] \S+ \S+ \[(INF|DBG)\]/;
const colours: Style[] = ["cyan", "magenta", "yellow", "green", "blue"];

export interface ReadyCluster {
  target: string;
  /** host:port of the REST API; "" where there is none. */
  http: string;
  /** host:port of Qdrant's REST API; "" where there is none. */
  qdrant: string;
  /** host:port of Qdrant's gRPC services; "" where there are none. */
  qdrantGrpc: string;
  /** Ids of its nodes. */
  nodes: string[];
}

/**
 * What `kith up` runs: the router and the coordinator in this process, the nats-server and each shard node in one of their own. A router
 * in its own process would be 65 MiB more, for a user whose cluster ends with it either way.
 */
export class LocalCluster {
  readonly #context: CommandContext;
  readonly #options: UpOptions;
  /** By which the nodes of this cluster know each other: on this machine others may run programs too. */
  readonly #secret = systemRuntime.random.bytes(32).toString("base64url");
  #nats: SupervisedChild | undefined;
  #server: NatsServer | undefined;
  #natsDescription = "";
  readonly #shards: SupervisedChild[] = [];
  #router: RunningNode | undefined;
  #unlock: (() => Promise<void>) | undefined;
  readonly #stopping = new AbortController();
  #fail!: (error: KithError) => void;
  /** Resolves with the error of a child that cannot be kept alive. */
  readonly failed: Promise<KithError>;

  constructor(context: CommandContext, options: UpOptions) {
    if (options.replicas > options.shards) {
      throw new UsageError(
        `${options.replicas} replicas of a shard need as many shard nodes, and there are ${options.shards}; use --shards ${options.replicas} or --replicas ${options.shards}`,
      );
    }
    this.#context = context;
    this.#options = options;
    this.failed = new Promise((done) => {
      this.#fail = done;
    });
  }

  /** Starts everything in order and waits until the cluster says that its nodes are up; undefined when it was stopped meanwhile. */
  async start(): Promise<ReadyCluster | undefined> {
    const { data, shards } = this.#options;
    this.#checkRouter();
    await prepareData(data);
    this.#unlock = await lockFolder(join(data, "up.lock"), data);
    await this.#checkData();
    const natsUrl = await this.#startNats();
    if (this.#stopping.signal.aborted) return undefined;
    const names = Array.from({ length: shards }, (_, index) => `shard-${index}`);
    const starts = names.map((name, index) => {
      const child = this.#child(this.#shardSpec(name, index + 1, natsUrl), index + 1);
      this.#shards.push(child);
      return child.start();
    });
    const [router] = await Promise.all([this.#startRouter(natsUrl), ...starts]);
    if (router === undefined) return undefined;
    await untilUp(router, names, this.#stopping.signal);
    this.#context.io.onStarted();
    return {
      target: router.address,
      http: router.httpAddress,
      qdrant: router.qdrantAddress,
      qdrantGrpc: router.qdrantGrpcAddress,
      nodes: ["router", ...names],
    };
  }

  /** In this process; undefined where it was told to end meanwhile. */
  async #startRouter(natsUrl: string): Promise<RunningNode | undefined> {
    const { io } = this.#context;
    const { signal } = this.#stopping;
    const { host, port, replicas, allowInsecure } = this.#options;
    const config = loadNodeConfig({
      env: {
        ...sharedSettings(io, this.#server?.kind === "external"),
        ...Object.fromEntries(authSettings.map((name) => [name, io.env[name]])),
      },
      flags: {
        nodeId: "router",
        roles: ["router", "coordinator"],
        log: { kind: "jetstream", url: natsUrl, monitor: this.#nats?.ready?.monitorUrl },
        listen: { host, port },
        link: { secret: this.#secret },
        tls: this.#options.tls,
        http: httpSettings(this.#options),
        qdrant: qdrantSettings(this.#options),
        replicationFactor: replicas,
        allowInsecure,
        logLevel: this.#options.logLevel,
        ...(!io.env["KITH_BACKUP_FOLDER"] && { backup: { folder: this.#backupFolder() } }),
      },
    });
    const { createLogger } = await import("../../../libs/telemetry/index.js");
    const { startNode } = await import("../../node/index.js");
    const write = this.#lineWriter("router", colours[0]);
    const router = await startNode(config, {
      version: programVersion,
      env: io.env,
      signal,
      logger: (onRecord) => createLogger({ level: config.logLevel, nodeId: config.nodeId, write, onRecord }),
    }).catch((error: unknown) => {
      if (error === signal.reason) return undefined;
      throw error;
    });
    this.#router = router;
    // Told to end when it had just started: stop() did not see it.
    if (signal.aborted) await router?.close();
    return signal.aborted ? undefined : router;
  }

  /** Router, shards, nats-server: each has what it needs until it has ended. */
  async stop(): Promise<void> {
    this.#stopping.abort(new KithError("SHUTTING_DOWN", "the cluster was told to end"));
    await this.#router?.close();
    await Promise.all(this.#shards.map((shard) => shard.stop()));
    await this.#nats?.stop();
    await this.#unlock?.();
  }

  kill(): void {
    this.#stopping.abort(new KithError("SHUTTING_DOWN", "the cluster was told to end"));
    for (const child of [...this.#shards, this.#nats]) child?.kill();
  }

  summary(target: string): string {
    const { out } = this.#context;
    const { replicas, data, shards } = this.#options;
    const pids = [{ name: "router", pid: process.pid }, ...this.#shards].map(({ name, pid }) => `${name} (pid ${pid})`);
    return [
      `Kith is up: ${shards} shard nodes, ${replicas} replica${replicas === 1 ? "" : "s"} of each shard, ${this.#natsDescription}`,
      `  processes   ${pids.join(", ")}`,
      `  data        ${data}`,
      `  listens at  ${out.paint("bold", target)}`,
    ].join("\n");
  }

  /** What would keep the router from starting is said before anything is started. */
  #checkRouter(): void {
    const { io } = this.#context;
    const { host, port, allowInsecure } = this.#options;
    // As the router will be, as far as it is known before NATS is there.
    loadNodeConfig({
      env: Object.fromEntries(authSettings.map((name) => [name, io.env[name]])),
      flags: {
        nodeId: "router",
        roles: ["router", "coordinator"],
        log: { kind: "jetstream", url: "nats://127.0.0.1" },
        listen: { host, port },
        http: httpSettings(this.#options),
        qdrant: qdrantSettings(this.#options),
        tls: this.#options.tls,
        allowInsecure,
      },
    });
  }

  /** Replicas on nodes that are not started again would be missing. */
  async #checkData(): Promise<void> {
    const { data, shards } = this.#options;
    const names = (await readdir(data)).filter((name) => /^shard-\d+$/.test(name));
    const most = Math.max(0, ...names.map((name) => Number(name.slice("shard-".length)) + 1));
    if (most > shards) {
      throw new UsageError(
        `${data} holds the data of ${most} shard nodes; start with --shards ${most}, or name another --data`,
      );
    }
  }

  /** Finds or fetches the nats-server, and describes it; FAILED_PRECONDITION where there is none. */
  async resolveNats(): Promise<string> {
    const { io, out } = this.#context;
    this.#server ??= await resolveNatsServer({
      ...(io.env["KITH_NATS_URL"] && !this.#options.ownNats && { url: io.env["KITH_NATS_URL"] }),
      ...(io.env["PATH"] && { searchPath: io.env["PATH"] }),
      cacheDirectory: cacheDirectory(io),
      log: (line) => void out.note(line),
    });
    if (this.#server.kind === "external") return `NATS at ${this.#server.url}`;
    return `nats-server ${this.#server.version} (${this.#server.path}), every write fsynced`;
  }

  async #startNats(): Promise<string> {
    this.#natsDescription = await this.resolveNats();
    const server = this.#server;
    if (server === undefined || this.#stopping.signal.aborted) return "";
    if (server.kind === "external") return server.url;
    const folder = join(this.#options.data, "nats");
    // A server that is started again must come back where the nodes look for it.
    this.#nats = this.#child(
      {
        name: "nats",
        launch: (before, onLine) => launchNats({ binary: server.path, data: folder, port: before?.port ?? 0 }, onLine),
        stopTimeoutMs: natsStopTimeoutMs,
      },
      undefined,
    );
    const { url } = await this.#nats.start();
    if (url === undefined) throw new KithError("INTERNAL", "nats-server did not say where it listens");
    return url;
  }

  #shardSpec(name: string, number: number, natsUrl: string): ChildSpec {
    const { io } = this.#context;
    const { data, shards, logLevel = "info" } = this.#options;
    const flags = ["--roles", "shard", "--node-id", name, "--data", join(data, name), "--link-listen", "127.0.0.1:0"];
    const memoryBytes = Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
    const given = [io.env["NODE_OPTIONS"] ?? "", ...io.program.args];
    const tls = this.#options.tls === undefined ? [] : tlsFlags(this.#options.tls);
    const nodeArgs = serverFlags(shards + 1, memoryBytes, given);
    const env = {
      ...childEnvironment(io, number, this.#server?.kind === "external"),
      KITH_BACKUP_FOLDER: this.#backupFolder(),
      KITH_LINK_SECRET: this.#secret,
    };
    return {
      name,
      launch: (_, onLine) => {
        const args = ["start", "--nats", natsUrl, ...this.#monitorFlags(), "--log-level", logLevel, ...flags, ...tls];
        return launchProgram(io, { args, nodeArgs, env }, onLine);
      },
      stopTimeoutMs: nodeStopTimeoutMs,
    };
  }

  /** One for all nodes of this machine. */
  #backupFolder(): string {
    return this.#context.io.env["KITH_BACKUP_FOLDER"] || resolve(this.#options.data, "backups");
  }

  /** The monitoring port of our own nats-server, which is another one after each of its starts. */
  #monitorFlags(): string[] {
    const monitorUrl = this.#nats?.ready?.monitorUrl;
    return monitorUrl === undefined ? [] : ["--nats-monitor", monitorUrl];
  }

  #child(spec: ChildSpec, colour: number | undefined): SupervisedChild {
    const { io, out } = this.#context;
    const hooks: ChildHooks = {
      onLine: this.#lineWriter(spec.name, colour === undefined ? "dim" : colours[colour % colours.length]),
      onNote: (text) => void io.stderr.write(`${out.paint("yellow", text, "stderr")}\n`),
      onGivenUp: (error) => this.#fail(error),
    };
    return new SupervisedChild(spec, hooks);
  }

  /** Writes the lines of a node's log behind its name. */
  #lineWriter(name: string, style: Style = "cyan"): (line: string) => void {
    const { io, out } = this.#context;
    const prefix = out.paint(style, `${name.padEnd(8)}│ `, "stderr");
    const quiet = this.#options.logLevel === "warn" || this.#options.logLevel === "error";
    return (line) => {
      if (!quiet || !natsChatter.test(line)) io.stderr.write(`${prefix}${readableLine(line.trimEnd())}\n`);
    };
  }
}

/** Waits until the node sees the others up; SHARD_UNAVAILABLE, with their names, where that takes too long. */
async function untilUp(node: RunningNode, ids: readonly string[], signal: AbortSignal): Promise<void> {
  const endMs = performance.now() + upTimeoutMs;
  for (;;) {
    const missing = ids.filter((id) => node.stateOf(id) !== "up");
    if (missing.length === 0) return;
    if (performance.now() > endMs) {
      const text = `after ${upTimeoutMs / 1000} s these nodes are not up: ${missing.join(", ")}; their logs are above`;
      throw new KithError("SHARD_UNAVAILABLE", text, { details: { missing: missing.join(",") } });
    }
    await sleep(systemClock, 20, signal);
  }
}
