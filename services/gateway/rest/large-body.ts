import { pipeline, Readable } from "node:stream";
import { type Clock, KithError, type Timer } from "../../../libs/base/index.js";
import { compressorFor } from "./body.js";

/** An answer that is made while it is sent, of pieces of text. */
export interface LargeBody {
  readonly pieces: Iterable<string>;
  /** Bytes that are kept until the last piece is made. */
  readonly sizeBytes: number;
}

/** Answers of more bytes are made while they are sent. */
export const largeBytes = 512 * 1024;
/** Bytes of text that are made in one turn of the event loop: about a millisecond. */
const turnBytes = 256 * 1024;
/** A client that takes nothing for so long is given up: what it does not take is refused to others. */
const stalledMs = 60_000;

/** The answer as the client takes it, with the name of its encoding ("": none). */
export async function streamOf(
  { pieces }: LargeBody,
  accepted: string | undefined,
  clock: Clock,
): Promise<{ stream: Readable; encoding: string }> {
  const packing = accepted === undefined ? undefined : await compressorFor(accepted);
  const stream = new PiecesStream(pieces, clock);
  if (packing === undefined) return { stream, encoding: "" };
  // What goes wrong ends the last of them too, which is where it is noticed.
  return { stream: pipeline(stream, packing.compressor, () => undefined), encoding: packing.encoding };
}

/** Makes the pieces as fast as the client takes them, in short turns. */
class PiecesStream extends Readable {
  readonly #pieces: Iterator<string>;
  readonly #clock: Clock;
  #stalled: Timer;

  constructor(pieces: Iterable<string>, clock: Clock) {
    super({ highWaterMark: turnBytes });
    this.#pieces = pieces[Symbol.iterator]();
    this.#clock = clock;
    this.#stalled = this.#waitForClient();
  }

  override _read(): void {
    this.#stalled.close();
    this.#stalled = this.#waitForClient();
    this.#clock.soon(this.#makeSome);
  }

  #waitForClient(): Timer {
    return this.#clock.setTimer(() => this.destroy(stalled()), stalledMs).unref();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#stalled.close();
    done(error);
  }

  readonly #makeSome = (): void => {
    if (this.destroyed) return;
    let text = "";
    try {
      while (text.length < turnBytes) {
        const next = this.#pieces.next();
        if (next.done === true) {
          if (text !== "") this.push(text);
          this.push(null);
          return;
        }
        text += next.value;
      }
      this.push(text);
    } catch (error) {
      this.destroy(error as Error);
    }
  };
}

function stalled(): KithError {
  return new KithError("DEADLINE_EXCEEDED", `the client has taken nothing of the answer for ${stalledMs} ms`);
}
