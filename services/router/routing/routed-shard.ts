import { isDeepStrictEqual } from "node:util";
import { abortReason, type Clock, KithError, reasonOf, type Runtime, toKithError } from "../../../libs/base/index.js";
import type { ShardId, ShardPlacement } from "../../../libs/model/index.js";
import type { ShardApi } from "../../../libs/shard-api/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import { firstAnswer } from "./hedge.js";
import { LatencyWindow } from "./latency-window.js";
import type { ReplicaHandle } from "./replica-handle.js";

/** How long a replica that refused a call is passed over. */
const refusedForMs = 500;
/** A hedge never starts sooner: timers are not finer, and short queries are cheaper to wait for. */
const hedgeFloorMs = 5;
/** How long an answer may take before it is looked whether the replica is still there. */
const hangMs = 500;
/** A replica that has not applied what another one had so long ago is lagging. */
const lagMaxMs = 5_000;
/** A replica of another zone counts as if it had so many more requests in flight. */
const otherZoneInFlight = 16;
/** Below it, replicas are equally fast. */
const latencyFloorMs = 0.1;

type Request<T> = (api: ShardApi, call: CallContext) => Promise<T>;

/**
 * One shard of a collection as the router sees it: its replicas, and which one to ask.
 *
 * Those that are joining are never asked. Of the others, active replicas come first, then lagging ones and those of nodes that are cut off, then those that are not known to be
 * active, then those that have just refused a call, and last those that are leaving. Among equals: the one with the least (requests in
 * flight + 1) × expected latency, where another zone than the router's counts as 16 more requests in flight. So another zone is asked only
 * where its own has no active replica or is overloaded: more than 16 requests deeper in work, or more than 16 times slower.
 */
export class RoutedShard {
  readonly #latency = new LatencyWindow();
  readonly #clock: Clock;
  /** Those that may be asked. */
  readonly #candidates: readonly ReplicaHandle[];
  /** What some replica had applied at a time, by which the others are judged later. */
  #mark = { sequence: 0, atMs: Number.NEGATIVE_INFINITY };

  /** `replicas`: one for each of the placement's. */
  constructor(
    readonly id: ShardId,
    readonly placement: ShardPlacement,
    readonly replicas: readonly ReplicaHandle[],
    private readonly zone: string,
    readonly runtime: Runtime,
  ) {
    this.#clock = runtime.clock;
    this.#candidates = replicas.filter((replica) => replica.placement.state !== "joining");
  }

  isPlacedAs(placement: ShardPlacement): boolean {
    return isDeepStrictEqual(placement, this.placement);
  }

