import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";

const shell = (folder: string, sizeMiB: number): string =>
  `mount -t tmpfs -o size=${sizeMiB}m,mode=700 tmpfs '${folder}' && exec "$@"`;

/**
 * A command prefix that gives a process a disk of its own at `folder`: a tmpfs in a mount namespace, gone with the process
 * even when it is killed. Works for root, and for others where the kernel allows user namespaces.
 */
export function onSmallDisk(folder: string, sizeMiB: number): string[] {
  return ["unshare", "--map-root-user", "--mount", "sh", "-c", shell(folder, sizeMiB), "sh"];
}

/** Why a small disk cannot be had here; undefined where it can. */
export function noSmallDisk(folder: string): string | undefined {
  const [program, ...args] = [...onSmallDisk(folder, 1), "true"];
  const { status, stderr, error } = spawnSync(program, args, { encoding: "utf8" });
  return status === 0 ? undefined : (error?.message ?? stderr.trim());
}

/** A file that takes up what is left of a process's small disk. */
export class Ballast {
  readonly #path: string;

  constructor(pid: number, folder: string) {
    // The other process's view of the file system.
    this.#path = join("/proc", String(pid), "root", folder, "ballast");
  }

  /** Fills the disk to the last block. */
  fill(): void {
    const file = openSync(this.#path, "a");
    try {
      for (let chunk = Buffer.alloc(1 << 20); chunk.length > 0; ) {
        try {
          // A disk that is nearly full takes a part of it.
          if (writeSync(file, chunk) === 0) return;
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
          chunk = chunk.subarray(0, chunk.length >> 1);
        }
      }
    } finally {
      closeSync(file);
    }
  }

  free(): void {
    rmSync(this.#path, { force: true });
  }
}

/** A small disk that outlives the processes on it: what they wrote is there when one is started again. */
export class HeldDisk {
  readonly ballast: Ballast;
  readonly #holder: ChildProcess;
  readonly #folder: string;

  private constructor(folder: string, holder: ChildProcess) {
    this.#folder = folder;
    this.#holder = holder;
    this.ballast = new Ballast(holder.pid ?? 0, folder);
  }

  /** At a folder that is made; gone with `close`, and with this process. */
  static async mount(folder: string, sizeMiB: number): Promise<HeldDisk> {
    mkdirSync(folder, { recursive: true });
    const [command = "", ...args] = [...onSmallDisk(folder, sizeMiB), "sh", "-c", "echo mounted && exec cat"];
    const holder = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
    const [first] = (await Promise.race([once(holder.stdout, "data"), once(holder, "exit")])) as [unknown];
    if (!Buffer.isBuffer(first))
      throw new Error(`there is no small disk at ${folder}: unshare ended with ${String(first)}`);
    return new HeldDisk(folder, holder);
  }

  /** A program that runs another one where this disk is. */
  programOf(program: string): string {
    const path = `${this.#folder}.sh`;
    const target = String(this.#holder.pid);
    const enter = `exec nsenter --user --mount --preserve-credentials --target ${target} '${program}' "$@"`;
    writeFileSync(path, `#!/bin/sh\n${enter}\n`, { mode: 0o700 });
    return path;
  }

  close(): void {
    this.#holder.stdin?.end();
  }
}
