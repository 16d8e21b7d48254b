import type { Duplex } from "node:stream";
import { type Clock, KithError, type Timer, toKithError } from "../base/index.js";
import type { CallContext } from "../call/index.js";
import type { ShardId } from "../model/index.js";
import {
  metricsEnabled,
  noTrace,
  type Span,
  SpanCollector,
  startSpan,
  type TraceContext,
  traceFrom,
} from "../telemetry/index.js";
import { pb } from "../wire/index.js";
import {
  deadlinePassed,
  DeadlineSweep,
  endServerSpan,
  type MethodStats,
  shuttingDown,
  toFailure,
} from "../rpc/common/index.js";
import { type ProtocolConnection, type ProtocolPort, ServerCall } from "../rpc/server/index.js";
import { type ByteReader, type ByteWriter, type LastText, malformed } from "./bytes.js";
import { spansToWire, writeMessage } from "./codec.js";
import {
  beginFrame,
  finishFrame,
  type FrameHeader,
  FrameReader,
  frameType,
  tracedFlag,
  writeSignal,
} from "./frames.js";
import type { ClusterSecret } from "./cluster-secret.js";
import { decodeGreeting, encodeGreeting, type Greeting, greetingPurpose, linkVersion } from "./greeting.js";
import { Outbox } from "./outbox.js";

/** Answers one kind of request. */
export interface ServedKind {
  readonly stats: MethodStats;
  /** Reads the request before it returns; throws where that is malformed. */
  perform(replica: ShardId, body: ByteReader, call: CallContext): Promise<unknown>;
  write(to: ByteWriter, answer: unknown): void;
}

export interface ServedConnectionOptions {
  kinds: ReadonlyMap<number, ServedKind>;
  /** This node's id. */
  node: string;
  /** Where there is one, those who prove that they know it are served alone. */
  secret: ClusterSecret | undefined;
  port: ProtocolPort;
}

/** Requests of one connection that are answered at once; reading stops there. Above what a LinkClient sends. */
const inFlightMax = 8_192;
/** Bytes of answers that wait for a router; beyond it nothing more is read from it. */
const waitingBytesMax = 256 * 1024;
/** Slots that a router may use: more than it may have requests in flight. */
const slotsMax = 65_536;
/** Time for a request that came without a deadline. */
const defaultTimeoutMs = 60_000;
/** Time for the greeting. */
const greetingTimeoutMs = 10_000;
/** A router asks for a sign of life more often; one that is silent for so long is gone. */
const silentMaxMs = 45_000;

/** One request that is being answered. */
class LinkCall extends ServerCall {
  trace: TraceContext = noTrace;
  span: Span | undefined;
  collector: SpanCollector | undefined;
  answered = false;
  /** 0 where metrics are off. */
  readonly startMs: number;

  constructor(
    readonly kind: ServedKind,
    readonly slot: number,
    readonly serial: number,
    nowMs: number,
    timeoutMs: number,
    private readonly connection: ServedConnection,
  ) {
    super(nowMs + timeoutMs, connection.clock);
    this.startMs = metricsEnabled() ? nowMs : 0;
  }

  expire(): void {
    this.connection.expire(this);
  }

  // The connection calls abort() on every request in flight when the router goes away.
  protected watchCancellation(): void {
    return;
  }
}

/** The link's side of a shard node for one connection of a router. */
export class ServedConnection implements ProtocolConnection {
  readonly #socket: Duplex;
  readonly #options: ServedConnectionOptions;
  readonly #outbox: Outbox;
  readonly #frames: FrameReader;
  readonly clock: Clock;
  readonly #sweep: DeadlineSweep<LinkCall>;
  /** Where in the sweep the request of a router's slot is. */
  readonly #slots: (number | undefined)[] = [];
  readonly #collectionId: LastText = { bytes: new Uint8Array(0), text: "" };
  /** Handlers that run, also of requests that were cancelled: they still hold memory. */
  #running = 0;
  #greeted = false;
  #early: Buffer | undefined;
  #paused = false;
  #draining = false;
  #ended = false;
  #heard = true;
  #timer: Timer;

