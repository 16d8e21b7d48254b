import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { chmod, link, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { gunzipSync } from "node:zlib";
import { KithError, toKithError, makeFolder } from "../base/index.js";
import type { Download } from "./releases.js";

const run = promisify(execFile);

const downloadTimeoutMs = 60_000;
/** Many machines have no way to the release pages; they should not wait long to learn it. */
const connectTimeoutMs = 5_000;
const archiveBytesMax = 64 * 1024 * 1024;
const buildTimeoutMs = 5 * 60_000;

/** The version that a binary says it has, or undefined where it cannot be run. */
export async function versionOf(binary: string): Promise<string | undefined> {
  try {
    const { stdout } = await run(binary, ["--version"], { timeout: 10_000 });
    return /v?(\d+\.\d+\.\d+\S*)/.exec(stdout)?.[1];
  } catch (error) {
    if (error instanceof Error) return undefined;
    throw error;
  }
}

/** Puts a finished file in its place in one step, so that other processes see all of it or nothing. */
async function publish(temporary: string, target: string): Promise<void> {
  await chmod(temporary, 0o755);
  await rename(temporary, target);
}

/** Downloads a release archive, checks it against the pinned checksum, and puts the server into `target`. */
export async function download(from: Download, target: string): Promise<void> {
  const archive = await get(from.url);
  const found = createHash("sha256").update(archive).digest("hex");
  if (found !== from.sha256) {
    throw new KithError(
      "CORRUPT_DATA",
      `${from.url} has SHA-256 ${found}, not the pinned ${from.sha256}; it was not used`,
    );
  }
  const binary = extract(gunzipSync(archive, { maxOutputLength: 4 * archiveBytesMax }), "nats-server");
  const temporary = `${target}.${randomBytes(6).toString("hex")}`;
  try {
    await writeFile(temporary, binary, { mode: 0o755 });
    await publish(temporary, target);
  } finally {
    await rm(temporary, { force: true });
  }
}

async function get(url: string): Promise<Buffer> {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), connectTimeoutMs);
  try {
    const response = await fetch(url, {
      signal: AbortSignal.any([controller.signal, AbortSignal.timeout(downloadTimeoutMs)]),
    });
    clearTimeout(timer);
    if (!response.ok) throw new KithError("NOT_FOUND", `${url} answered ${response.status} ${response.statusText}`);
    const parts: Uint8Array[] = [];
    let sizeBytes = 0;
    for await (const part of response.body ?? []) {
      sizeBytes += (part as Uint8Array).byteLength;
      if (sizeBytes > archiveBytesMax)
        throw new KithError("PAYLOAD_TOO_LARGE", `${url} is larger than ${archiveBytesMax} bytes`);
      parts.push(part as Uint8Array);
    }
    return Buffer.concat(parts);
  } catch (error) {
    if (error instanceof KithError) throw error;
    const reason = error instanceof Error && error.cause instanceof Error ? error.cause : toKithError(error);
    throw new KithError("INTERNAL", `${url} cannot be downloaded: ${reason.message}`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

/** The content of the first file with this base name in a tar archive. */
function extract(tar: Buffer, name: string): Buffer {
  const blockBytes = 512;
  for (let at = 0; at + blockBytes <= tar.length; ) {
    const text = (from: number, to: number): string => tar.toString("latin1", at + from, at + to).split("\0")[0] ?? "";
    const path = text(0, 100);
    const sizeBytes = Number.parseInt(text(124, 136).trim() || "0", 8);
    const content = at + blockBytes;
    const isFile = text(156, 157) === "0" || text(156, 157) === "";
    if (isFile && path.split("/").at(-1) === name) return tar.subarray(content, content + sizeBytes);
    at = content + Math.ceil(sizeBytes / blockBytes) * blockBytes;
  }
  throw new KithError("CORRUPT_DATA", `the archive holds no file named ${name}`);
}

/** Builds the release from source; Go's checksum database vouches for the sources. */
export async function goInstall(version: string, target: string, go: string): Promise<void> {
  const directory = `${target}.${randomBytes(6).toString("hex")}`;
  await makeFolder(directory);
  try {
    // `env` adds to what this process has without reading it: libraries do not look into the environment.
    await run(
      "env",
      [`GOBIN=${directory}`, "GOFLAGS=-mod=mod", go, "install", `github.com/nats-io/nats-server/v2@v${version}`],
      {
        cwd: directory,
        timeout: buildTimeoutMs,
        maxBuffer: 4 * 1024 * 1024,
      },
    );
    await publish(join(directory, "nats-server"), target);
  } catch (error) {
    const text = (error as { stderr?: string }).stderr?.trim();
    const reason = text === undefined || text === "" ? toKithError(error).message : (text.split("\n").at(-1) ?? text);
    throw new KithError("INTERNAL", `go install of nats-server v${version} failed: ${reason}`, { cause: error });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** How long a lock may be held: longer than the slowest build. */
const lockStaleMs = buildTimeoutMs + 60_000;

/**
 * Tries to take the lock file, so that of two processes that need the server at once only one fetches it. A lock that
 * its owner left behind is taken over: when that process has ended, or when the lock is old, for its number may belong
 * to another process by now. Should two fetch at once after all, each publishes a whole file.
 */
export async function tryLock(path: string): Promise<(() => Promise<void>) | undefined> {
  const own = `${path}.${randomBytes(6).toString("hex")}`;
  await writeFile(own, `${process.pid}\n`);
  try {
    await link(own, path);
    return () => rm(path, { force: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    if (await isLeftBehind(path)) await rm(path, { force: true });
    return undefined;
  } finally {
    await rm(own, { force: true });
  }
}

async function isLeftBehind(lock: string): Promise<boolean> {
  try {
    const { mtimeMs } = await stat(lock);
    return Date.now() - mtimeMs > lockStaleMs || !isAlive(Number(await readFile(lock, "utf8")));
  } catch (error) {
    // Given back meanwhile.
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
}
