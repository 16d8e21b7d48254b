import { isIP, connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { backoffMs, type Clock, KithError, type Runtime, type Timer, toKithError } from "../base/index.js";
import type { CallContext } from "../call/index.js";
import type { ShardId } from "../model/index.js";
import { type Logger, startSpan, traceparentOf } from "../telemetry/index.js";
import { pb } from "../wire/index.js";
import type { ChannelTls } from "../rpc/client/index.js";
import { deadlinePassed, DeadlineSweep, fromFailure, type MethodStats } from "../rpc/common/index.js";
import type { ByteReader } from "./bytes.js";
import type { LinkCodec } from "./link-codec.js";
import { readMessage } from "./codec.js";
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
import { Pending } from "./pending.js";

export interface LinkConnectionOptions extends Runtime {
  host: string;
  port: number;
  /** "host:port", for messages. */
  address: string;
  tls: ChannelTls | undefined;
  /** Where there is one, both sides prove that they know it. */
  secret: ClusterSecret | undefined;
  /** Who speaks, and the node that must answer; "" for any. */
  self: string;
  node: string;
  defaultTimeoutMs: number;
  backoff: { initialMs: number; maxMs: number };
  logger: Logger;
  /** The connection was opened or lost. */
  onChange(): void;
  /** What answers at the address cannot be spoken to. */
  onRefusal(error: KithError): void;
}

/** Time for a connection and its greeting: an address that swallows packets must not hold requests for longer. */
const connectTimeoutMs = 5_000;
/** Bytes of frames that wait for a peer that does not read. */
const outboxBytesMax = 64 * 1024 * 1024;
/** After so long without a sign of life the peer is asked for one; after as long again the connection is dead. */
const aliveCheckMs = 7_500;
/** uint32 on the wire. */
const timeoutMaxMs = 0xffff_ffff;
const serialMax = 0xffff_ffff;

/** One connection of a link: requests by slot and serial, answers in any order. Opens itself again until it is closed. */
export class LinkConnection {
  readonly #options: LinkConnectionOptions;
  readonly #clock: Clock;
  readonly #sweep: DeadlineSweep<Pending>;
  #socket: Socket | undefined;
  #outbox: Outbox | undefined;
  #connected = false;
  #closed = false;
  #attempt = 0;
  #retryAtMs = 0;
  #timer: Timer | undefined;
  #aliveTimer: Timer | undefined;
  #heard = false;
  #serial = 0;

  constructor(options: LinkConnectionOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#sweep = new DeadlineSweep(options.clock);
  }

  get inFlight(): number {
    return this.#sweep.size;
  }
  get connected(): boolean {
    return this.#connected;
  }
  /** Whether requests may be sent: while it connects they wait for it. */
  get isOpen(): boolean {
    return this.#outbox !== undefined;
  }

  open(): void {
    this.#timer = undefined;
    if (this.#closed) return;
    const { self, node, secret } = this.#options;
    const proof = secret?.prove(greetingPurpose.ask(self, node)) ?? "";
    const socket = this.#dial();
    socket.setNoDelay(true);
    this.#socket = socket;
    this.#outbox = new Outbox(socket, this.#clock, () => undefined);
    let cause: KithError | undefined;
    const timer = this.#clock.setTimer(() => {
      socket.destroy(new Error(`no connection within ${connectTimeoutMs} ms: is it running there?`));
    }, connectTimeoutMs);
    const frames = new FrameReader((header, body) => this.#receive(header, body));
    let read = (bytes: Buffer): void => {
      const greeted = decodeGreeting(bytes);
      if (greeted === undefined) {
        const first = bytes;
        const whole = read;
        read = (more) => {
          read = whole;
          whole(Buffer.concat([first, more]));
        };
        return;
      }
      this.#check(greeted.greeting, proof);
      timer.close();
      read = (more) => frames.push(more);
      this.#opened();
      if (bytes.length > greeted.length) read(bytes.subarray(greeted.length));
    };
    socket.on("data", (chunk: Buffer) => {
      this.#heard = true;
      try {
        read(chunk);
      } catch (thrown) {
        // What cannot be read makes all that follows unreadable.
        cause = toKithError(thrown);
        socket.destroy();
      }
    });
    socket.on("error", (error) => (cause ??= toKithError(error)));
    socket.on("close", () => {
      timer.close();
      this.#lost(cause);
    });
    socket.write(encodeGreeting({ node: self, wanted: node, refusal: "", ...(proof !== "" && { proof }) }));
  }

  #dial(): Socket {
    const { host, port, tls } = this.#options;
    if (tls === undefined) return connectTcp({ host, port });
    const { ca, cert, key, serverName } = tls;
    const name = serverName ?? host;
    return connectTls({
      host,
      port,
      ...(ca && { ca }),
      ...(cert && { cert }),
      ...(key && { key }),
      // The name on the certificate; an address has none to send, and is checked as it is.
      ...(isIP(name) === 0 && { servername: name }),
      minVersion: "TLSv1.2",
    });
  }

  /** SHARD_UNAVAILABLE unless this is the node that was wanted, and it takes the connection. */
  #check({ version, node, refusal, proof = "" }: Greeting, asked: string): void {
    const { address, node: wanted, secret } = this.#options;
    if (refusal !== "") throw new KithError("FAILED_PRECONDITION", refusal);
    if (version !== linkVersion) {
      throw new KithError(
        "FAILED_PRECONDITION",
        `node ${node} speaks version ${version} of the link, and this one version ${linkVersion}: run one release on all nodes`,
      );
    }
    if (wanted !== "" && node !== wanted) {
      throw new KithError("FAILED_PRECONDITION", `node ${node} answers at ${address}, where ${wanted} should be`);
    }
    try {
      secret?.check(proof, greetingPurpose.answer(node, asked));
    } catch (cause) {
      const message = `${address} does not prove to be a node of this cluster: give all nodes the same link.secretFile`;
      throw new KithError("FAILED_PRECONDITION", message, { cause });
    }
  }

  #opened(): void {
    this.#attempt = 0;
    this.#aliveTimer = this.#clock.every(() => this.#checkAlive(), aliveCheckMs).unref();
    this.#setConnected(true);
  }

  #checkAlive(): void {
    if (this.#heard) {
      this.#heard = false;
      this.#signal(frameType.ping, 0, 0);
    } else this.#socket?.destroy(new Error(`no sign of life for ${aliveCheckMs} ms`));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer?.close();
    this.#aliveTimer?.close();
    this.#outbox?.end();
    this.#socket?.destroySoon();
    this.#outbox = undefined;
    this.#failAll(new KithError("SHARD_UNAVAILABLE", `the link to ${this.#options.address} was closed`));
    this.#setConnected(false);
  }

  send<Request, Answer>(
    codec: LinkCodec<Request, Answer>,
    stats: MethodStats,
    replica: ShardId,
    request: Request,
    context: CallContext,
  ): Promise<Answer> {
    const now = this.#clock.monotonicMs();
    const outbox = this.#outbox;
    if (outbox === undefined) return Promise.reject(this.#unavailable(undefined, this.#retryAtMs - now));
    const given = context.deadlineMs ?? Infinity;
    const deadlineMs = given === Infinity ? now + this.#options.defaultTimeoutMs : given;
    if (deadlineMs <= now) return Promise.reject(deadlinePassed());
    if (outbox.waitingBytes > outboxBytesMax) return Promise.reject(this.#congested(outbox.waitingBytes));
    const span = startSpan(context.trace, stats.method, clientRole);
    this.#serial = this.#serial === serialMax ? 0 : this.#serial + 1;
    const pending = new Pending(this.#serial, stats, this.#clock, now, deadlineMs, context, span, codec, this);
    this.#sweep.add(pending);
    const { writer } = outbox;
    try {
      const traceparent = traceparentOf(span.trace);
      const isCollected = context.trace.collector !== undefined;
      const isTraced = traceparent !== "" || isCollected;
      beginFrame(writer, codec.type, isTraced ? tracedFlag : 0, pending.sweepSlot, pending.serial);
      writer.u32(Math.min(timeoutMaxMs, Math.max(1, Math.ceil(deadlineMs - now))));
      writer.u32(replica.shard);
      writer.text(replica.collectionId);
      if (isTraced) {
        writer.u8(isCollected ? 1 : 0);
        writer.text(traceparent);
        writer.text(span.trace.spanId ?? "");
      }
      writer.align();
      codec.writeRequest(writer, request);
      finishFrame(writer, "request");
    } catch (thrown) {
      writer.rollback();
      this.#sweep.delete(pending);
      span.end(thrown);
      return Promise.reject(toKithError(thrown));
    }
    pending.cancellation?.addEventListener("abort", pending.onAbort);
    if (this.#connected) outbox.send();
    return pending.promise as Promise<Answer>;
  }

  /** Ends a request from this side: the caller is told at once, the node stops working on it. */
  abandon(pending: Pending, error: KithError): void {
    if (!this.#forget(pending)) return;
    this.#signal(frameType.cancel, pending.sweepSlot, pending.serial);
    pending.fail(error);
  }

  #signal(type: number, slot: number, serial: number): void {
    const outbox = this.#outbox;
    if (outbox === undefined) return;
    writeSignal(outbox.writer, type, slot, serial);
    if (this.#connected) outbox.send();
  }

  /** False where it was answered or given up before. */
  #forget(pending: Pending): boolean {
    if (this.#sweep.at(pending.sweepSlot) !== pending) return false;
    this.#sweep.delete(pending);
    pending.cancellation?.removeEventListener("abort", pending.onAbort);
    return true;
  }

  #receive({ type, flags, slot, serial }: FrameHeader, body: ByteReader): void {
    if (type === frameType.ping) this.#signal(frameType.pong, 0, 0);
    if (type !== frameType.answer && type !== frameType.failure) return;
    const pending = this.#sweep.at(slot);
    // The answer to a request that was abandoned meanwhile.
    if (pending?.serial !== serial) return;
    this.#forget(pending);
    try {
      if ((flags & tracedFlag) !== 0) {
        const { collector } = pending.context.trace;
        for (let left = body.u32(); left > 0; left--) collector?.add(readMessage(body, pb.TraceSpan));
        body.align();
      }
      if (type === frameType.failure) pending.fail(fromFailure(readMessage(body, pb.Failure)));
      else pending.succeed(pending.codec.readAnswer(body));
    } catch (thrown) {
      const { address } = this.#options;
      const message = `${address} answered what cannot be read: ${toKithError(thrown).message}`;
      pending.fail(new KithError("INTERNAL", message, { details: { address }, cause: thrown }));
    }
  }

  /** The connection is over: its requests fail, and it opens again after a pause. */
  #lost(cause: KithError | undefined): void {
    this.#socket = undefined;
    this.#outbox = undefined;
    this.#aliveTimer?.close();
    if (this.#closed) return;
    const delayMs = backoffMs(this.#attempt++, this.#options.backoff, this.#options.random);
    this.#retryAtMs = this.#clock.monotonicMs() + delayMs;
    this.#timer = this.#clock.setTimer(() => this.open(), delayMs);
    this.#failAll(this.#unavailable(cause, delayMs));
    const { address, logger } = this.#options;
    if (this.#connected) {
      logger.warn(`lost the link to ${address}`, { address, cause: cause?.message ?? "ended by the node" });
    } else if (cause?.code === "FAILED_PRECONDITION") this.#options.onRefusal(cause);
    this.#setConnected(false);
  }

  #failAll(error: KithError): void {
    for (const pending of this.#sweep) if (this.#forget(pending)) pending.fail(error);
  }

  #unavailable(cause: KithError | undefined, retryAfterMs: number): KithError {
    const { address } = this.#options;
    const why = cause === undefined ? "" : `: ${cause.message}`;
    return new KithError("SHARD_UNAVAILABLE", `no link to ${address}${why}; another replica may answer`, {
      details: { address },
      retryAfterMs: Math.max(0, Math.ceil(retryAfterMs)),
      cause,
    });
  }

  #congested(waitingBytes: number): KithError {
    const { address } = this.#options;
    const message = `${waitingBytes} bytes wait for ${address}, which does not read them; try again shortly`;
    return new KithError("RESOURCE_EXHAUSTED", message, { details: { address }, retryAfterMs: 100 });
  }

  #setConnected(connected: boolean): void {
    if (connected === this.#connected) return;
    this.#connected = connected;
    // What was asked while it connected.
    if (connected) this.#outbox?.send();
    this.#options.onChange();
  }
}

const clientRole = { role: "client", attributes: { "rpc.system.name": "kith" } } as const;
