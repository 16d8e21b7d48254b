import { execFile } from "node:child_process";
import { readFile, rm, writeFile } from "node:fs/promises";
import { promisify } from "node:util";
import { KithError, sleep, systemClock } from "../../../libs/base/index.js";

const run = promisify(execFile);
const endTimeoutMs = 12_000;

/** The command line of a running process; undefined where there is none of this number. */
async function commandLineOf(pid: number): Promise<string | undefined> {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return undefined;
  }
  try {
    const text = await readFile(`/proc/${pid}/cmdline`, "utf8");
    // A process that has ended and waits for its parent to notice has none.
    return text === "" ? undefined : text.replaceAll("\0", " ");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // The file was there when it was opened, and the process ended before it was read.
    if (code === "ESRCH") return undefined;
    if (code !== "ENOENT") throw error;
  }
  // Systems without /proc, or the process has just ended.
  const { stdout } = await run("ps", ["-o", "command=", "-p", String(pid)]).catch(() => ({ stdout: "" }));
  return stdout.trim() === "" ? undefined : stdout;
}

async function readPid(path: string): Promise<number | undefined> {
  try {
    const pid = Number((await readFile(path, "utf8")).trim());
    return Number.isSafeInteger(pid) && pid > 1 ? pid : undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** Remembers a process that must not run twice. */
export async function writePidFile(path: string, pid: number): Promise<void> {
  await writeFile(path, `${pid}\n`);
}

/**
 * Ends the process of a pid file if it still runs, which it does only if whoever started it had no chance to end it. The number alone
 * proves nothing, it may belong to someone else by now: the command line must contain `marker`.
 */
export async function endLeftover(path: string, marker: string, note: (text: string) => void): Promise<void> {
  const pid = await readPid(path);
  const runs = async (): Promise<boolean> =>
    pid !== undefined && ((await commandLineOf(pid))?.includes(marker) ?? false);
  if (pid === undefined || !(await runs())) return;
  note(`ending process ${pid}, which an earlier run has left behind`);
  const endMs = performance.now() + endTimeoutMs;
  signal(pid, "SIGTERM");
  while (await runs()) {
    if (performance.now() > endMs) signal(pid, "SIGKILL");
    await sleep(systemClock, 20);
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** Takes a folder for this process alone; FAILED_PRECONDITION where another process has it. Returns what gives it back. */
export async function lockFolder(path: string, folder: string): Promise<() => Promise<void>> {
  for (;;) {
    try {
      await writeFile(path, `${process.pid}\n`, { flag: "wx" });
      return () => rm(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const owner = await readPid(path);
    if (owner !== undefined && /node|kith/.test((await commandLineOf(owner)) ?? "")) {
      throw new KithError(
        "FAILED_PRECONDITION",
        `${folder} is in use by process ${owner}; end that one, or name another --data (if it is no Kith, remove ${path})`,
        { details: { folder, pid: owner } },
      );
    }
    await rm(path, { force: true });
  }
}
