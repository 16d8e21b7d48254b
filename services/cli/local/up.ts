import { mkdir, readdir } from "node:fs/promises";
import { totalmem } from "node:os";
import { join, resolve } from "node:path";
import { Command, Option } from "commander";
import { hostPort, KithError } from "../../../libs/base/index.js";
import { refuseExposed } from "../../../libs/config/index.js";
import { type NatsServer, resolveNatsServer } from "../../../libs/nats-server/index.js";
import { type ChildHooks, type ChildSpec, SupervisedChild } from "./child.js";
import { launchProgram, type ReadyMessage } from "./launch.js";
import { launchNats } from "./launch-nats.js";
import { serverFlags } from "./node-flags.js";
import { type CommandContext, contextOf } from "../context.js";
import { whatToTry } from "./dev.js";
import { UsageError } from "../failure.js";
import type { Io } from "../io.js";
import type { Next } from "./serve.js";
import { readableLine } from "./log-lines.js";
import type { Style } from "../cells.js";
import { lockFolder } from "./pid-file.js";
import { whole } from "../values.js";
import { installationRoot } from "../version.js";

export interface UpOptions {
  shards: number;
  replicas: number;
  data: string;
  host: string;
  port: number;
  allowInsecure?: boolean;
  logLevel?: string;
  /** Start a nats-server even where the environment names one: nothing is to be left on that one. */
  ownNats?: boolean;
}

const nodeStopTimeoutMs = 20_000;
const natsStopTimeoutMs = 12_000;
/** What nats-server says of its ordinary life; it has no setting for less. */
const natsChatter = /^\[\d+\] \S+ \S+ \[(INF|DBG)\]/;
const colours: Style[] = ["cyan", "magenta", "yellow", "green", "blue"];

export function upCommand(io: Io): Command {
  return new Command("up")
    .description("run a cluster on this machine: a nats-server, a router and shard nodes, each a process of its own")
    .option("-s, --shards <n>", "shard nodes", whole(1, 32), 3)
    .option("-r, --replicas <n>", "replicas of each shard", whole(1, 7), 2)
    .option("--data <folder>", "where the cluster keeps its data", "./.kith/up")
    .option("--host <host>", "address to listen on", "127.0.0.1")
    .option("-p, --port <port>", "port to listen on; 0 takes a free one", whole(0, 65_535), 7700)
    .option("--allow-insecure", "listen beyond this machine without TLS")
    .addOption(
      new Option("--log-level <level>", "of all processes").choices(["debug", "info", "warn", "error"]).default("info"),
    )
    .addHelpText(
      "after",
      `
nats-server is taken from KITH_NATS_URL (one that runs already), the PATH, or the cache; else it is fetched into the cache
(KITH_CACHE). With KITH_NATS_URL, the other settings of NATS (KITH_NATS_CREDENTIALS, KITH_NATS_REPLICAS,
KITH_NATS_MONITOR_URL, KITH_NATS_ALLOW_UNSYNCED) and KITH_CLUSTER count too. A process that dies is started again. Ctrl-C stops the router first, then the shards, then nats-server.

Examples:
  kith up
  kith up --shards 3 --replicas 2 --data /var/tmp/kith
  KITH_NATS_URL=nats://127.0.0.1:4222 kith up --shards 2`,
    )
    .action(async (flags: UpOptions, self: Command) => {
      const context = contextOf(io, self);
      const { out } = context;
      const cluster = new LocalCluster(context, { ...flags, data: resolve(io.cwd, flags.data) });
      await runUntilInterrupted(context, cluster, async ({ target, nodes }) => {
        if (out.json) await out.record({ event: "ready", target, nodes });
        else {
          await out.line(cluster.summary(target));
          await out.line(whatToTry(target));
        }
        return "stay";
      });
      if (!out.json) await out.line("stopped");
    });
}