  /** Replicas worth asking, best first. */
  #ranked(): ReplicaHandle[] {
    const usable = this.#candidates.filter((replica) => replica.node.usable && replica.status?.state !== "stale");
    if (usable.length < 2) return usable;
    const nowMs = this.#clock.monotonicMs();
    const averages = usable.flatMap(({ averageMs }) => averageMs ?? []);
    const usualMs = averages.length === 0 ? 1 : Math.min(...averages);
    const cost = (replica: ReplicaHandle): number =>
      (replica.inFlight + 1 + (replica.node.zone === this.zone ? 0 : otherZoneInFlight)) *
      Math.max(latencyFloorMs, replica.expectedMs(usualMs, nowMs)) *
      // Those that are nearly equal share the work.
      (1 + this.runtime.random.float() * 0.25);
    return usable
      .map((replica) => ({ replica, rank: this.#rank(replica), cost: cost(replica) }))
      .sort((a, b) => a.rank - b.rank || a.cost - b.cost)
      .map((each) => each.replica);
  }

  /** 0: it may be asked for anything. */
  #rank(replica: ReplicaHandle): number {
    if (replica.placement.state !== "active") return 4;
    if (replica.avoidUntilMs > this.#clock.monotonicMs()) return 3;
    if (replica.status?.state !== "active") return 2;
    return replica.lagging || replica.node.silent === true ? 1 : 0;
  }

  /** The highest sequence that an active replica had applied when it was polled; 0 for none. One that is not active may be of another past. */
  get appliedSequence(): number {
    const active = this.replicas.flatMap(({ status }) => (status?.state === "active" ? status.appliedSequence : []));
    return Math.max(0, ...active);
  }

  /** To be called after each poll of the states: finds the replicas that lag. */
  judgeLag(): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#mark.atMs < lagMaxMs) return;
    let sequence = 0;
    for (const replica of this.replicas) {
      const { status } = replica;
      replica.lagging = status !== undefined && status.appliedSequence < this.#mark.sequence;
      if (status?.state === "active") sequence = Math.max(sequence, status.appliedSequence);
    }
    this.#mark = { sequence, atMs: nowMs };
  }

  /**
   * Two replicas whose content differs at the same sequence, which is a proven fault. While releases are exchanged one by one, digests
   * may be of two formats, and only those of the same one are compared.
   */
  diverged(): [ReplicaHandle, ReplicaHandle] | undefined {
    const comparable = new Map<string, ReplicaHandle>();
    for (const replica of this.replicas) {
      const { status } = replica;
      if (status?.state !== "active" && status?.state !== "catching_up") continue;
      const key = `${status.appliedSequence} ${status.digestFormat}`;
      const other = comparable.get(key);
      if (other !== undefined && other.status?.digest !== status.digest) return [other, replica];
      comparable.set(key, replica);
    }
    return undefined;
  }

  /**
   * Asks the best replica; where one cannot answer, the next. Where one does not answer, and is no longer the best (its process stands
   * still, or it is cut off from routers or from its log), another one is asked as well. SHARD_UNAVAILABLE where none can. INTERNAL, such as an error of one
   * node's disk, is passed on when a second replica says so too.
   */
  ask<T>(call: CallContext, request: Request<T>): Promise<T> {
    const queue = this.#ranked();
    const [best] = queue;
    if (queue.length < 2 || best === undefined) return this.#askInTurn(queue, call, request, false);
    return this.#race(queue, { afterMs: hangMs, timed: false, when: () => this.#rank(best) > 0 }, call, request);
  }

  /** Like `ask`, but when the first replica takes longer than this shard's p95, another active one is asked as well; the first answer wins. */
  askHedged<T>(call: CallContext, request: Request<T>): Promise<T> {
    const only = this.#candidates[0];
    if (this.#candidates.length === 1 && only?.node.usable === true) return this.#askOne(only, call, request, false);
    return this.#askBest(call, request);
  }

  async #askBest<T>(call: CallContext, request: Request<T>): Promise<T> {
    const queue = this.#ranked();
    const startMs = this.#clock.monotonicMs();
    const afterMs = Math.max(hedgeFloorMs, this.#latency.p95Ms);
    // Who may be asked as well is looked at when the time has come: the states of replicas are heard of meanwhile.
    const answer = await (queue.length > 1
      ? this.#race(queue, { afterMs, timed: true, when: () => true }, call, request)
      : this.#askInTurn(queue, call, request, true));
    this.#latency.add(this.#clock.monotonicMs() - startMs);
    return answer;
  }

  /** Each attempt takes its replica out of the queue, so that none is asked twice. */
  async #askInTurn<T>(queue: ReplicaHandle[], call: CallContext, request: Request<T>, timed: boolean): Promise<T> {
    const cancellation = call.cancellation ?? call.signal;
    let last: KithError | undefined;
    for (let replica = queue.shift(); replica !== undefined; replica = queue.shift()) {
      if (cancellation?.aborted) throw abortReason(cancellation);
      try {
        return await this.#askOne(replica, call, request, timed);
      } catch (error) {
        const isSecond = last?.code === "INTERNAL";
        last = toKithError(error);
        if (last.code === "INTERNAL" && !isSecond) continue;
        if (last.code !== "SHARD_UNAVAILABLE" && last.code !== "SHUTTING_DOWN" && last.code !== "CORRUPT_DATA")
          throw last;
      }
    }
    if (last?.code === "INTERNAL") throw last;
    throw this.#unavailable(last);
  }

  /** The first answer of the queue in turn and, after `afterMs` and `when` that is so, of another active replica beside. */
  async #race<T>(
    queue: ReplicaHandle[],
    { afterMs, timed, when }: { afterMs: number; timed: boolean; when: () => boolean },
    call: CallContext,
    request: Request<T>,
  ): Promise<T> {
    const cancellation = call.cancellation ?? call.signal;
    if (cancellation?.aborted) throw abortReason(cancellation);
    const abort = new AbortController();
    const onAbort = (): void => abort.abort(cancellation?.reason);
    cancellation?.addEventListener("abort", onAbort, { once: true });
    const raced: CallContext = { signal: abort.signal, deadlineMs: call.deadlineMs, trace: call.trace };
    try {
      return await firstAnswer(this.#clock, this.#askInTurn(queue, raced, request, timed), afterMs, () => {
        if (!when()) return undefined;
        const at = queue.findIndex((replica) => this.#rank(replica) === 0);
        const [second] = at < 0 ? [] : queue.splice(at, 1);
        return second && this.#askOne(second, raced, request, timed);
      });
    } finally {
      cancellation?.removeEventListener("abort", onAbort);
      abort.abort();
    }
  }

  async #askOne<T>(replica: ReplicaHandle, call: CallContext, request: Request<T>, timed: boolean): Promise<T> {
    const startMs = timed ? this.#clock.monotonicMs() : 0;
    replica.inFlight++;
    try {
      const answer = await request(replica.node.api, call);
      if (timed) replica.measure(this.#clock.monotonicMs() - startMs, this.#clock.monotonicMs());
      return answer;
    } catch (error) {
      const { code } = toKithError(error);
      const nowMs = this.#clock.monotonicMs();
      if (code === "SHARD_UNAVAILABLE" || code === "SHUTTING_DOWN") replica.avoidUntilMs = nowMs + refusedForMs;
      // One that was given up, because another was faster or the time was over, is at least so slow.
      else if (timed && (code === "CANCELLED" || code === "DEADLINE_EXCEEDED")) {
        replica.measure(Math.max(nowMs - startMs, replica.averageMs ?? 0), nowMs);
      }
      throw error;
    } finally {
      replica.inFlight--;
    }
  }

  #unavailable(cause: KithError | undefined): KithError {
    const nodes = this.replicas
      .map(({ placement: { node, state } }) => (state === "active" ? node : `${node}, ${state}`))
      .join("; ");
    const { shard } = this.id;
    return new KithError(
      "SHARD_UNAVAILABLE",
      `shard ${shard} has no replica that can answer (placed on ${nodes || "no node yet"})${cause ? `: ${reasonOf(cause)}` : ""}; try again, or allow_partial for queries`,
      { details: { shard, nodes }, cause, retryAfterMs: 500 },
    );
  }
}
