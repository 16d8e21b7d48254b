import { execFile } from "node:child_process";
import { open, readFile, rm, statfs } from "node:fs/promises";
import { availableParallelism, freemem, totalmem } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { makeFolder } from "../../../libs/base/index.js";
import { formatBytes, formatDuration } from "../output.js";

export type Verdict = "ok" | "warn" | "fail";

export interface Finding {
  check: string;
  verdict: Verdict;
  /** What was found, with the value. */
  found: string;
  /** What to do about it; only where something is to be done. */
  remedy?: string;
}

const gib = 1024 ** 3;
const run = promisify(execFile);

export function checkNode(version = process.versions.node): Finding {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const enough = major > 20 || (major === 20 && minor >= 19);
  return {
    check: "node",
    verdict: enough ? "ok" : "fail",
    found: `Node ${version} on ${process.platform}-${process.arch}, ${availableParallelism()} cores to use`,
    ...(!enough && { remedy: "Kith needs Node 20.19 or newer; install Node 24." }),
  };
}

export function checkMemory(totalBytes = totalmem(), limitBytes = process.constrainedMemory()): Finding {
  // Without a container the limit is 0 or a number beyond the machine's memory.
  const limited = limitBytes !== undefined && limitBytes > 0 && limitBytes < totalBytes;
  const bytes = limited ? limitBytes : totalBytes;
  const found = `${formatBytes(bytes)}${limited ? " (limit of the container)" : ""}, ${formatBytes(freemem())} free`;
  if (bytes < gib / 2) return { check: "memory", verdict: "fail", found, remedy: "Kith needs at least 512 MiB." };
  if (bytes < 2 * gib) {
    return {
      check: "memory",
      verdict: "warn",
      found,
      remedy: "Graphs live in memory: plan 1.6 × the bytes of the vectors.",
    };
  }
  return { check: "memory", verdict: "ok", found };
}

export async function checkHugePages(): Promise<Finding> {
  const text = await readIfThere("/sys/kernel/mm/transparent_hugepage/enabled");
  const mode = /\[(\w+)\]/.exec(text ?? "")?.[1];
  if (mode === undefined) return { check: "huge pages", verdict: "ok", found: "not a setting of this system" };
  if (mode !== "never") return { check: "huge pages", verdict: "ok", found: `transparent huge pages: ${mode}` };
  return {
    check: "huge pages",
    verdict: "warn",
    found: "transparent huge pages: never",
    remedy: "Searches miss the TLB more often; echo madvise > /sys/kernel/mm/transparent_hugepage/enabled (as root).",
  };
}

export async function checkOpenFiles(): Promise<Finding> {
  const limits = await readIfThere("/proc/self/limits");
  const text = /^Max open files\s+(\S+)/m.exec(limits ?? "")?.[1];
  if (text === undefined)
    return { check: "open files", verdict: "ok", found: "the limit cannot be read on this system" };
  const limit = text === "unlimited" ? Infinity : Number(text);
  const found = `at most ${text} (ulimit -n)`;
  if (limit >= 8192) return { check: "open files", verdict: "ok", found };
  return {
    check: "open files",
    verdict: limit < 1024 ? "fail" : "warn",
    found,
    remedy:
      "Every shard keeps up to 1000 files and every client a socket; raise it: ulimit -n 65536, or LimitNOFILE= in systemd.",
  };
}

export async function checkCompiler(): Promise<Finding> {
  for (const compiler of ["c++", "g++", "clang++"]) {
    try {
      const { stdout } = await run(compiler, ["--version"], { timeout: 10_000 });
      return { check: "compiler", verdict: "ok", found: stdout.split("\n")[0] ?? compiler };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    }
  }
  return {
    check: "compiler",
    verdict: "warn",
    found: "no c++, g++ or clang++ on the PATH",
    remedy: "The native index is built at installation; install one (Debian: apt install g++) before npm ci.",
  };
}

const nfs = 0x6969;
const tmpfs = 0x01021994;

export async function checkDisk(folder: string): Promise<Finding> {
  const { bavail, bsize, type } = await statfs(folder);
  const freeBytes = bavail * bsize;
  const found = `${formatBytes(freeBytes)} free at ${folder}`;
  const check = "disk space";
  if (freeBytes < gib) return { check, verdict: "fail", found, remedy: "Free some space, or name another --data." };
  if (type === nfs) {
    return {
      check,
      verdict: "warn",
      found: `${found} (NFS)`,
      remedy: "LevelDB and fsync want a local disk; name another --data.",
    };
  }
  if (type === tmpfs) {
    return {
      check,
      verdict: "warn",
      found: `${found} (tmpfs)`,
      remedy: "This is memory: nothing there survives a restart. Name another --data.",
    };
  }
  if (freeBytes < 10 * gib) {
    return {
      check,
      verdict: "warn",
      found,
      remedy: "Compactions and snapshots need room: keep 10 GiB free, or name another --data.",
    };
  }
  return { check, verdict: "ok", found };
}

const probes = 40;
const probeBytes = 4096;

/** Every write waits for an fsync of the log, so this bounds the latency of writes. */
export async function checkFsync(folder: string): Promise<Finding> {
  const path = join(folder, `.kith-doctor-${process.pid}`);
  const tookMs: number[] = [];
  const file = await open(path, "w");
  try {
    const page = Buffer.alloc(probeBytes, 0x5a);
    for (let probe = 0; probe < probes; probe++) {
      const startedMs = performance.now();
      await file.write(page, 0, probeBytes, probe * probeBytes);
      await file.datasync();
      tookMs.push(performance.now() - startedMs);
    }
  } finally {
    await file.close();
    await rm(path, { force: true });
  }
  tookMs.sort((a, b) => a - b);
  const p50 = tookMs[Math.floor(probes / 2)] as number;
  const p95 = tookMs[Math.floor(probes * 0.95)] as number;
  const found = `p50 ${formatDuration(p50)}, p95 ${formatDuration(p95)} for 4 KiB`;
  if (p50 <= 10) return { check: "fsync", verdict: "ok", found };
  return {
    check: "fsync",
    verdict: "warn",
    found,
    remedy: "Each write waits for it: use an SSD, or a volume class with lower latency, for --data and for NATS.",
  };
}

/** The folder where data goes, made if it is not there, so that what is measured is its disk. */
export async function checkFolder(folder: string): Promise<Finding> {
  const check = "data folder";
  try {
    await makeFolder(folder);
    const probe = join(folder, `.kith-doctor-${process.pid}`);
    await (await open(probe, "w")).close();
    await rm(probe, { force: true });
    return { check, verdict: "ok", found: `${folder} can be written` };
  } catch (error) {
    return {
      check,
      verdict: "fail",
      found: `${folder}: ${(error as Error).message}`,
      remedy: "Name a folder of your own with --data.",
    };
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "EACCES") return undefined;
    throw error;
  }
}