/** Starts the cluster, calls `onReady`, and stops it at Ctrl-C, or when a part of it cannot be kept alive. */
export async function runUntilInterrupted(
  context: CommandContext,
  cluster: LocalCluster,
  onReady: (ready: ReadyCluster) => Promise<Next>,
): Promise<void> {
  const { io, out } = context;
  const killAll = (): void => cluster.kill();
  process.once("exit", killAll);
  const interrupted = new Promise<undefined>((done) => {
    if (io.signal.aborted) done(undefined);
    io.signal.addEventListener("abort", () => done(undefined), { once: true });
    io.parent?.onGone(() => done(undefined));
  });
  try {
    const work = cluster.start().then(async (ready) => {
      const next = ready === undefined ? "stay" : await onReady(ready);
      return next === "leave" ? undefined : cluster.failed;
    });
    // The work that goes on after Ctrl-C ends with the children that it waits for.
    work.catch(() => undefined);
    const failure = await Promise.race([interrupted, work, cluster.failed]);
    if (failure !== undefined) throw failure;
    if (!out.json) await out.note("stopping: router, shards, nats-server (Ctrl-C again ends them at once)");
  } finally {
    await cluster.stop();
    process.off("exit", killAll);
  }
}

export interface ReadyCluster {
  target: string;
  /** Ids of its nodes. */
  nodes: string[];
}

