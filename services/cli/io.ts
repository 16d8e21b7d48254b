import type { Readable, Writable } from "node:stream";
import { KithError } from "../../libs/base/index.js";

/** The channel to the process that started this one, where there is one (see `kith up`). */
export interface ParentChannel {
  send(message: object): void;
  /** Called when the parent has gone, in whatever way. */
  onGone(listener: () => void): void;
}

/** Everything that a command may touch of its process. main.ts makes the real one; tests inject their own. */
export interface Io {
  stdin: Readable & { isTTY?: boolean };
  stdout: Writable;
  stderr: Writable;
  env: Readonly<Record<string, string | undefined>>;
  cwd: string;
  /** Whether people look at the two streams: colours, progress bars and questions only then. */
  stdoutIsTerminal: boolean;
  stderrIsTerminal: boolean;
  /** Columns of the terminal; undefined without one. */
  columns: number | undefined;
  /** Aborted by the first SIGINT or SIGTERM; a second one ends the process at once. Also where the reader of the output has gone. */
  signal: AbortSignal;
  /** Calls the listener at each SIGHUP, until what it returns is called. Left out where a terminal that goes away sends it. */
  onHangUp?: (listener: () => void) => () => void;
  /** Called when all that the command needs is loaded and started: the work begins. */
  onStarted: () => void;
  /** How to run this program again as a child: an executable and its first arguments. */
  program: { executable: string; args: readonly string[] };
  parent?: ParentChannel;
}

/** Why the signal is aborted where nobody reads the output any more (`kith … | head`). */
export class OutputClosed extends KithError {
  constructor(cause: Error) {
    super("CANCELLED", "nobody reads the output any more", { cause });
  }
}

/** Why the signal is aborted where the output cannot be written, as on a full disk. */
export class OutputFailed extends KithError {
  constructor(cause: Error) {
    super("INVALID_ARGUMENT", `the output cannot be written: ${cause.message}`, { cause });
  }
}

/** Writes, and waits while the reader is slow. A reader that has gone (`kith … | head`) is not an error. */
export async function write(stream: Writable, text: string): Promise<void> {
  if (stream.destroyed || stream.write(text)) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      stream.off("drain", done);
      stream.off("close", done);
      resolve();
    };
    stream.on("drain", done);
    stream.on("close", done);
  });
}