  constructor(socket: Duplex, options: ServedConnectionOptions) {
    this.#socket = socket;
    this.#options = options;
    const { clock } = options.port;
    this.clock = clock;
    this.#sweep = new DeadlineSweep(clock);
    this.#outbox = new Outbox(socket, clock, () => this.#continue());
    this.#frames = new FrameReader((header, body) => this.#receive(header, body));
    this.#timer = clock.setTimer(() => socket.destroy(), greetingTimeoutMs);
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
    socket.on("error", () => undefined); // "close" follows, and what was under way ends there.
    socket.on("close", () => this.#gone());
  }

  /** Refuses new requests, and ends the connection once those in flight are answered. */
  drain(): void {
    this.#draining = true;
    this.#endIfIdle();
  }

  /** Answers what is in flight with SHUTTING_DOWN and ends the connection. */
  shutDown(): void {
    const error = shuttingDown();
    for (const call of this.#sweep) {
      call.abort(error);
      this.#fail(call, error);
    }
    this.#end();
  }

  #read(chunk: Buffer): void {
    this.#heard = true;
    try {
      if (this.#greeted) this.#frames.push(chunk);
      else this.#greet(this.#early === undefined ? chunk : Buffer.concat([this.#early, chunk]));
    } catch (thrown) {
      // Nothing that follows could be read.
      this.#options.port.report(thrown, "kith.internal.v1.Link", noTrace);
      this.#socket.destroy();
    }
  }

  #greet(bytes: Buffer): void {
    const greeted = decodeGreeting(bytes);
    if (greeted === undefined) {
      this.#early = bytes;
      return;
    }
    this.#early = undefined;
    const { node, secret } = this.#options;
    const refusal = this.#refusalOf(greeted.greeting);
    const asked = greeted.greeting.proof ?? "";
    // To whoever proved nothing nothing is proved.
    const proof = refusal === "" && asked !== "" ? secret?.prove(greetingPurpose.answer(node, asked)) : undefined;
    this.#socket.write(encodeGreeting({ node, wanted: "", refusal, ...(proof !== undefined && { proof }) }));
    if (refusal !== "") {
      this.#end();
      return;
    }
    this.#greeted = true;
    this.#timer.close();
    this.#timer = this.clock.every(() => this.#checkAlive(), silentMaxMs).unref();
    if (bytes.length > greeted.length) this.#frames.push(bytes.subarray(greeted.length));
  }