/** The processes of `kith up`. */
export class LocalCluster {
  readonly #context: CommandContext;
  readonly #options: UpOptions;
  #nats: SupervisedChild | undefined;
  #server: NatsServer | undefined;
  #natsDescription = "";
  readonly #shards: SupervisedChild[] = [];
  #router: SupervisedChild | undefined;
  #unlock: (() => Promise<void>) | undefined;
  #stopped = false;
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
    await mkdir(data, { recursive: true });
    this.#unlock = await lockFolder(join(data, "up.lock"), data);
    await this.#checkData();
    const natsUrl = await this.#startNats();
    if (this.#stopped) return undefined;
    const nodes: Promise<ReadyMessage>[] = [];
    for (let index = 0; index < shards; index++) {
      const child = this.#child(this.#shardSpec(index, natsUrl), index + 1);
      this.#shards.push(child);
      nodes.push(child.start());
    }
    this.#router = this.#child(this.#routerSpec(natsUrl), 0);
    nodes.push(this.#router.start());
    const ready = await Promise.all(nodes);
    const target = ready.at(-1)?.address;
    if (target === undefined) throw new KithError("INTERNAL", "the router did not say where it listens");
    return { target, nodes: [this.#router, ...this.#shards].map((child) => child.name) };
  }

  /** Router, shards, nats-server: each has what it needs until it has ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#router?.stop();
    await Promise.all(this.#shards.map((shard) => shard.stop()));
    await this.#nats?.stop();
    await this.#unlock?.();
  }

  kill(): void {
    this.#stopped = true;
    for (const child of [this.#router, ...this.#shards, this.#nats]) child?.kill();
  }

  summary(target: string): string {
    const { out } = this.#context;
    const { replicas, data, shards } = this.#options;
    const pids = [this.#router, ...this.#shards].map((child) => `${child?.name} (pid ${child?.pid})`).join(", ");
    return [
      `Kith is up: ${shards} shard nodes, ${replicas} replica${replicas === 1 ? "" : "s"} of each shard, ${this.#natsDescription}`,
      `  processes   ${pids}`,
      `  data        ${data}`,
      `  listens at  ${out.paint("bold", target)}`,
    ].join("\n");
  }

  /** What would keep the router from starting is said before anything is started. */
  #checkRouter(): void {
    const { host, port, allowInsecure = false } = this.#options;
    refuseExposed({ roles: ["router"], listen: { host, port }, allowInsecure });
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
    if (server === undefined || this.#stopped) return "";
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

  #shardSpec(index: number, natsUrl: string): ChildSpec {
    const name = shardName(index);
    const data = join(this.#options.data, name);
    const flags = ["--roles", "shard", "--node-id", name, "--data", data, "--link-listen", "127.0.0.1:0"];
    return this.#nodeSpec(name, index + 1, natsUrl, () => flags);
  }

  #routerSpec(natsUrl: string): ChildSpec {
    const { host, port, replicas, shards, allowInsecure } = this.#options;
    const shardNames = Array.from({ length: shards }, (_, index) => shardName(index));
    return this.#nodeSpec("router", 0, natsUrl, (before) => [
      ...["--roles", "router,coordinator", "--node-id", "router", "--replication-factor", String(replicas)],
      // Clients know the address of the first start.
      ...["--listen", before?.address ?? hostPort(host, port)],
      ...(allowInsecure === true ? ["--allow-insecure"] : []),
      // The cluster is up when its router sees all of it. One that is started again serves with what there is.
      ...(before === undefined ? ["--await-nodes", shardNames.join(",")] : []),
    ]);
  }

  #nodeSpec(
    name: string,
    number: number,
    natsUrl: string,
    flags: (before: ReadyMessage | undefined) => readonly string[],
  ): ChildSpec {
    const { io } = this.#context;
    const level = this.#options.logLevel ?? "info";
    const memoryBytes = Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
    const given = [io.env["NODE_OPTIONS"] ?? "", ...io.program.args];
    const nodeArgs = serverFlags(this.#options.shards + 1, memoryBytes, given);
    const env = childEnvironment(io, number, this.#server?.kind === "external");
    return {
      name,
      launch: (before, onLine) => {
        const common = ["start", "--nats", natsUrl, ...this.#monitorFlags(), "--log-level", level];
        return launchProgram(io, { args: [...common, ...flags(before)], nodeArgs, env }, onLine);
      },
      stopTimeoutMs: nodeStopTimeoutMs,
    };
  }

  /** The monitoring port of our own nats-server, which is another one after each of its starts. */
  #monitorFlags(): string[] {
    const monitorUrl = this.#nats?.ready?.monitorUrl;
    return monitorUrl === undefined ? [] : ["--nats-monitor", monitorUrl];
  }

  #child(spec: ChildSpec, colour: number | undefined): SupervisedChild {
    const { io, out } = this.#context;
    const style: Style = colour === undefined ? "dim" : (colours[colour % colours.length] ?? "cyan");
    const prefix = out.paint(style, `${spec.name.padEnd(8)}│ `, "stderr");
    const quiet = this.#options.logLevel === "warn" || this.#options.logLevel === "error";
    const hooks: ChildHooks = {
      onLine: (line) => {
        if (!quiet || !natsChatter.test(line)) io.stderr.write(`${prefix}${readableLine(line)}\n`);
      },
      onNote: (text) => void io.stderr.write(`${out.paint("yellow", text, "stderr")}\n`),
      onGivenUp: (error) => this.#fail(error),
    };
    return new SupervisedChild(spec, hooks);
  }
}

function shardName(index: number): string {
  return `shard-${index}`;
}

/** Where fetched programs are kept. */
export function cacheDirectory(io: Io): string {
  return io.env["KITH_CACHE"] || join(installationRoot, ".kith", "cache");
}

const externalNatsSettings = [
  "KITH_CLUSTER",
  "KITH_NATS_CREDENTIALS",
  "KITH_NATS_REPLICAS",
  "KITH_NATS_MONITOR_URL",
  "KITH_NATS_ALLOW_UNSYNCED",
];

/**
 * The nodes are configured by flags alone: settings for a single node in the environment would hit all of them. Those of
 * a NATS that runs already are for all of them.
 */
function childEnvironment(io: Io, number: number, externalNats: boolean): Record<string, string | undefined> {
  const kept = new Set(["KITH_SEARCH_THREADS", ...(externalNats ? externalNatsSettings : [])]);
  const settings = Object.keys(io.env).filter((name) => name.startsWith("KITH_") && !kept.has(name));
  // Each process serves its own metrics: the router at the given port, the shards at those after it.
  const prometheusPort = Number(io.env["OTEL_EXPORTER_PROMETHEUS_PORT"] || 9_464);
  return {
    ...Object.fromEntries(settings.map((name) => [name, undefined])),
    ...(prometheusPort > 0 && { OTEL_EXPORTER_PROMETHEUS_PORT: String(prometheusPort + number) }),
    // LevelDB calls run on libuv's threads; its default of four lets one slow compaction hold up the others.
    UV_THREADPOOL_SIZE: io.env["UV_THREADPOOL_SIZE"] ?? "8",
  };
}
