import type { ByteReader, ByteWriter } from "./bytes.js";

/** How one kind of request and its answer lie in the bodies of frames. */
export interface LinkCodec<Request, Answer> {
  /** Type of the frames that ask it; never used for another kind again. */
  readonly type: number;
  /** Whether answers may be large: they go over a connection of their own, so that queries do not wait behind them. */
  readonly isBulk?: boolean;
  writeRequest(to: ByteWriter, request: Request): void;
  readRequest(from: ByteReader): Request;
  writeAnswer(to: ByteWriter, answer: Answer): void;
  readAnswer(from: ByteReader): Answer;
}
