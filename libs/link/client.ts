import { abortReason, assert, KithError, type Runtime } from "../base/index.js";
import type { OperationOutcome, ReplicaStatus, ShardId } from "../model/index.js";
import type { CallContext } from "../call/index.js";
import { type Logger, registerGauge, silentLogger } from "../telemetry/index.js";
import type { ipb } from "../wire/index.js";
import type { ChannelTls } from "../rpc/client/index.js";
import { type OutcomeOf, outcomeFromWire, readCodecs, statusFromWire } from "./codec.js";
import { LinkStream, type LinkStreamOptions } from "./stream.js";
import type { ReadAnswer, ReadKind, ReadRequest, ShardApi } from "../shard-api/index.js";

export interface LinkClientOptions extends Runtime {
  /** "host:port" of the node's link. */
  address: string;
  tls?: ChannelTls;
  /** Streams, each on a connection of its own. */
  streams?: number;
  /** Requests that may wait for their answers; more get RESOURCE_EXHAUSTED with retry-after. */
  inFlightMax?: number;
  /** Time for a request whose call has no deadline. */
  defaultTimeoutMs?: number;
  /** Pause before a broken stream is opened again: doubles from `initialMs` to `maxMs`. */
  backoff?: { initialMs: number; maxMs: number };
  logger?: Logger;
}

/** "connected": at least one stream is open. "connecting": none is, and requests fail with SHARD_UNAVAILABLE soon. */
export type LinkState = "connected" | "connecting" | "closed";

type Outcome = NonNullable<ipb.LinkResponse["outcome"]>;
type Call = NonNullable<ipb.LinkRequest["call"]>;
/** The result of the call of kind K. */
type Answered<K extends Outcome["$case"]> = Extract<Outcome, { $case: K }>["value"];

/**
 * The replicas of another node, over a few long-lived streams. Requests of a stream that breaks fail with
 * SHARD_UNAVAILABLE (retryable) and the stream opens again by itself, with growing pauses.
 */
export class LinkClient implements ShardApi {
  readonly address: string;
  readonly #streams: LinkStream[] = [];
  readonly #inFlightMax: number;
  readonly #listeners = new Set<(state: LinkState) => void>();
  readonly #unregister: () => void;
  #state: LinkState = "connecting";

  constructor(options: LinkClientOptions) {
    this.address = options.address;
    this.#inFlightMax = options.inFlightMax ?? 4_096;
    const streamOptions: LinkStreamOptions = {
      address: options.address,
      tls: options.tls,
      defaultTimeoutMs: options.defaultTimeoutMs ?? 30_000,
      backoff: options.backoff ?? { initialMs: 50, maxMs: 2_000 },
      clock: options.clock,
      random: options.random,
      logger: options.logger ?? silentLogger,
      onChange: () => this.#changed(),
    };
    const count = options.streams ?? 2;
    assert(Number.isInteger(count) && count >= 1 && count <= 64, `a link has 1 to 64 streams, not ${count}`);
    for (let i = 0; i < count; i++) this.#streams.push(new LinkStream(streamOptions));
    this.#unregister = registerGauge("kith.link.in_flight", (report) =>
      report(this.inFlight, { "server.address": this.address }),
    );
    for (const stream of this.#streams) stream.open();
  }

  get state(): LinkState {
    return this.#state;
  }

  /** Requests that wait for their answers. */
  get inFlight(): number {
    let count = 0;
    for (const stream of this.#streams) count += stream.inFlight;
    return count;
  }

  /** Calls `listener` at every change of state, until the function that it returns is called. */
  onState(listener: (state: LinkState) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Ends the streams; requests in flight reject with SHARD_UNAVAILABLE. */
  close(): void {
    if (this.#state === "closed") return;
    this.#unregister();
    this.#setState("closed");
    for (const stream of this.#streams) stream.close();
  }

  #changed(): void {
    if (this.#state === "closed") return;
    this.#setState(this.#streams.some((stream) => stream.connected) ? "connected" : "connecting");
  }

  #setState(state: LinkState): void {
    if (state === this.#state) return;
    this.#state = state;
    for (const listener of this.#listeners) listener(state);
  }

  /** The connected stream with the fewest requests; a connecting one where none is connected. */
  #pick(): LinkStream {
    let best = this.#streams[0] as LinkStream;
    for (let i = 1; i < this.#streams.length; i++) {
      const stream = this.#streams[i] as LinkStream;
      const better = stream.rank === best.rank ? stream.inFlight < best.inFlight : stream.rank > best.rank;
      if (better) best = stream;
    }
    return best;
  }

  #send<K extends Outcome["$case"]>(
    kind: K,
    replica: ShardId,
    call: Extract<Call, { $case: K }>,
    context: CallContext,
  ): Promise<Answered<K>> {
    const signal = context.cancellation ?? context.signal;
    if (signal?.aborted) return Promise.reject(abortReason(signal));
    if (this.#state === "closed") {
      return Promise.reject(new KithError("SHARD_UNAVAILABLE", `the link to ${this.address} is closed`));
    }
    if (this.inFlight >= this.#inFlightMax) return Promise.reject(this.#tooMany());
    return this.#pick().send(kind, replica, call, context) as Promise<Answered<K>>;
  }

  #tooMany(): KithError {
    const limit = this.#inFlightMax;
    const message = `${limit} requests are in flight to ${this.address} already; try again shortly`;
    return new KithError("RESOURCE_EXHAUSTED", message, { details: { limit }, retryAfterMs: 100 });
  }

  async read<K extends ReadKind>(
    kind: K,
    replica: ShardId,
    request: ReadRequest<K>,
    call: CallContext,
  ): Promise<ReadAnswer<K>> {
    const codec = readCodecs[kind];
    const asked = { $case: kind, value: codec.requestToWire(request) } as Extract<Call, { $case: K }>;
    return codec.answerFromWire((await this.#send(kind, replica, asked, call)) as OutcomeOf<K>);
  }

  async wait(
    replica: ShardId,
    sequence: number,
    operationIds: readonly Uint8Array[],
    call: CallContext,
  ): Promise<OperationOutcome[]> {
    const value: ipb.ShardWait = { sequence, operationIds: [...operationIds] };
    const result = await this.#send("wait", replica, { $case: "wait", value }, call);
    return result.results.map(outcomeFromWire);
  }

  async waitIndexed(replica: ShardId, call: CallContext): Promise<number> {
    return (await this.#send("waitIndexed", replica, { $case: "waitIndexed", value: {} }, call)).indexedVectorCount;
  }

  async status(replica: ShardId, minSequence: number, call: CallContext): Promise<ReplicaStatus> {
    return statusFromWire(await this.#send("status", replica, { $case: "status", value: { minSequence } }, call));
  }
}
