import { Readable, Writable } from "node:stream";
import type { Io } from "../io.js";

/** An Io that collects what is written; a process without terminal, environment or signals unless the test gives them. */
export interface TestIo extends Io {
  readonly controller: AbortController;
  readonly out: () => string;
  readonly err: () => string;
}

export function testIo(over: Partial<Io> & { input?: string | Uint8Array } = {}): TestIo {
  const controller = new AbortController();
  const outParts: string[] = [];
  const errParts: string[] = [];
  const { input, ...rest } = over;
  return {
    stdin: Readable.from(input === undefined ? [] : [Buffer.from(input as string)]),
    stdout: collector(outParts),
    stderr: collector(errParts),
    env: {},
    cwd: process.cwd(),
    stdoutIsTerminal: false,
    stderrIsTerminal: false,
    columns: undefined,
    signal: controller.signal,
    onStarted: () => undefined,
    program: { executable: process.execPath, args: [] },
    controller,
    out: () => outParts.join(""),
    err: () => errParts.join(""),
    ...rest,
  };
}

function collector(parts: string[]): Writable {
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      parts.push(chunk.toString("utf8"));
      done();
    },
  });
}
