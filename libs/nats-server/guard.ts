import { spawn } from "node:child_process";

/** Seconds that a process has to end in good order. */
const graceSeconds = 10;

/** `read` fails at the end of the input, which comes when whoever holds its other end is gone; a line means that all is well. */
const script = `read -r _ && exit 0
kill -TERM "$0"
for _ in $(seq ${graceSeconds * 10}); do kill -0 "$0" 2>/dev/null || exit 0; sleep 0.1; done
kill -KILL "$0"`;

/**
 * Ends the process when this one is gone, in whatever way, even by kill -9: Node cannot tie the life of a foreign program to its own,
 * but the kernel closes its pipes. The guard is a shell that waits at the other end of one: 2 MiB, where a Node process would be 45.
 *
 * @returns takes the guard away; call it when the process has ended, before its number can be another's
 */
export function guardProcess(pid: number): () => void {
  const guard = spawn("/bin/sh", ["-c", script, String(pid)], {
    stdio: ["pipe", "ignore", "ignore"],
    // A group of its own: Ctrl-C in the terminal is for the parent, which ends the process in its turn.
    detached: true,
  });
  // Without a guard the process is as it would be without this function: whoever starts it again looks for what was left behind.
  guard.on("error", () => undefined);
  guard.stdin.on("error", () => undefined);
  guard.unref();
  return () => {
    guard.stdin.end("released\n");
  };
}
