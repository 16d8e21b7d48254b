import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import type { Command } from "commander";
import { defaultTarget, systemRuntime, toKithError } from "../../libs/base/index.js";
import type { KithClient, TlsOptions } from "../../libs/client/index.js";
import type { Telemetry } from "../../libs/telemetry/index.js";
import { ConnectError, UsageError } from "./failure.js";
import type { Io } from "./io.js";
import { Output, PayloadText } from "./output.js";
import { unreadable } from "./values.js";
import { programVersion } from "./version.js";

/** What the SDK waits by itself for a server that takes connections and does not answer. */
const connectTimeoutMs = 5_000;

/** Options that every command has. */
export interface GlobalOptions {
  target?: string;
  output: "table" | "json";
  timeout: number;
  color: boolean;
  verbose?: boolean;
  tls?: boolean;
  tlsCa?: string;
  tlsCertificate?: string;
  tlsKey?: string;
  apiKey?: string;
}

/** What a command works with. */
export interface CommandContext {
  io: Io;
  out: Output;
  globals: GlobalOptions;
  target: string;
  /** Ends with the command's --timeout or with Ctrl-C. */
  deadlineMs: number;
  /** The --timeout where somebody asked for one: for calls that may take longer than others by default. */
  askedDeadlineMs: number | undefined;
}

export function targetOf(io: Io, globals: Pick<GlobalOptions, "target">): string {
  return globals.target ?? (io.env["KITH_TARGET"] || defaultTarget);
}

export function contextOf(io: Io, command: Command): CommandContext {
  const globals = command.optsWithGlobals<GlobalOptions>();
  // https://no-color.org: any value that is not empty counts.
  const colour = globals.color && !io.env["NO_COLOR"];
  return {
    io,
    globals,
    out: new Output(io, { json: globals.output === "json", colour }),
    target: targetOf(io, globals),
    deadlineMs: globals.timeout,
    askedDeadlineMs: command.getOptionValueSourceWithGlobals("timeout") === "cli" ? globals.timeout : undefined,
  };
}

/** Runs `body` with a client that is closed afterwards. */
export async function withClient<T>(context: CommandContext, body: (client: KithClient) => Promise<T>): Promise<T> {
  const tls = await tlsOf(context);
  const apiKey = context.globals.apiKey ?? context.io.env["KITH_API_KEY"];
  // Not with the file: a server that this program runs has no use for the client and its gRPC.
  const { connect } = await import("../../libs/client/index.js");
  const telemetry = await exportSpans(context);
  const client = await connect(context.target, {
    // A server that is there answers at once, and one that is not is told at once.
    ...(context.deadlineMs < connectTimeoutMs && { connectTimeoutMs: context.deadlineMs }),
    deadlineMs: context.deadlineMs,
    signal: context.io.signal,
    parsePayload: (json) => new PayloadText(json),
    ...(tls !== undefined && { tls }),
    ...(apiKey !== undefined && apiKey !== "" && { apiKey }),
  }).catch(async (error: unknown) => {
    await telemetry?.shutdown();
    throw new ConnectError(toKithError(error));
  });
  context.io.onStarted();
  try {
    return await body(client);
  } finally {
    client.close();
    await telemetry?.shutdown();
  }
}

/**
 * Exports the spans of the command's calls where the OTEL_* variables ask for it, so that a trace begins with who asked. Metrics and
 * logs of a command are nobody's concern, and their port may be that of a server on this machine.
 */
async function exportSpans({ io }: CommandContext): Promise<Telemetry | undefined> {
  const env = {
    // Exporters try again for as long as they may; a command that has ended shall not wait for that.
    OTEL_EXPORTER_OTLP_TIMEOUT: "1500",
    ...io.env,
    OTEL_METRICS_EXPORTER: "none",
    OTEL_LOGS_EXPORTER: "none",
  };
  if (!Object.keys(io.env).some((name) => name.startsWith("OTEL_"))) return undefined;
  const { createLogger, setupTelemetry } = await import("../../libs/telemetry/index.js");
  const about = { serviceName: "kith-cli", nodeId: "cli", version: programVersion, env };
  const telemetry = await setupTelemetry({ ...systemRuntime, ...about });
  const write = (line: string): void => {
    const { msg } = JSON.parse(line) as { msg: string };
    io.stderr.write(`warning: ${msg}\n`);
  };
  telemetry.reportTo(createLogger({ level: "warn", nodeId: "cli", write }));
  return telemetry;
}

export async function tlsOf({ io, globals }: CommandContext): Promise<boolean | TlsOptions | undefined> {
  const { tlsCa, tlsCertificate, tlsKey } = globals;
  if ((tlsCertificate === undefined) !== (tlsKey === undefined)) {
    throw new UsageError("--tls-cert and --tls-key go together: the certificate of this client, and its key");
  }
  if (tlsCa === undefined && tlsCertificate === undefined) return globals.tls;
  const read = async (option: string, path: string): Promise<Buffer> => {
    try {
      return await readFile(resolve(io.cwd, path));
    } catch (cause) {
      throw unreadable(path, cause, option);
    }
  };
  return {
    ...(tlsCa !== undefined && { ca: await read("--tls-ca", tlsCa) }),
    ...(tlsCertificate !== undefined && { cert: await read("--tls-cert", tlsCertificate) }),
    ...(tlsKey !== undefined && { key: await read("--tls-key", tlsKey) }),
  };
}
