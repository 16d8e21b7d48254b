import { spawnSync } from "node:child_process";
import { closeSync, openSync, rmSync, writeSync } from "node:fs";
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
