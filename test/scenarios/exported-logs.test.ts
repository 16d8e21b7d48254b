/**
 * The nodes of `kith up` export their logs over OTLP like any other node, each line once and with its trace, while the console
 * shows the same lines behind the name of their process; a collector that cannot be reached does not make lines by itself.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { connect } from "../../libs/client/index.js";
import { NodeProcess } from "../cluster/child.js";
import { eventually } from "../../libs/base/testing.js";
import { startCollector } from "../cluster/otlp.js";
import { program } from "../cluster/processes.js";

let folder: string;
let started: NodeProcess | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "kith-exported-logs-"));
});
afterEach(async () => {
  await started?.end("SIGTERM");
  started = undefined;
  rmSync(folder, { recursive: true, force: true });
});

const plainEnvironment = { PATH: process.env["PATH"] ?? "", OTEL_BLRP_SCHEDULE_DELAY: "100" };

/** Starts `kith` with these arguments and its data in the test's folder; resolves with its address when it serves. */
async function start(args: readonly string[], env: Record<string, string>): Promise<string> {
  const command = [process.execPath, program, "--output", "json", ...args, "--port", "0", "--log-level", "debug"];
  started = new NodeProcess("kith", [...command, "--data", join(folder, "data")], env, join(folder, "log"));
  started.start();
  const ready = eventually(() => {
    const line = consoleLines().find((each) => each.startsWith('{"event":"ready"'));
    if (line === undefined) throw new Error(`it does not serve:\n${consoleLines().join("\n")}`);
    return (JSON.parse(line) as { target: string }).target;
  }, 60_000);
  const ended = started.exited.then((code) => {
    throw new Error(`it ended with ${code}:\n${consoleLines().join("\n")}`);
  });
  return Promise.race([ready, ended]);
}

const consoleLines = (): string[] => readFileSync(join(folder, "log"), "utf8").split("\n");

test("the children of kith up export each line once, with its trace", { timeout: 120_000 }, async () => {
  const collector = await startCollector();
  try {
    const env = { ...plainEnvironment, ...collector.env, OTEL_LOGS_EXPORTER: "otlp" };
    const target = await start(["up", "--shards", "1", "--replicas", "1"], env);
    const client = await connect(target);
    await expect(client.collection("missing").info()).rejects.toMatchObject({ code: "COLLECTION_NOT_FOUND" });
    client.close();

    const failed = 'there is no collection "missing"';
    const { traceId, spanId } = await eventually(() => {
      const line = collector.logs.find(({ message }) => message.includes(failed));
      if (line === undefined) throw new Error(`not exported: ${JSON.stringify(collector.logs)}`);
      return line;
    });
    await eventually(() => {
      const span = collector.spans.find((each) => each.spanId === spanId);
      expect(span, "the span of the failed call").toMatchObject({ traceId, node: "router" });
    });
    // Whatever is still to be exported goes out at the end.
    await started?.end("SIGTERM");
    const count = (node: string, text: string): number =>
      collector.logs.filter((line) => line.node === node && line.message.includes(text)).length;
    expect(count("router", failed)).toBe(1);
    expect(count("router", "node router is up")).toBe(1);
    expect(count("shard-0", "node shard-0 is up")).toBe(1);
    expect(new Set(collector.logs.map(({ node }) => node))).toEqual(new Set(["router", "shard-0"]));
    const shown = consoleLines().filter((line) => line.includes(failed));
    expect(shown).toEqual([expect.stringMatching(/^router {2}│ debug /)]);
  } finally {
    await collector.close();
  }
});

test("the report of a failed export is not exported", { timeout: 60_000 }, async () => {
  const bodies: string[] = [];
  const refusing = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      bodies.push(Buffer.concat(chunks).toString());
      response.writeHead(400).end();
    });
  });
  await new Promise<void>((resolve) => refusing.listen(0, "127.0.0.1", resolve));
  try {
    await start(["dev"], {
      ...plainEnvironment,
      OTEL_LOGS_EXPORTER: "otlp",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${(refusing.address() as AddressInfo).port}`,
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_TRACES_EXPORTER: "none",
      OTEL_METRICS_EXPORTER: "none",
    });
    await eventually(() => expect(consoleLines().join("\n")).toContain("telemetry: "));
    await started?.end("SIGTERM");
    expect(bodies.length).toBeGreaterThan(0);
    expect(bodies.join("\n")).not.toContain("telemetry: ");
  } finally {
    refusing.close();
    refusing.closeAllConnections();
  }
});
