import { Metadata, type ServerDuplexStream, type ServerWritableStream } from "@grpc/grpc-js";
import { deferred, type Deferred, type KithError } from "../../base/index.js";
import type { Span, TraceContext } from "../../telemetry/index.js";
import { endServerSpan, type MethodStats } from "../common/call-stats.js";
import { Malformed, MessageBatch, MessagePart, type ServedMethod, wholeBytesMax } from "../common/definition.js";
import { toServiceError } from "../common/errors.js";
import { commonNameOf, ServerCall } from "./server-call.js";
import { shuttingDown } from "../common/deadline.js";
import { type ServerState, serverSpan } from "./unary.js";

/** A stream of answers, and mostly of requests, as its handler sees it. Where there is one request, it is the only message. The stream ends when the handler's promise settles. */
export interface ServerStream<Req, Res> {
  /** `signal` is aborted when the client goes away or the server must end; streams have no deadline. */
  readonly call: ServerCall;
  readonly metadata: Metadata;
  readonly peer: string;
  /** As in UnaryContext. */
  readonly peerCommonName: string | undefined;
  /** Of the stream's method. */
  readonly stats: MethodStats;
  /** Resolves when the client has sent its last message, when the stream broke, or when the server drains. */
  readonly ended: Promise<void>;
  /** Whether the server shuts down: new requests are to be refused, those in flight to be answered. */
  readonly draining: boolean;
  /** Receives the messages, in order. Nothing is read before it is called. */
  onMessage(listener: (message: Req) => void): void;
  /** Stops and continues reading; meanwhile HTTP/2 flow control holds the client. */
  pause(): void;
  resume(): void;
  /**
   * False when the client reads too slowly: wait for drained() before writing more. Dropped after the end. Throws
   * BATCH_TOO_LARGE, and writes nothing, where the message is larger than messages may be.
   */
  write(message: Res): boolean;
  /** Whether write() would return true. */
  readonly writable: boolean;
  /** Resolves when more may be written, or the stream has ended. */
  drained(): Promise<void>;
  /** Logs what a request of the stream threw, and makes it the error that the client may see. */
  failure(thrown: unknown, trace: TraceContext): KithError;
  /** Sends the headers now, so that the client knows that the stream is open before the first message. */
  open(): void;
}

export type StreamHandler<Req, Res> = (stream: ServerStream<Req, Res>) => Promise<void>;

type Written = MessageBatch | MessagePart;

/** grpc-js's side of a call that streams answers. */
export type AnswerStream = ServerDuplexStream<object, Written> | ServerWritableStream<object, Written>;

/** Bytes of answers that may wait for the client before write() says so. */
const waitingBytesMax = 256 * 1024;

export class StreamCall extends ServerCall implements ServerStream<object, object> {
  readonly #stream: AnswerStream;
  readonly #method: ServedMethod;
  readonly #server: ServerState;
  readonly #span: Span;
  readonly #ended = deferred<void>();
  #drained: Deferred<void> | undefined;
  /** Answers that wait for the write under way, or for the end of this turn of the event loop. */
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  /** With those of the write under way. */
  #unsentBytes = 0;
  #writing = false;
  #closed = false;
  draining = false;
  readonly trace: TraceContext;

