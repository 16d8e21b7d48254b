import { Command } from "commander";
import { hostPort as shown, limits, systemRuntime } from "../../../libs/base/index.js";
import { isLoopback } from "../../../libs/config/index.js";
import { contextOf, tlsOf } from "../context.js";
import { UsageError } from "../failure.js";
import type { Io } from "../io.js";
import { duration } from "../values.js";
import { programVersion } from "../version.js";
import { GatewayTls } from "./gateway-tls.js";
import { restLine } from "./http-port.js";
import { hostPort } from "./start.js";

interface GatewayFlags {
  listen: string;
  allowInsecure?: boolean;
  corsOrigin?: string[];
  drainTimeout: number;
}

export function gatewayCommand(io: Io): Command {
  return new Command("gateway")
    .description("serve the REST API in a process of its own, which asks the router at --target by gRPC")
    .option("--listen <host:port>", "where it listens; port 0 takes a free one", "127.0.0.1:7780")
    .option("--cors-origin <origins...>", "origins of web pages that may call it; default: none")
    .option("--allow-insecure", "listen beyond this machine without TLS")
    .option("--drain-timeout <time>", "how long calls in flight may take at shutdown", duration, 10_000)
    .addHelpText(
      "after",
      `
A router serves the same by itself (kith start --http-listen). Callers' keys and tokens go on to the router, which decides. With --tls-cert
and --tls-key it serves TLS, and shows the same certificate to the router. Files that have changed are taken within ten seconds, and at SIGHUP.

Examples:
  kith gateway --target router:7700
  kith gateway --target router:7700 --listen 0.0.0.0:7780 --tls-cert cert.pem --tls-key key.pem --tls-ca ca.pem`,
    )
    .action(async (flags: GatewayFlags, self: Command) => {
      const context = contextOf(io, self);
      const { out, target } = context;
      const { host, port } = hostPort("--listen", flags.listen);
      const given = await tlsOf(context);
      const tls =
        typeof given === "object"
          ? await GatewayTls.open(async () => {
              const read = await tlsOf(context);
              return typeof read === "object" ? read : {};
            })
          : undefined;
      const served = tls?.served;
      if (!isLoopback(host) && served === undefined && flags.allowInsecure !== true) {
        throw new UsageError(
          `${host} can be reached from other machines, and there is no TLS: give --tls-cert and --tls-key, or say --allow-insecure where the network itself is protected`,
        );
      }
      const { createChannel } = await import("../../../libs/rpc/client/index.js");
      const { createLogger } = await import("../../../libs/telemetry/index.js");
      const { RemoteBackend, RestDoor } = await import("../../gateway/index.js");
      const channel = createChannel(target, {
        clock: systemRuntime.clock,
        ...(tls !== undefined ? { tls: tls.channel } : given === true && { tls: {} }),
      });
      const logger = createLogger({ level: "info", nodeId: "gateway", write: (line) => void io.stderr.write(line) });
      try {
        await channel.ready(context.deadlineMs);
        const rest = new RestDoor({
          ...systemRuntime,
          backend: new RemoteBackend(channel),
          logger,
          version: programVersion,
          corsOrigins: flags.corsOrigin ?? [],
          tls: served,
          unsentBytesMax: limits.inFlightAnswerBytes,
          ready: () => channel.connected,
        });
        const address = shown(host, await rest.listen(host, port));
        const following = tls?.follow(rest, systemRuntime.clock, logger);
        const stopHearing = following && io.onHangUp?.(following.look);
        io.onStarted();
        if (out.json) await out.record({ event: "ready", http: address, target });
        else await out.line(restLine(address, served !== undefined));
        await new Promise<void>((resolve) => {
          if (io.signal.aborted) resolve();
          io.signal.addEventListener("abort", () => resolve(), { once: true });
        });
        stopHearing?.();
        following?.end();
        await rest.drain(flags.drainTimeout);
      } finally {
        channel.close();
      }
    });
}