  #refusalOf({ version, node, wanted, proof = "" }: Greeting): string {
    const own = this.#options.node;
    if (version !== linkVersion) {
      return `node ${own} speaks version ${linkVersion} of the link, and ${node} version ${version}: run one release on all nodes`;
    }
    if (wanted !== "" && wanted !== own) return `this is node ${own}, and ${node} asks for ${wanted}`;
    try {
      this.#options.secret?.check(proof, greetingPurpose.ask(node, wanted));
      return "";
    } catch (thrown) {
      return toKithError(thrown).message;
    }
  }

  #checkAlive(): void {
    if (!this.#heard) this.#socket.destroy();
    this.#heard = false;
  }

  #receive(header: FrameHeader, body: ByteReader): void {
    const { type, slot, serial } = header;
    switch (type) {
      case frameType.cancel:
        return this.#cancel(slot, serial);
      case frameType.ping:
        writeSignal(this.#outbox.writer, frameType.pong);
        return this.#outbox.send();
      case frameType.pong:
        return;
      default:
        return this.#request(header, body);
    }
  }

  #cancel(slot: number, serial: number): void {
    const at = this.#slots[slot];
    const call = at === undefined ? undefined : this.#sweep.at(at);
    if (call?.serial !== serial || call.slot !== slot) return;
    const reason = new KithError("CANCELLED", "the router cancelled the request");
    this.#forget(call, reason);
    call.abort(reason);
  }

  #request({ type, flags, slot, serial }: FrameHeader, body: ByteReader): void {
    if (slot >= slotsMax) throw malformed(`the slot ${slot}`);
    const kind = this.#options.kinds.get(type);
    if (kind === undefined) return this.#refuse(slot, serial, unknownKind(type));
    if (this.#draining) return this.#refuse(slot, serial, shuttingDown());
    const timeoutMs = body.u32() || defaultTimeoutMs;
    const replica = { collectionId: "", shard: body.u32() };
    replica.collectionId = body.textAgain(this.#collectionId);
    const call = new LinkCall(kind, slot, serial, this.clock.monotonicMs(), timeoutMs, this);
    let traceparent = "";
    let parentSpanId = "";
    if ((flags & tracedFlag) !== 0) {
      if (body.u8() !== 0) call.collector = new SpanCollector(this.#options.node, this.#options.port);
      traceparent = body.text();
      parentSpanId = body.text();
    }
    body.align();
    const span = startSpan(traceFrom(traceparent, call.collector, parentSpanId), kind.stats.method, serverRole);
    call.span = span;
    call.trace = span.trace;
    this.#sweep.add(call);
    this.#slots[slot] = call.sweepSlot;
    this.#running++;
    if (this.#running >= inFlightMax) this.#pause();
    void this.#answer(call, replica, body);
  }

  async #answer(call: LinkCall, replica: { collectionId: string; shard: number }, body: ByteReader): Promise<void> {
    try {
      // The body is read before the first await: afterwards it is another frame's.
      const answer = await call.kind.perform(replica, body, call);
      if (!call.answered) this.#succeed(call, answer);
    } catch (thrown) {
      if (!call.answered) this.#fail(call, thrown);
    } finally {
      this.#running--;
      if (this.#draining) this.#endIfIdle();
      if (this.#paused) this.#continue();
    }
  }

  /** A deadline that has passed. */
  expire(call: LinkCall): void {
    if (call.answered) return;
    const error = deadlinePassed();
    call.abort(error);
    this.#fail(call, error);
  }

  /** Throws, with nothing written, where the answer is too large or cannot be encoded. */
  #succeed(call: LinkCall, answer: unknown): void {
    const { writer } = this.#outbox;
    try {
      // Ended before the spans are written, which it is one of.
      if (call.collector !== undefined) this.#endSpan(call, undefined);
      this.#begin(call, frameType.answer);
      call.kind.write(writer, answer);
      finishFrame(writer, "answer");
    } catch (thrown) {
      writer.rollback();
      throw thrown;
    }
    this.#forget(call, undefined);
    this.#send();
  }

  #fail(call: LinkCall, thrown: unknown): void {
    const error = this.#options.port.report(thrown, call.kind.stats.method, call.trace);
    this.#forget(call, error);
    if (this.#ended) return;
    this.#begin(call, frameType.failure);
    writeMessage(this.#outbox.writer, pb.Failure, toFailure(error));
    finishFrame(this.#outbox.writer, "answer");
    this.#send();
  }

  #refuse(slot: number, serial: number, error: KithError): void {
    const { writer } = this.#outbox;
    beginFrame(writer, frameType.failure, 0, slot, serial);
    writeMessage(writer, pb.Failure, toFailure(error));
    finishFrame(writer, "answer");
    this.#send();
  }

  #begin({ slot, serial, collector }: LinkCall, type: number): void {
    const { writer } = this.#outbox;
    beginFrame(writer, type, collector === undefined ? 0 : tracedFlag, slot, serial);
    if (collector === undefined) return;
    const spans = spansToWire(collector.spans);
    writer.u32(spans.length);
    for (const span of spans) writeMessage(writer, pb.TraceSpan, span);
    writer.align();
  }

  #send(): void {
    this.#outbox.send();
    if (this.#outbox.waitingBytes > waitingBytesMax) this.#pause();
  }

  /** The end of a request that was answered, or is to be now; nothing where it was before. */
  #forget(call: LinkCall, error: KithError | undefined): void {
    if (call.answered) return;
    call.answered = true;
    if (this.#slots[call.slot] === call.sweepSlot) this.#slots[call.slot] = undefined;
    this.#sweep.delete(call);
    this.#endSpan(call, error);
    call.kind.stats.record(call.startMs, this.clock, error);
  }

  #endSpan(call: LinkCall, error: KithError | undefined): void {
    if (call.span !== undefined) endServerSpan(call.span, error);
    call.span = undefined;
  }

  /** A router that does not read its answers, or has too many requests in flight, is not read from either. */
  #pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#socket.pause();
  }

  #continue(): void {
    if (!this.#paused || this.#running >= inFlightMax || this.#outbox.waitingBytes > waitingBytesMax) return;
    this.#paused = false;
    this.#socket.resume();
  }

  #endIfIdle(): void {
    if (this.#running === 0) this.#end();
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#outbox.end();
  }

  #gone(): void {
    this.#ended = true;
    this.#timer.close();
    this.#outbox.close();
    const reason = new KithError("CANCELLED", "the router went away");
    for (const call of this.#sweep) {
      this.#forget(call, reason);
      call.abort(reason);
    }
  }
}

function unknownKind(type: number): KithError {
  return new KithError(
    "UNIMPLEMENTED",
    `this node does not know requests of type ${type}: run one release on all nodes`,
    {
      details: { type },
    },
  );
}

const serverRole = { role: "server", attributes: { "rpc.system.name": "kith" } } as const;
