import { resolve } from "node:path";
import { Command, Option } from "commander";
import { type CommandContext, contextOf } from "../context.js";
import type { Io } from "../io.js";
import { whole } from "../values.js";
import { LocalCluster, type ReadyCluster, type UpOptions } from "./cluster.js";
import { whatToTry } from "./dev.js";
import { httpPort, httpPortHelp, restLine } from "./http-port.js";
import { qdrantGrpcHelp, qdrantHelp, qdrantLine } from "./qdrant-port.js";
import type { Next } from "./serve.js";
import { servedTls } from "./tls.js";

export function upCommand(io: Io): Command {
  return new Command("up")
    .description(
      "run a cluster on this machine: the router in this process, a nats-server and shard nodes in their own",
    )
    .option("-s, --shards <n>", "shard nodes", whole(1, 32), 3)
    .option("-r, --replicas <n>", "replicas of each shard", whole(1, 7), 2)
    .option("--data <folder>", "where the cluster keeps its data", "./.kith/up")
    .option("--host <host>", "address to listen on", "127.0.0.1")
    .option("-p, --port <port>", "port to listen on; 0 takes a free one", whole(0, 65_535), 7700)
    .option("--http-port <port>", httpPortHelp, httpPort)
    .option("--qdrant [port]", qdrantHelp, whole(0, 65_534))
    .option("--qdrant-grpc <port>", qdrantGrpcHelp, whole(0, 65_535))
    .option("--allow-insecure", "listen beyond this machine without TLS or without API keys")
    .addOption(
      new Option("--log-level <level>", "of all processes").choices(["debug", "info", "warn", "error"]).default("info"),
    )
    .option("--client-ca <file>", "clients must have a certificate signed by it")
    .addHelpText(
      "after",
      `
nats-server is taken from KITH_NATS_URL (one that runs already), the PATH, or the cache; else it is fetched into the cache
(KITH_CACHE). With KITH_NATS_URL, the other settings of NATS (KITH_NATS_CREDENTIALS, KITH_NATS_REPLICAS,
KITH_NATS_MONITOR_URL, KITH_NATS_ALLOW_UNSYNCED) and KITH_CLUSTER count too. With --tls-cert, --tls-key and --tls-ca the router and the
shard nodes speak TLS, also among each other; a nats-server of its own listens on this machine alone. A process that dies is started again. Ctrl-C stops the router first, then the shards, then nats-server.

Examples:
  kith up
  kith up --shards 3 --replicas 2 --data /var/tmp/kith
  KITH_NATS_URL=nats://127.0.0.1:4222 kith up --shards 2`,
    )
    .action(async (flags: UpOptions & { clientCa?: string }, self: Command) => {
      const context = contextOf(io, self);
      const { out } = context;
      const tls = servedTls(context.globals, flags.clientCa, io.cwd);
      const hasTls = tls.certificate !== undefined || tls.key !== undefined;
      const options = { ...flags, data: resolve(io.cwd, flags.data), ...(hasTls && { tls }) };
      const cluster = new LocalCluster(context, options);
      await runUntilInterrupted(context, cluster, async ({ target, http, qdrant, qdrantGrpc, nodes }) => {
        if (out.json) await out.record({ event: "ready", target, http, qdrant, qdrantGrpc, nodes });
        else {
          await out.line(cluster.summary(target));
          if (qdrant !== "") await out.line(qdrantLine({ http: qdrant, grpc: qdrantGrpc }, hasTls));
          if (http !== "") await out.line(restLine(http, hasTls));
          await out.line(whatToTry(target, hasTls));
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
