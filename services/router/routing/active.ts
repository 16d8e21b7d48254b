import { KithError, withTimeout } from "../../../libs/base/index.js";
import type { ShardApi } from "../../../libs/shard-api/index.js";
import type { ReplicaStatus, ShardId } from "../../../libs/model/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import type { ReplicaHandle } from "./replica-handle.js";
import type { RoutedShard } from "./routed-shard.js";

/** How long a replica may take to say in which state it is. */
const stateTimeoutMs = 1_000;

/**
 * Asks every active replica of the shard; where none is, the best one: what all active replicas have, one has at least.
 * Those that are leaving are neither asked nor waited for, and those that are joining only where `joining` says so: they are waited for once
 * they have caught up, and do not make the call fail. Nor are those that are opened, catch up, are stale or cannot be
 * reached, but they do not become active before they have applied `sequence` (0: whenever).
 */
export async function askActive<T>(
  shard: RoutedShard,
  sequence: number,
  call: CallContext,
  request: (api: ShardApi, call: CallContext) => Promise<T>,
  { joining = false }: { joining?: boolean } = {},
): Promise<[T, ...T[]]> {
  const isPlaced = ({ placement: { state } }: ReplicaHandle): boolean =>
    state === "active" || (joining && state === "joining");
  const usable = shard.replicas.filter((replica) => replica.node.usable && isPlaced(replica));
  const isFit = await Promise.all(usable.map((replica) => isActive(shard, replica, sequence, call)));
  const active = usable.filter((_, i) => isFit[i]);
  const [first, ...others] = active.filter(({ placement }) => placement.state === "active");
  const joined = active.filter(({ placement }) => placement.state === "joining");
  // One that fails here has to catch up again before it becomes active, to what the log holds by then.
  const joins = Promise.allSettled(joined.map(({ node }) => request(node.api, call)));
  const answers: [T, ...T[]] =
    first === undefined
      ? [await shard.ask(call, request)]
      : await Promise.all([request(first.node.api, call), ...others.map(({ node }) => request(node.api, call))]);
  await joins;
  return answers;
}

/** What a replica says of itself. SHARD_UNAVAILABLE where its node has not opened it so far, and knows nothing of what it holds. */
export async function openStatus(api: ShardApi, shard: ShardId, call: CallContext): Promise<ReplicaStatus> {
  const status = await api.status(shard, 0, call);
  if (status.state === "active" || status.digest !== "") return status;
  const why = status.fault === "" ? "" : `: ${status.fault}`;
  throw new KithError("SHARD_UNAVAILABLE", `the replica is ${status.state}${why}`, { retryAfterMs: 200 });
}

/** What the replica says now: the polled state may be that of before a restart. One that does not answer is what it was. */
async function isActive(
  shard: RoutedShard,
  { node, status }: ReplicaHandle,
  sequence: number,
  call: CallContext,
): Promise<boolean> {
  const ask = (signal: AbortSignal): Promise<ReplicaStatus> =>
    node.api.status(shard.id, sequence, { signal, trace: call.trace });
  const now = await withTimeout(shard.runtime.clock, stateTimeoutMs, ask, call.signal).catch(() => status);
  return now?.state === "active";
}
