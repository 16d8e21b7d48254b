import type { Duplex } from "node:stream";
import type { Clock } from "../base/index.js";
import { ByteWriter } from "./bytes.js";

/**
 * What leaves by one connection. The frames of one turn of the event loop leave together: a write for each of them would
 * be a system call and a wake-up of the other side for each. While the other side does not read, frames wait here.
 */
export class Outbox {
  readonly writer = new ByteWriter();
  readonly #socket: Duplex;
  readonly #clock: Clock;
  readonly #onRoom: () => void;
  #scheduled = false;
  /** The socket holds more than it wants to. */
  #full = false;
  #closed = false;

  /** @param onRoom called whenever everything has been handed to the socket, and it takes more */
  constructor(socket: Duplex, clock: Clock, onRoom: () => void) {
    this.#socket = socket;
    this.#clock = clock;
    this.#onRoom = onRoom;
    socket.on("drain", this.#drained);
  }

  /** Bytes that wait for a peer that does not read. */
  get waitingBytes(): number {
    return this.#socket.writableLength + this.writer.waitingBytes;
  }

  /** After a frame was written. */
  send(): void {
    if (this.#scheduled || this.#full) return;
    this.#scheduled = true;
    this.#clock.soon(this.flush);
  }

  readonly flush = (): void => {
    this.#scheduled = false;
    if (this.#full) return;
    const pieces = this.writer.take();
    if (this.#closed) return;
    for (const piece of pieces) if (!this.#socket.write(piece)) this.#full = true;
    if (!this.#full) this.#onRoom();
  };

  /** Sends what there is and ends this side of the connection. */
  end(): void {
    if (this.#closed) return;
    for (const piece of this.writer.take()) this.#socket.write(piece);
    this.#closed = true;
    this.#socket.end();
  }

  /** Drops what was not sent. */
  close(): void {
    this.#closed = true;
    this.writer.take();
  }

  readonly #drained = (): void => {
    this.#full = false;
    this.flush();
  };
}
