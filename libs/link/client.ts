import { abortReason, assert, KithError, type Runtime } from "../base/index.js";
import type { OperationOutcome, ReplicaStatus, ShardId } from "../model/index.js";
import type { CallContext } from "../call/index.js";
import { type Logger, registerGauge, silentLogger } from "../telemetry/index.js";
import type { ChannelTls } from "../rpc/client/index.js";
import type { MethodStats } from "../rpc/common/index.js";
import type { ReadAnswer, ReadKind, ReadRequest, ShardApi } from "../shard-api/index.js";
import type { LinkCodec } from "./link-codec.js";
import type { ClusterSecret } from "./cluster-secret.js";
import { readCodecs, statusCodec, waitCodec, waitIndexedCodec } from "./codec.js";
import { LinkConnection, type LinkConnectionOptions } from "./connection.js";
import { clientStats } from "./stats.js";

export interface LinkClientOptions extends Runtime {
  /** "host:port" of the node's link. */
  address: string;
  /** The node that must answer there; left out: any. */
  node?: string;
  /** What this process calls itself. */
  self?: string;
  tls?: ChannelTls;
  /** Of the cluster: the node must know it. */
  secret?: ClusterSecret | undefined;
  /**
   * Connections. The first is for queries and all that is small, the others for what may have large answers. With more
   * for queries, fewer of them would leave in one write.
   */
  connections?: number;
  /** Requests that may wait for their answers; more get RESOURCE_EXHAUSTED with retry-after. */
  inFlightMax?: number;
  /** Time for a request whose call has no deadline. */
  defaultTimeoutMs?: number;
  /** Pause before a broken connection is opened again: doubles from `initialMs` to `maxMs`. */
  backoff?: { initialMs: number; maxMs: number };
  logger?: Logger;
}

/** Slots that a node accepts. */
const inFlightLimit = 32_768;

/** "connected": at least one connection is open. "connecting": none is, and requests fail with SHARD_UNAVAILABLE soon. */
export type LinkState = "connected" | "connecting" | "closed";

/**
 * The replicas of another node, over a few long-lived connections. Requests of one that breaks fail with
 * SHARD_UNAVAILABLE (retryable) and it opens again by itself, with growing pauses.
 */
export class LinkClient implements ShardApi {
  readonly address: string;
  readonly #connections: LinkConnection[] = [];
  readonly #inFlightMax: number;
  readonly #listeners = new Set<(state: LinkState) => void>();
  readonly #unregister: () => void;
  #state: LinkState = "connecting";
  #lastRefusal = "";

