import type { ReplicaPlacement, ReplicaStatus } from "../../../libs/model/index.js";
import type { ShardApi } from "../../../libs/shard-api/index.js";

/** A node that hosts replicas, as the router reaches it: over the link, or directly in the same process. */
export interface ShardNode {
  readonly id: string;
  readonly zone: string;
  readonly api: ShardApi;
  /** False while the link is down. */
  readonly usable: boolean;
  /** It may be reached, but nobody else hears of it: what it answers may be old. */
  readonly silent?: boolean;
}

/** Weight of one measurement in a replica's average. */
const latencyWeight = 0.2;
/** After this time an average counts half: a replica that was slow is tried again. */
const latencyHalfLifeMs = 5_000;

/** One replica of a shard: what the router knows of it. */
export class ReplicaHandle {
  inFlight = 0;
  /** As it was polled last; undefined where the replica could not be asked. */
  status: ReplicaStatus | undefined;
  /** Monotonic milliseconds until which it is passed over. */
  avoidUntilMs = 0;
  lagging = false;
  /** Moving average of its queries' times; undefined before the first. */
  averageMs: number | undefined;
  #measuredAtMs = 0;

  constructor(
    readonly node: ShardNode,
    /** As the catalog has it now. */
    public placement: ReplicaPlacement,
  ) {}

  measure(ms: number, nowMs: number): void {
    const before = this.averageMs ?? ms;
    this.averageMs = before + Math.max(latencyWeight, 1 - this.#freshness(nowMs)) * (ms - before);
    this.#measuredAtMs = nowMs;
  }

  /** What a query may take: its average, which with age gives way to what is usual for the shard. */
  expectedMs(usualMs: number, nowMs: number): number {
    return usualMs + ((this.averageMs ?? usualMs) - usualMs) * this.#freshness(nowMs);
  }

  #freshness(nowMs: number): number {
    return 2 ** ((this.#measuredAtMs - nowMs) / latencyHalfLifeMs);
  }
}
