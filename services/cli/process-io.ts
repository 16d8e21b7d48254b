import { fileURLToPath } from "node:url";
import { KithError } from "../../libs/base/index.js";
import type { Io, ParentChannel } from "./io.js";

/** The Io of the real process. Installs the signal handlers: the first signal asks, the second one forces. */
export function processIo(env: Io["env"], forceExit: () => void): Io {
  const controller = new AbortController();
  const onSignal = (): void => {
    if (controller.signal.aborted) forceExit();
    else controller.abort(new KithError("CANCELLED", "interrupted"));
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      // The reader of the pipe has gone (`kith … | head`): nobody is left to tell, and there is nothing more to do.
      if (error.code === "EPIPE")
        controller.abort(new KithError("CANCELLED", "the output was closed", { cause: error }));
      else throw error;
    });
  }
  const parent = parentChannel();
  return {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    env,
    cwd: process.cwd(),
    stdoutIsTerminal: process.stdout.isTTY === true,
    stderrIsTerminal: process.stderr.isTTY === true,
    columns: process.stderr.columns,
    signal: controller.signal,
    program: {
      executable: process.execPath,
      args: [...process.execArgv, fileURLToPath(new URL("./main.js", import.meta.url))],
    },
    ...(parent && { parent }),
  };
}

function parentChannel(): ParentChannel | undefined {
  if (process.send === undefined) return undefined;
  return {
    send: (message) => {
      if (process.connected) process.send?.(message);
    },
    onGone: (listener) => {
      if (process.connected) process.once("disconnect", listener);
      else listener();
    },
  };
}