  constructor(stream: AnswerStream, method: ServedMethod, server: ServerState) {
    super(Infinity, server.clock);
    this.#stream = stream;
    this.#method = method;
    this.#server = server;
    this.#span = serverSpan(stream.metadata, method.stats.method);
    this.trace = this.#span.trace;
    stream.on("cancelled", () => this.#gone());
    stream.on("close", () => this.#gone());
    stream.on("end", () => this.#ended.resolve());
  }

  get call(): ServerCall {
    return this;
  }
  get metadata(): Metadata {
    return this.#stream.metadata;
  }
  get peer(): string {
    return this.#stream.getPeer();
  }
  get peerCommonName(): string | undefined {
    return commonNameOf(this.#stream);
  }
  get stats(): MethodStats {
    return this.#method.stats;
  }
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Runs the handler and ends the stream. Never rejects. */
  async run(handler: StreamHandler<object, object>): Promise<void> {
    try {
      await handler(this);
      if (this.#closed) return;
      this.#closed = true;
      this.#writeAll();
      this.#stream.end();
      endServerSpan(this.#span);
    } catch (thrown) {
      this.#fail(thrown);
    } finally {
      this.#wake();
      this.#ended.resolve();
    }
  }

  onMessage(listener: (message: object) => void): void {
    const take = (message: object): void => {
      if (this.#closed) return;
      if (message instanceof Malformed) this.#fail(message.error);
      else listener(message);
    };
    if ("request" in this.#stream) take(this.#stream.request);
    else this.#stream.on("data", take);
  }
  pause(): void {
    if (!("request" in this.#stream)) this.#stream.pause();
  }
  resume(): void {
    if (!this.#closed && !("request" in this.#stream)) this.#stream.resume();
  }
  write(message: object): boolean {
    if (this.#closed) return true;
    const bytes = this.#method.encode(message);
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    this.#countUnsent(bytes.length);
    if (!this.#writing) {
      this.#writing = true;
      // After the microtasks: the answers of one burst of searches leave together.
      process.nextTick(this.#writeNext);
    }
    return this.writable;
  }
  get writable(): boolean {
    return this.#closed || this.#waitingBytes <= waitingBytesMax;
  }
  drained(): Promise<void> {
    if (this.writable) return Promise.resolve();
    this.#drained ??= deferred();
    return this.#drained.promise;
  }
  failure(thrown: unknown, trace: TraceContext): KithError {
    return this.#server.failures.report(thrown, this.#method.stats.method, trace);
  }
  open(): void {
    this.#stream.sendMetadata(new Metadata());
  }

  /** Asks the handler to come to an end; shutDown() does not ask. */
  drain(): void {
    this.draining = true;
    this.#ended.resolve();
  }
  shutDown(): void {
    this.#fail(shuttingDown());
  }
  expire(): void {
    this.shutDown();
  }

  // The listeners of the constructor call #gone() whether or not somebody asked for the signal.
  protected watchCancellation(): void {
    if (this.#stream.cancelled) this.clientGone();
  }

  /** One write at a time: what comes meanwhile is the next one. */
  readonly #writeNext = (): void => {
    this.#countUnsent(this.#waitingBytes - this.#unsentBytes);
    if (this.#closed || this.#waiting.length === 0) this.#writing = false;
    else this.#write(this.#takeNext(), this.#writeNext);
    if (this.writable) this.#wake();
  };

  /** The parts of one large message wait in the stream, which frames one at a time. */
  #write(next: Written, done?: () => void): void {
    let last = next;
    for (let more = partAfter(last); more !== undefined; more = partAfter(last)) {
      this.#stream.write(last);
      last = more;
    }
    this.#stream.write(last, done);
  }

  #takeNext(): Written {
    const messages = this.#waiting;
    const [first] = messages as [Buffer];
    if (first.length > wholeBytesMax) {
      messages.shift();
      this.#waitingBytes -= first.length;
      return new MessagePart(first);
    }
    let count = 0;
    let bytes = 0;
    do bytes += (messages[count++] as Buffer).length;
    while (count < messages.length && bytes + (messages[count] as Buffer).length <= waitingBytesMax);
    this.#waiting = messages.splice(count);
    this.#waitingBytes -= bytes;
    return new MessageBatch(messages);
  }

  #countUnsent(bytes: number): void {
    this.#unsentBytes += bytes;
    this.#server.unsentBytes += bytes;
  }

  #writeAll(): void {
    while (this.#waiting.length > 0) this.#write(this.#takeNext());
  }

  #wake(): void {
    this.#drained?.resolve();
    this.#drained = undefined;
  }

  #gone(): void {
    if (!this.#closed) {
      this.#closed = true;
      this.clientGone();
      endServerSpan(this.#span);
    }
    // Nobody takes it any more: the write under way, which may yet end, must not count it again.
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#countUnsent(-this.#unsentBytes);
    this.#wake();
    this.#ended.resolve();
  }

  #fail(thrown: unknown): void {
    if (this.#closed) return;
    this.#closed = true;
    const error: KithError = this.#server.failures.report(thrown, this.#method.stats.method, this.trace);
    this.abort(error);
    this.#writeAll();
    // grpc-js ends a server's stream with the status of the error that is emitted on it.
    this.#stream.emit("error", toServiceError(error));
    endServerSpan(this.#span, error);
    this.#wake();
    this.#ended.resolve();
  }
}

function partAfter(written: Written): MessagePart | undefined {
  return written instanceof MessagePart ? written.next : undefined;
}
