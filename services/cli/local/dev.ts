import { resolve } from "node:path";
import { Command, Option } from "commander";
import { loadNodeConfig, type NodeConfig } from "../../../libs/config/index.js";
import { contextOf, type GlobalOptions } from "../context.js";
import type { Io } from "../io.js";
import { authSettings, tuningSettings } from "./environment.js";
import { serve } from "./serve.js";
import { servedTls } from "./tls.js";
import { httpPort, httpPortHelp, httpSettings, restLine } from "./http-port.js";
import { qdrantGrpcHelp, qdrantHelp, qdrantLine, qdrantSettings } from "./qdrant-port.js";
import { whole } from "../values.js";

interface DevFlags {
  data: string;
  host: string;
  port: number;
  httpPort?: number | "off";
  qdrant?: boolean | number;
  qdrantGrpc?: number;
  clientCa?: string;
  allowInsecure?: boolean;
  logLevel?: string;
}

/** Settings of one process with every role and the embedded log; what `kith dev` and the embedded quickstart run. */
export function embeddedConfig(
  io: Io,
  flags: DevFlags,
  globals: Pick<GlobalOptions, "tlsCertificate" | "tlsKey"> = {},
): NodeConfig {
  // Of the environment only what tunes the process: KITH_NATS_URL and the like are for clusters.
  const names = [...tuningSettings, ...authSettings, "KITH_LOG_LEVEL", "KITH_DRAIN_TIMEOUT_MS"];
  return loadNodeConfig({
    env: Object.fromEntries(names.map((name) => [name, io.env[name]])),
    flags: {
      nodeId: "dev",
      roles: ["router", "shard", "coordinator"],
      log: { kind: "embedded" },
      data: resolve(io.cwd, flags.data),
      listen: { host: flags.host, port: flags.port },
      http: httpSettings(flags),
      qdrant: qdrantSettings(flags),
      tls: servedTls(globals, flags.clientCa, io.cwd),
      allowInsecure: flags.allowInsecure,
      // A server that someone has just started by hand should say only what matters.
      logLevel: flags.logLevel ?? (io.env["KITH_LOG_LEVEL"] ? undefined : "warn"),
    },
  });
}

export function devCommand(io: Io): Command {
  return new Command("dev")
    .description("run a whole database in this process; nothing else is needed")
    .option("--data <folder>", "where it keeps its data", "./.kith/dev")
    .option("--host <host>", "address to listen on", "127.0.0.1")
    .option("-p, --port <port>", "port to listen on; 0 takes a free one", whole(0, 65_535), 7700)
    .option("--http-port <port>", httpPortHelp, httpPort)
    .option("--qdrant [port]", qdrantHelp, whole(0, 65_534))
    .option("--qdrant-grpc <port>", qdrantGrpcHelp, whole(0, 65_535))
    .option("--client-ca <file>", "clients must have a certificate signed by it")
    .option("--allow-insecure", "listen beyond this machine without TLS or without API keys")
    .addOption(new Option("--log-level <level>", "KITH_LOG_LEVEL").choices(["debug", "info", "warn", "error"]))
    .addHelpText(
      "after",
      `
With --tls-cert and --tls-key it serves TLS. Ctrl-C ends it in good order; a second Ctrl-C ends it at once. The data stays.

Examples:
  kith dev
  kith dev --port 7800 --data /tmp/kith-test`,
    )
    .action(async (flags: DevFlags, self: Command) => {
      const context = contextOf(io, self);
      const { out } = context;
      const config = embeddedConfig(io, flags, context.globals);
      await serve(context, config, async (node) => {
        if (out.json) {
          await out.record({
            event: "ready",
            target: node.address,
            http: node.httpAddress,
            qdrant: node.qdrantAddress,
            qdrantGrpc: node.qdrantGrpcAddress,
            data: config.data,
          });
          return "stay";
        }
        await out.line(`Kith listens at ${out.paint("bold", node.address)}; its data is in ${config.data}`);
        const { qdrantAddress: http, qdrantGrpcAddress: grpc } = node;
        if (http !== "") await out.line(qdrantLine({ http, grpc }, config.tls !== undefined));
        if (node.httpAddress !== "") await out.line(restLine(node.httpAddress, config.tls !== undefined));
        await out.line(whatToTry(node.address, config.tls !== undefined));
        return "stay";
      });
      if (!out.json) await out.line("stopped");
    });
}

/** The first commands for someone who has a server running at this address. */
export function whatToTry(address: string, tls = false): string {
  const target = `${address === "127.0.0.1:7700" ? "" : ` --target ${address}`}${tls ? " --tls-ca <file>" : ""}`;
  return `
Try, in another terminal:
  kith collection create demo --dimension 3 --metric cosine${target}
  echo '{"id":1,"vector":[0.1,0.9,0.2],"title":"hello"}' | kith import - --format jsonl -c demo${target}
  kith search demo --vector '[0.1,0.8,0.3]'${target}
  kith cluster${target}

Ctrl-C stops it.`;
}
