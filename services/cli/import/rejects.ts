import { once } from "node:events";
import { createWriteStream, type WriteStream } from "node:fs";
import { KithError, toKithError } from "../../../libs/base/index.js";
import type { RejectedRow } from "./run.js";
import type { Io } from "../io.js";
import { toJson } from "../output.js";

/** Shown on stderr; the file has all of them. */
const shownMax = 5;

/** Rows that were refused: the first ones on stderr, all of them in a file where one is wanted. */
export class Rejects {
  count = 0;
  readonly #io: Io;
  readonly #maxCount: number;
  readonly #onTooMany: () => void;
  #file: WriteStream | undefined;
  #fileError: Error | undefined;

  /** `onTooMany` is called when more than `maxCount` rows were refused, or when the file cannot be written any more. */
  constructor(io: Io, maxCount: number, onTooMany: () => void) {
    this.#io = io;
    this.#maxCount = maxCount;
    this.#onTooMany = onTooMany;
  }

  async openFile(path: string, append: boolean): Promise<void> {
    const stream = createWriteStream(path, { flags: append ? "a" : "w" });
    try {
      await once(stream, "open");
    } catch (cause) {
      throw new KithError("INVALID_ARGUMENT", `--rejects ${path} cannot be written: ${(cause as Error).message}`, {
        cause,
      });
    }
    stream.on("error", (error) => {
      this.#fileError = error;
      this.#onTooMany();
    });
    this.#file = stream;
  }

  add(rejected: RejectedRow): void {
    this.count++;
    if (this.count <= shownMax) {
      const id = rejected.id === undefined ? "" : `, id ${String(rejected.id)}`;
      this.#io.stderr.write(`refused: row ${rejected.row}${id}: ${rejected.message} [${rejected.code}]\n`);
      if (this.count === shownMax) this.#io.stderr.write("further refused rows are only counted\n");
    }
    this.#file?.write(`${toJson(rejected)}\n`);
    if (this.count > this.#maxCount) this.#onTooMany();
  }

  /** Waits until the file is written; throws what went wrong with it. */
  async close(): Promise<void> {
    const stream = this.#file;
    if (stream !== undefined && this.#fileError === undefined) {
      stream.end();
      await once(stream, "close");
    }
    if (this.#fileError !== undefined) throw toKithError(this.#fileError);
  }
}
