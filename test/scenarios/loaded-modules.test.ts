/**
 * A process loads what it needs: a command nothing of the server, a role nothing of the others, and OpenTelemetry's SDK only where a
 * signal is on. Each module of the list is one that was loaded everywhere once; V8's coverage tells which files a process has run.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, expect, test } from "vitest";
import { testNatsServer, type TestNatsServer } from "../../libs/nats-server/testing.js";
import { program } from "../cluster/processes.js";

let folder: string;
let nats: TestNatsServer;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "kith-modules-"));
  nats = await testNatsServer();
});
afterAll(async () => {
  await nats.dispose();
  rmSync(folder, { recursive: true, force: true });
});

/** Runs the program until it ends or says that it is ready, and returns the files that it has loaded. */
async function loadedBy(name: string, args: readonly string[], env: Record<string, string> = {}): Promise<string[]> {
  const coverage = join(folder, `coverage-${name}`);
  const child = spawn(process.execPath, [program, "--output", "json", ...args], {
    cwd: folder,
    env: { PATH: process.env["PATH"], NODE_V8_COVERAGE: coverage, ...env },
    stdio: ["ignore", "pipe", "ignore"],
  });
  createInterface({ input: child.stdout }).on("line", (line) => {
    if (line.includes('"ready"')) child.kill("SIGTERM");
  });
  await once(child, "exit");
  const files = readdirSync(coverage).map((file) => readFileSync(join(coverage, file), "utf8"));
  const urls = files.flatMap((text) =>
    (JSON.parse(text) as { result: { url: string }[] }).result.map(({ url }) => url),
  );
  return urls.filter((url) => url.startsWith("file:")).sort();
}

const modules = {
  client: /libs\/client\//,
  config: /node_modules\/valibot\//,
  engine: /libs\/engine\//,
  protobufjs: /node_modules\/protobufjs\//,
  grpc: /@grpc\/grpc-js\//,
  leveldb: /classic-level\//,
  nats: /@nats-io\//,
  node: /services\/node\//,
  publicApi: /services\/router\//,
  // The door is there with that of REST; what is behind it comes with the first request.
  qdrant: /services\/gateway\/qdrant\/(?!door)/,
  rest: /node_modules\/fastify\//,
  sdk: /@opentelemetry\/sdk-/,
};
type Name = keyof typeof modules;

function expectLoaded(urls: readonly string[], expected: Record<Name, boolean>): void {
  const found = Object.entries(modules).map(([name, path]) => [name, urls.some((url) => path.test(url))]);
  expect(Object.fromEntries(found)).toEqual(expected);
}

const nothing: Record<Name, boolean> = {
  client: false,
  config: false,
  engine: false,
  protobufjs: false,
  grpc: false,
  leveldb: false,
  nats: false,
  node: false,
  publicApi: false,
  qdrant: false,
  rest: false,
  sdk: false,
};

test("a command that only prints loads neither server nor client", { timeout: 60_000 }, async () => {
  expectLoaded(await loadedBy("version", ["--version"]), nothing);
});

test("a command that calls a server loads the client and nothing of the server", { timeout: 60_000 }, async () => {
  const urls = await loadedBy("count", ["count", "x", "--target", "127.0.0.1:1", "--timeout", "100ms"]);
  expectLoaded(urls, { ...nothing, client: true, grpc: true });
});

test("a router loads no engine and no LevelDB, a shard node no public API", { timeout: 60_000 }, async () => {
  const common = ["start", "--nats", nats.url, "--nats-monitor", nats.monitorUrl];
  const node = { ...nothing, config: true, grpc: true, nats: true, node: true };
  const router = [...common, "--roles", "router", "--node-id", "r", "--listen", "127.0.0.1:0"];
  expectLoaded(await loadedBy("router", router), { ...node, publicApi: true });
  const shard = [...common, "--roles", "shard", "--node-id", "s", "--data", "shard", "--link-listen", "127.0.0.1:0"];
  expectLoaded(await loadedBy("shard", shard), { ...node, engine: true, leveldb: true });
});

test("one process of every role loads no NATS, and the SDK where a signal is on", { timeout: 60_000 }, async () => {
  const all = { ...nothing, config: true, engine: true, grpc: true, leveldb: true, node: true, publicApi: true };
  const args = ["dev", "--data", "dev", "--port", "0", "--qdrant", "0"];
  expectLoaded(await loadedBy("dev", args), all);
  const prometheus = { OTEL_METRICS_EXPORTER: "prometheus", OTEL_EXPORTER_PROMETHEUS_PORT: "0" };
  expectLoaded(await loadedBy("measured", args, prometheus), { ...all, sdk: true });
});
