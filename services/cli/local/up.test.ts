import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { sleep, systemClock } from "../../../libs/base/index.js";
import { freePort, makeAuthority, makeCertificate } from "../../../libs/base/testing.js";
import { connect } from "../../../libs/client/index.js";
import { testNatsBinary, testNatsServer } from "../../../libs/nats-server/testing.js";
import { endLeftover } from "./pid-file.js";
import { run } from "../run.js";
import { testIo } from "../testing/io.js";
import { installationRoot } from "../version.js";

/** The processes of a cluster run the built program; `npm test` builds it first. */
const program = join(installationRoot, "dist", "services", "cli", "main.js");
const cache = join(installationRoot, ".kith", "cache");

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "kith-up-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Processes whose command line names the folder of this test. */
function processes(): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map(commandLine)
    .filter((line) => line.includes(folder));
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
  } catch {
    // It ended between the listing and the reading.
    return "";
  }
}

async function eventually(what: () => boolean, describeState: () => string): Promise<void> {
  const endMs = performance.now() + 60_000;
  while (!what()) {
    if (performance.now() > endMs) throw new Error(`it did not happen: ${describeState()}`);
    await sleep(systemClock, 50);
  }
}

const args = ["up", "--shards", "2", "--replicas", "2", "--port", "0", "--data", "data", "-o", "json"];

function pidOf(text: string): number {
  const found = readdirSync("/proc").find(
    (name) => /^\d+$/.test(name) && commandLine(name).includes(text) && commandLine(name).includes(folder),
  );
  return Number(found ?? 0);
}

function readyTarget(line: string): string {
  return (JSON.parse(line) as { target: string }).target;
}

