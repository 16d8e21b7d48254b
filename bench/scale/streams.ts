import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KithError, sleep, systemRuntime } from "../../libs/base/index.js";
import { openJetStreamLog } from "../../libs/log/index.js";
import { connectNats } from "../../libs/nats/index.js";
import { resolveNatsServer, type RunningNatsServer, startNatsServer } from "../../libs/nats-server/index.js";
import { repositoryRoot } from "../lib/paths.js";
import { readMemory, readProcess } from "../lib/process-stats.js";
import { describeMachine, writeResult } from "../lib/result.js";
import { formatNumber, formatTable } from "../lib/table.js";

const cluster = "scale";
const atOnce = 16;
const record = Buffer.alloc(1_024, 1);
const idleMs = 3_000;
const columns = ["logs", "made a second", "resident MiB", "disk KiB a log", "idle CPU %", "start s"].map((title) => ({
  title,
}));

/** Logs as Kith makes them, each with a record, on a real nats-server: what they cost it. */
export async function measureStreams({ counts }: { counts: number[] }): Promise<void> {
  console.log(`machine: ${describeMachine()}`);
  const found = await resolveNatsServer({
    searchPath: process.env["PATH"] ?? "",
    cacheDirectory: join(repositoryRoot, ".kith", "cache"),
    fetch: false,
  });
  if (found.kind !== "binary") throw new KithError("INVALID_CONFIG", "there is no nats-server to run");
  const dataDirectory = await mkdtemp(join(tmpdir(), "kith-scale-"));
  const rows: Record<string, number>[] = [];
  let server: RunningNatsServer | undefined;
  try {
    server = await startNatsServer({ binary: found.path, dataDirectory, tied: true });
    let made = 0;
    for (const count of counts) {
      const startedMs = performance.now();
      const before = made;
      made = await makeLogs(server.url, made, count);
      const perSecond = (made - before) / ((performance.now() - startedMs) / 1000);
      const cpuBefore = readProcess(server.pid)?.cpuSeconds ?? 0;
      await sleep(systemRuntime.clock, idleMs);
      const idle = ((readProcess(server.pid)?.cpuSeconds ?? 0) - cpuBefore) / (idleMs / 1000);
      const residentBytes = readMemory(server.pid)?.residentBytes ?? 0;
      await server.stop();
      const diskBytes = await folderBytes(dataDirectory);
      const startMs = performance.now();
      server = await startNatsServer({ binary: found.path, dataDirectory, tied: true });
      const startSeconds = (performance.now() - startMs) / 1000;
      rows.push({ logs: made, perSecond, residentBytes, diskBytes, idle, startSeconds });
    }
  } finally {
    await server?.stop();
    await rm(dataDirectory, { recursive: true, force: true });
  }
  const cells = rows.map(
    ({ logs = 0, perSecond = 0, residentBytes = 0, diskBytes = 0, idle = 0, startSeconds = 0 }) => [
      formatNumber(logs),
      formatNumber(perSecond),
      formatNumber(residentBytes / 1024 / 1024),
      (diskBytes / logs / 1024).toFixed(1),
      (idle * 100).toFixed(1),
      startSeconds.toFixed(2),
    ],
  );
  console.log(`\n${formatTable(columns, cells)}\n\n${writeResult("scale-streams", { nats: found.version, rows })}`);
}

async function makeLogs(servers: string, from: number, to: number): Promise<number> {
  const nats = await connectNats({ ...systemRuntime, servers, name: "bench-scale" });
  const log = await openJetStreamLog({ ...systemRuntime, nats, cluster });
  let next = from;
  const worker = async (): Promise<void> => {
    while (next < to) {
      const name = { collectionId: `c${Math.floor(next / 4)}`, shard: next % 4 };
      next++;
      await log.create(name);
      await log.append(name, record, { messageId: `first-${next}`, signal: AbortSignal.timeout(30_000) });
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  await log.close();
  await nats.close();
  return to;
}

/** What the files below take on the disk. */
async function folderBytes(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  const sizes = await Promise.all(
    files.map(async ({ parentPath, name }) => (await stat(join(parentPath, name))).blocks * 512),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}
