import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KithError } from "../../libs/base/index.js";
import { Histogram } from "../lib/histogram.js";
import { queryPath } from "./driver.js";
import type { LoadSample } from "./loop.js";
import { grpcFrame } from "./requests.js";

export interface H2loadOptions {
  target: string;
  /** An encoded QueryRequest; h2load repeats this one. */
  request: Uint8Array;
  connections: number;
  /** In flight over all connections. */
  concurrency: number;
  warmupMs: number;
  durationMs: number;
  /** Called at the beginning and at the end of the measured window. */
  onWindow: (edge: "start" | "end") => void;
}

/**
 * Repeats one unary call with h2load of nghttp2, whose client costs far less CPU than any in Node. h2load knows HTTP only: a
 * gRPC error is a success to it, so the caller checks the request's answer before and after, and compares the bytes.
 */
export async function runH2load(options: H2loadOptions): Promise<LoadSample> {
  const folder = await mkdtemp(join(tmpdir(), "kith-h2load-"));
  try {
    const body = join(folder, "body");
    const log = join(folder, "log");
    await writeFile(body, grpcFrame(options.request));
    const seconds = Math.max(1, Math.round(options.durationMs / 1000));
    const warmupSeconds = Math.max(1, Math.round(options.warmupMs / 1000));
    const args = [
      ...[
        "-c",
        String(options.connections),
        "-t",
        "1",
        "-m",
        String(Math.ceil(options.concurrency / options.connections)),
      ],
      ...["-D", String(seconds), `--warm-up-time=${warmupSeconds}`, `--log-file=${log}`, "-d", body],
      ...["-H", "content-type: application/grpc", "-H", "te: trailers", `http://${options.target}${queryPath}`],
    ];
    const window = setTimeout(() => options.onWindow("start"), warmupSeconds * 1000);
    const output = await run("h2load", args).finally(() => clearTimeout(window));
    options.onWindow("end");
    const report = parseH2load(output);
    const latency = new Histogram();
    for (const line of (await readFile(log, "utf8")).split("\n")) {
      const [, status, durationUs] = line.split("\t");
      if (status === "200") latency.record(Number(durationUs));
    }
    const errors: Record<string, number> = report.failed === 0 ? {} : { HTTP: report.failed };
    return {
      queriesPerSecond: report.succeeded / seconds,
      windowSeconds: seconds,
      latency,
      sendDelay: new Histogram(),
      errors,
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The counts in h2load's report. */
export function parseH2load(output: string): { requestsPerSecond: number; succeeded: number; failed: number } {
  const rate = /^finished in [^,]+, ([\d.]+) req\/s/m.exec(output);
  const counts = /^requests: .*?(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout/m.exec(output);
  if (rate === null || counts === null)
    throw new KithError("INTERNAL", `h2load's report is not understood:\n${output}`);
  return {
    requestsPerSecond: Number(rate[1]),
    succeeded: Number(counts[1]),
    failed: Number(counts[2]) + Number(counts[3]) + Number(counts[4]),
  };
}

function run(command: string, args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    const collect = (chunk: Buffer): void => {
      output += chunk.toString();
    };
    child.stdout.on("data", collect);
    child.stderr.on("data", collect);
    child.on("error", (cause: NodeJS.ErrnoException) => {
      const missing =
        "h2load is not installed; it is part of nghttp2: apt-get install nghttp2-client, dnf install nghttp2, brew install nghttp2; or use --driver http2";
      reject(cause.code === "ENOENT" ? new KithError("FAILED_PRECONDITION", missing, { cause }) : cause);
    });
    child.on("close", (code) => {
      if (code === 0) resolve(output);
      else reject(new KithError("INTERNAL", `${command} ended with code ${code}:\n${output}`));
    });
  });
}
