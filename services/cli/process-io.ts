import { fileURLToPath } from "node:url";
import { PerformanceObserver } from "node:perf_hooks";
import { setFlagsFromString } from "node:v8";
import { KithError } from "../../libs/base/index.js";
import { type Io, OutputClosed, OutputFailed, type ParentChannel } from "./io.js";

/**
 * V8 doubles the young generation whenever as much as it holds has survived, and gives it back late if at all. What survives a start are
 * the modules: on an idle node they leave 28 MiB for garbage that it does not make. So it grows when there is work, and then in two steps:
 * by doubling, the first 100,000 points came at 90,000 a second, and so at 102,000, with the same memory of an idle node. Grown at once they
 * come no faster.
 */
function growYoungGeneration(grow: boolean): void {
  setFlagsFromString(`--semi-space-growth-factor=${grow ? 8 : 1}`);
}

/** Collections of the young generation within a second that are work: an idle node has one in some seconds, and its start ends with two or three. */
const busyCollections = 8;

function growYoungGenerationUnderLoad(): void {
  const startsMs: number[] = [];
  const observer = new PerformanceObserver((list) => {
    for (const { startTime } of list.getEntries()) {
      startsMs.push(startTime);
      if (startsMs.length < busyCollections) continue;
      if (startTime - (startsMs.shift() as number) > 1_000) continue;
      growYoungGeneration(true);
      observer.disconnect();
      return;
    }
  });
  observer.observe({ entryTypes: ["gc"] });
}

/**
 * V8 counts the bytes of all buffers with the old generation, also of those that the next collection of the young one frees, but not when it
 * chooses how far both may grow: to 1.3 times, so that an import had the whole heap of 22 MiB marked ten times a second. With three times the
 * heap it is two or three. In turns, medians of 8: 100,000 points came at 80,100 a second instead of 68,000, but a loaded process kept 20 to 30
 * MiB more. With two and a half times imports are as fast within the noise, and it keeps 15 MiB more.
 */
function letBuffersAccumulate(): void {
  setFlagsFromString("--heap-growing-percent=150");
}

/** The Io of the real process. Installs the signal handlers: the first signal asks, the second one forces. */
export function processIo(env: Io["env"], forceExit: () => void): Io {
  growYoungGeneration(false);
  letBuffersAccumulate();
  const controller = new AbortController();
  const onSignal = (): void => {
    if (controller.signal.aborted) forceExit();
    else controller.abort(new KithError("CANCELLED", "interrupted"));
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (controller.signal.aborted) return;
      // The reader of the pipe has gone (`kith … | head`): nobody is left to tell, and there is nothing more to do.
      if (error.code === "EPIPE") controller.abort(new OutputClosed(error));
      else controller.abort(new OutputFailed(error));
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
    columns: process.stdout.columns ?? process.stderr.columns,
    signal: controller.signal,
    ...(process.stderr.isTTY !== true && {
      onHangUp: (listener: () => void) => {
        process.on("SIGHUP", listener);
        return () => void process.off("SIGHUP", listener);
      },
    }),
    onStarted: growYoungGenerationUnderLoad,
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