  constructor(options: LinkClientOptions) {
    this.address = options.address;
    this.#inFlightMax = options.inFlightMax ?? 4_096;
    assert(this.#inFlightMax <= inFlightLimit, `a link has at most ${inFlightLimit} requests in flight`);
    const connectionOptions: LinkConnectionOptions = {
      ...splitAddress(options.address),
      address: options.address,
      tls: options.tls,
      secret: options.secret,
      self: options.self ?? "",
      node: options.node ?? "",
      defaultTimeoutMs: options.defaultTimeoutMs ?? 30_000,
      backoff: options.backoff ?? { initialMs: 50, maxMs: 2_000 },
      clock: options.clock,
      random: options.random,
      logger: options.logger ?? silentLogger,
      onChange: () => this.#changed(),
      onRefusal: (error) => this.#refused(error, options.logger ?? silentLogger),
    };
    const count = options.connections ?? 2;
    assert(Number.isInteger(count) && count >= 1 && count <= 64, `a link has 1 to 64 connections, not ${count}`);
    for (let i = 0; i < count; i++) this.#connections.push(new LinkConnection(connectionOptions));
    this.#unregister = registerGauge("kith.link.in_flight", (report) =>
      report(this.inFlight, { "server.address": this.address }),
    );
    for (const connection of this.#connections) connection.open();
  }

  get state(): LinkState {
    return this.#state;
  }

  /** Requests that wait for their answers. */
  get inFlight(): number {
    let count = 0;
    for (const connection of this.#connections) count += connection.inFlight;
    return count;
  }

  /** Calls `listener` at every change of state, until the function that it returns is called. */
  onState(listener: (state: LinkState) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Ends the connections; requests in flight reject with SHARD_UNAVAILABLE. */
  close(): void {
    if (this.#state === "closed") return;
    this.#unregister();
    this.#setState("closed");
    for (const connection of this.#connections) connection.close();
  }

  #changed(): void {
    if (this.#state === "closed") return;
    this.#setState(this.#connections.some((connection) => connection.connected) ? "connected" : "connecting");
  }

  /** Logged once, not at every attempt of every connection. */
  #refused({ message }: KithError, logger: Logger): void {
    if (message === this.#lastRefusal) return;
    this.#lastRefusal = message;
    logger.error(`no link to ${this.address}: ${message}`, { address: this.address });
  }

  #setState(state: LinkState): void {
    if (state === this.#state) return;
    this.#state = state;
    if (state === "connected") this.#lastRefusal = "";
    for (const listener of this.#listeners) listener(state);
  }

  /** The first connection for what is small, another one for the rest; where that is not open, whichever is. */
  #pick(isBulk: boolean): LinkConnection {
    const connections = this.#connections;
    const [first] = connections;
    let best: LinkConnection | undefined;
    if (isBulk) {
      for (let i = 1; i < connections.length; i++) {
        const each = connections[i] as LinkConnection;
        if (each.connected && each.inFlight < (best?.inFlight ?? Infinity)) best = each;
      }
    }
    best ??= first;
    if (best?.connected === true) return best;
    return (
      connections.find((each) => each.connected) ?? connections.find((each) => each.isOpen) ?? (best as LinkConnection)
    );
  }

  #send<Request, Answer>(
    codec: LinkCodec<Request, Answer>,
    stats: MethodStats,
    replica: ShardId,
    request: Request,
    context: CallContext,
  ): Promise<Answer> {
    const signal = context.cancellation ?? context.signal;
    if (signal?.aborted) return Promise.reject(abortReason(signal));
    if (this.#state === "closed") {
      return Promise.reject(new KithError("SHARD_UNAVAILABLE", `the link to ${this.address} is closed`));
    }
    if (this.inFlight >= this.#inFlightMax) return Promise.reject(this.#tooMany());
    return this.#pick(codec.isBulk === true).send(codec, stats, replica, request, context);
  }

  #tooMany(): KithError {
    const limit = this.#inFlightMax;
    const message = `${limit} requests are in flight to ${this.address} already; try again shortly`;
    return new KithError("RESOURCE_EXHAUSTED", message, { details: { limit }, retryAfterMs: 100 });
  }

  read<K extends ReadKind>(
    kind: K,
    replica: ShardId,
    request: ReadRequest<K>,
    call: CallContext,
  ): Promise<ReadAnswer<K>> {
    const codec: LinkCodec<ReadRequest<K>, ReadAnswer<K>> = readCodecs[kind];
    return this.#send(codec, clientStats(kind), replica, request, call);
  }

  wait(
    replica: ShardId,
    sequence: number,
    operationIds: readonly Uint8Array[],
    call: CallContext,
  ): Promise<OperationOutcome[]> {
    return this.#send(waitCodec, clientStats("wait"), replica, { sequence, operationIds }, call);
  }

  waitIndexed(replica: ShardId, call: CallContext): Promise<number> {
    return this.#send(waitIndexedCodec, clientStats("waitIndexed"), replica, undefined, call);
  }

  status(replica: ShardId, minSequence: number, call: CallContext): Promise<ReplicaStatus> {
    return this.#send(statusCodec, clientStats("status"), replica, minSequence, call);
  }
}

/** INVALID_CONFIG where the address is not "host:port"; an IPv6 host stands in brackets. */
function splitAddress(address: string): { host: string; port: number } {
  const [, host, port] = /^\[?(.+?)\]?:(\d{1,5})$/.exec(address) ?? [];
  if (host === undefined) {
    throw new KithError("INVALID_CONFIG", `"${address}" is no address of a link; give host:port`, {
      details: { address },
    });
  }
  return { host, port: Number(port) };
}
