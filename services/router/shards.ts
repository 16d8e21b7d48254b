import { abortReason, type Clock, KithError, toKithError } from "../../libs/base/index.js";
import type { ReplicaStatus } from "../../libs/model/index.js";
import type { ReplicaName, ShardApi } from "../../libs/rpc/index.js";
import { type CallContext, counterOf } from "../../libs/telemetry/index.js";

const hedged = counterOf("kith.query.hedged");

/** A node that hosts replicas, as the router reaches it: over the link, or directly in the same process. */
export interface ShardNode {
  readonly id: string;
  readonly zone: string;
  readonly api: ShardApi;
  /** False while the link is down. */
  readonly usable: boolean;
}

/** Latencies of one shard; its 95th percentile decides when a query is hedged. */
class LatencyWindow {
  static readonly #size = 128;
  readonly #samples = new Float64Array(LatencyWindow.#size);
  #count = 0;
  #p95 = Number.POSITIVE_INFINITY;

  add(ms: number): void {
    this.#samples[this.#count++ % LatencyWindow.#size] = ms;
    if (this.#count >= LatencyWindow.#size && this.#count % 64 === 0) {
      this.#p95 = [...this.#samples].sort((a, b) => a - b)[Math.floor(LatencyWindow.#size * 0.95)] as number;
    }
  }

  /** Infinite until there are enough samples. */
  get p95Ms(): number {
    return this.#p95;
  }
}

/** How long a replica that refused a call is passed over. */
const refusedForMs = 500;
/** A hedge never starts sooner: timers are not finer, and short queries are cheaper to wait for. */
const hedgeFloorMs = 5;

export interface Replica {
  readonly node: ShardNode;
  inFlight: number;
  status: ReplicaStatus | undefined;
  /** Monotonic milliseconds until which it is passed over. */
  avoidUntilMs: number;
}

/** One shard of a collection as the router sees it: its replicas, and which one to ask. */
export class RoutedShard {
  readonly #latency = new LatencyWindow();
  readonly #clock: Clock;

  constructor(
    readonly name: ReplicaName,
    readonly firstSlot: number,
    readonly lastSlot: number,
    readonly replicas: readonly Replica[],
    private readonly zone: string,
    clock: Clock,
  ) {
    this.#clock = clock;
  }

  /** Replicas worth asking, best first. */
  #ranked(): Replica[] {
    const now = this.#clock.monotonicMs();
    const usable = this.replicas.filter((replica) => replica.node.usable && replica.status?.state !== "stale");
    const cost = (replica: Replica): number =>
      (replica.avoidUntilMs > now ? 1e6 : 0) +
      (replica.status !== undefined && replica.status.state !== "active" ? 1e4 : 0) +
      (replica.node.zone === this.zone ? 0 : 0.5) +
      replica.inFlight +
      Math.random() * 0.25;
    return usable
      .map((replica) => ({ replica, cost: cost(replica) }))
      .sort((a, b) => a.cost - b.cost)
      .map((each) => each.replica);
  }

  /** The replicas that should have every write before ACK_ALL is answered. */
  active(): Replica[] {
    return this.replicas.filter((replica) => replica.node.usable && replica.status?.state !== "stale");
  }

  /** Asks the best replica; where one cannot answer, the next. SHARD_UNAVAILABLE where none can. */
  async ask<T>(call: CallContext, request: (api: ShardApi, call: CallContext) => Promise<T>): Promise<T> {
    let last: KithError | undefined;
    for (const replica of this.#ranked()) {
      if (call.signal?.aborted) throw abortReason(call.signal);
      try {
        return await this.#askOne(replica, call, request);
      } catch (error) {
        last = toKithError(error);
        if (last.code !== "SHARD_UNAVAILABLE" && last.code !== "SHUTTING_DOWN" && last.code !== "CORRUPT_DATA")
          throw last;
      }
    }
    throw this.unavailable(last);
  }

  /** Like `ask`, but when the first replica takes longer than this shard's p95, a second one is asked as well; the first answer wins. */
  async askHedged<T>(call: CallContext, request: (api: ShardApi, call: CallContext) => Promise<T>): Promise<T> {
    const [only] = this.replicas;
    if (this.replicas.length === 1 && only?.node.usable === true) return this.#askOne(only, call, request);
    const afterMs = Math.max(hedgeFloorMs, this.#latency.p95Ms);
    const startMs = this.#clock.monotonicMs();
    if (afterMs === Number.POSITIVE_INFINITY) {
      const answer = await this.ask(call, request);
      this.#latency.add(this.#clock.monotonicMs() - startMs);
      return answer;
    }
    const abort = new AbortController();
    const onAbort = (): void => abort.abort(call.signal?.reason);
    call.signal?.addEventListener("abort", onAbort, { once: true });
    const raced: CallContext = { signal: abort.signal, deadlineMs: call.deadlineMs, trace: call.trace };
    try {
      const [first, second] = this.#ranked();
      if (first === undefined) throw this.unavailable(undefined);
      const primary = this.ask(raced, request);
      if (second === undefined) return await primary;
      const answer = await this.#race(primary, afterMs, () => this.#askOne(second, raced, request));
      this.#latency.add(this.#clock.monotonicMs() - startMs);
      return answer;
    } finally {
      call.signal?.removeEventListener("abort", onAbort);
      abort.abort();
    }
  }

  #race<T>(primary: Promise<T>, afterMs: number, startHedge: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      let pending = 1;
      const failed = (error: unknown): void => {
        pending--;
        if (pending === 0) reject(error instanceof Error ? error : toKithError(error));
      };
      const timer = setTimeout(() => {
        hedged.add(1);
        pending++;
        startHedge().then(resolve, failed);
      }, afterMs);
      primary.then(
        (answer) => {
          clearTimeout(timer);
          resolve(answer);
        },
        (error) => {
          clearTimeout(timer);
          failed(error);
        },
      );
    });
  }

  async #askOne<T>(
    replica: Replica,
    call: CallContext,
    request: (api: ShardApi, call: CallContext) => Promise<T>,
  ): Promise<T> {
    replica.inFlight++;
    try {
      return await request(replica.node.api, call);
    } catch (error) {
      const { code } = toKithError(error);
      if (code === "SHARD_UNAVAILABLE" || code === "SHUTTING_DOWN") {
        replica.avoidUntilMs = this.#clock.monotonicMs() + refusedForMs;
      }
      throw error;
    } finally {
      replica.inFlight--;
    }
  }

  unavailable(cause: KithError | undefined): KithError {
    const nodes = this.replicas.map((replica) => replica.node.id).join(", ");
    return new KithError(
      "SHARD_UNAVAILABLE",
      `shard ${this.name.shard} has no replica that can answer (placed on ${nodes || "no node yet"})${cause ? `: ${cause.message}` : ""}; try again, or allow_partial for queries`,
      { details: { shard: this.name.shard, nodes }, cause, retryAfterMs: 500 },
    );
  }
}