describe.skipIf(process.platform !== "linux")("kith up", () => {
  // Fails here, with the reason, where there is no nats-server or the program was not built.
  beforeAll(() => {
    if (!existsSync(program)) throw new Error(`${program} is missing: run "npm run build" before the tests`);
    testNatsBinary();
  });
  const env = { PATH: process.env["PATH"], KITH_CACHE: cache };

  it("runs a cluster with TLS, brings back a killed shard, and ends in order", { timeout: 120_000 }, async () => {
    const io = testIo({ cwd: folder, env, program: { executable: process.execPath, args: [program] } });
    const authority = makeAuthority(folder, "ca");
    const own = makeCertificate(folder, "node", authority);
    const tls = [
      "--tls-cert",
      own.certificatePath,
      "--tls-key",
      own.keyPath,
      "--tls-ca",
      "ca.crt",
      "--client-ca",
      "ca.crt",
    ];
    const ended = run([...args, ...tls], io);
    await eventually(() => io.out().includes("\n"), io.err);
    const target = readyTarget(io.out());
    const { certificate: ca } = authority;
    await expect(connect(target, { tls: { ca }, connectTimeoutMs: 1_000 })).rejects.toThrow();
    const client = await connect(target, { tls: { ca, cert: own.certificate, key: own.key } });
    // A node that is told so takes its settings again.
    process.kill(pidOf("--node-id shard-0"), "SIGHUP");
    await eventually(() => /shard-0 .*took no new settings/.test(io.err()), io.err);
    const points = client.collection("points");
    const info = await points.create({ vectors: { dimension: 2, metric: "l2" }, shards: 2 });
    expect(info.replicas).toBe(2);
    await points.upsert(
      Array.from({ length: 50 }, (_, id) => ({ id, vector: [id, 1] })),
      { ack: "all" },
    );

    process.kill(pidOf("--node-id shard-1"), "SIGKILL");
    await eventually(() => io.err().includes("shard-1 ended unexpectedly by SIGKILL; starting it again"), io.err);
    await eventually(() => pidOf("--node-id shard-1") > 0, io.err);
    // With the other replica everything is still found meanwhile.
    const { points: found } = await points.query({ vector: [7, 1], limit: 1 });
    expect(found[0]?.id).toBe(7);
    client.close();

    io.controller.abort();
    expect(await ended).toBe(0);
    expect(processes()).toEqual([]);
    const log = io.err();
    expect(log.indexOf("router is draining")).toBeGreaterThan(-1);
    expect(log.indexOf("router is draining")).toBeLessThan(log.indexOf("Server Exiting"));
  });

  it("serves the metrics of each process at a port of its own", { timeout: 120_000 }, async () => {
    const port = await freePort(3);
    const io = testIo({
      cwd: folder,
      env: { ...env, OTEL_METRICS_EXPORTER: "prometheus", OTEL_EXPORTER_PROMETHEUS_PORT: String(port) },
      program: { executable: process.execPath, args: [program] },
    });
    const ended = run(args, io);
    await eventually(() => io.out().includes("\n"), io.err);
    const pages = await Promise.all(
      [port, port + 1, port + 2].map(async (each) => (await fetch(`http://localhost:${each}/metrics`)).text()),
    );
    expect(pages.map((page) => /service_instance_id="([^"]+)"/.exec(page)?.[1])).toEqual([
      "router",
      "shard-0",
      "shard-1",
    ]);
    io.controller.abort();
    expect(await ended).toBe(0);
  });

  it("leaves nothing behind when it is killed", { timeout: 120_000 }, async () => {
    const child = spawn(process.execPath, [program, ...args], {
      cwd: folder,
      env,
      stdio: ["ignore", "pipe", "ignore"],
    });
    let out = "";
    child.stdout.on("data", (data: Buffer) => {
      out += data.toString("utf8");
    });
    await eventually(
      () => out.includes("\n"),
      () => out,
    );
    // Those that name the folder: nats-server and two shards.
    expect(processes().length).toBeGreaterThanOrEqual(3);
    child.kill("SIGKILL");
    await once(child, "exit");
    await eventually(
      () => processes().length === 0,
      () => processes().join("\n"),
    );
  });

  it("refuses data in use, and ends a nats-server that was left behind", { timeout: 120_000 }, async () => {
    const io = testIo({ cwd: folder, env, program: { executable: process.execPath, args: [program] } });
    const one = [...args, "--shards", "1", "--replicas", "1"];
    const ended = run(one, io);
    await eventually(() => io.out().includes("\n"), io.err);
    const rival = testIo({ cwd: folder, env, program: { executable: process.execPath, args: [program] } });
    expect(await run(one, rival)).toBe(1);
    expect(rival.err()).toMatch(/data is in use by process \d+; end that one/);
    io.controller.abort();
    expect(await ended).toBe(0);

    const left = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)", join(folder, "data", "nats")]);
    writeFileSync(join(folder, "data", "nats", "nats-server.pid"), `${left.pid}\n`);
    // A number that has passed on to another program is left alone.
    const other = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"]);
    writeFileSync(join(folder, "data", "up.lock"), "999999999\n");
    const again = testIo({ cwd: folder, env, program: { executable: process.execPath, args: [program] } });
    const endedAgain = run(one, again);
    await eventually(() => again.out().includes("\n"), again.err);
    expect(again.err()).toContain(`ending process ${left.pid}, which an earlier run has left behind`);
    expect(left.signalCode).toBe("SIGTERM");
    again.controller.abort();
    expect(await endedAgain).toBe(0);
    writeFileSync(join(folder, "data", "nats", "nats-server.pid"), `${other.pid}\n`);
    await endLeftover(join(folder, "data", "nats", "nats-server.pid"), folder, () => undefined);
    expect(other.signalCode).toBeNull();
    other.kill();
  });

  it("listens beyond this machine only when told so, and says it before anything is started", async () => {
    const io = testIo({ cwd: folder, env, program: { executable: process.execPath, args: [program] } });
    expect(await run([...args, "--host", "0.0.0.0"], io)).toBe(2);
    expect(io.err()).toMatch(/listen\.host 0\.0\.0\.0 can be reached from other machines.*--allow-insecure/);
    expect(readdirSync(folder)).toEqual([]);
  });

  it("runs on a NATS server that needs credentials of its own", { timeout: 120_000 }, async () => {
    const nats = await testNatsServer();
    const asked = { KITH_NATS_URL: nats.url, KITH_CLUSTER: "other", KITH_NATS_MONITOR_URL: nats.monitorUrl };
    // 127.0.0.1 in a form that is not known to be of this machine.
    const one = [...args, "--shards", "1", "--replicas", "1", "--host", "127.1", "--allow-insecure"];
    const start = (more: object) => {
      const over = { ...env, ...asked, KITH_NODE_ID: "not-for-all", ...more };
      return testIo({ cwd: folder, env: over, program: { executable: process.execPath, args: [program] } });
    };
    // A file that is missing shows that it is asked for.
    const refused = start({ KITH_NATS_CREDENTIALS: "missing.creds" });
    expect(await run(one, refused)).not.toBe(0);
    expect(refused.err()).toContain("missing.creds");
    const io = start({});
    const ended = run(one, io);
    await eventually(() => io.out().includes("\n"), io.err);
    const client = await connect(readyTarget(io.out()));
    expect((await client.cluster.describe()).cluster).toBe("other");
    client.close();
    expect(io.err()).not.toContain("fsync");
    io.controller.abort();
    expect(await ended).toBe(0);
    await nats.dispose();
  });

  it("refuses data of more shard nodes than it would start", async () => {
    const io = testIo({ cwd: folder, env, program: { executable: process.execPath, args: [program] } });
    mkdirSync(join(folder, "data", "shard-4"), { recursive: true });
    expect(await run(args, io)).toBe(2);
    expect(io.err()).toContain("holds the data of 5 shard nodes; start with --shards 5");
  });
});
