import { KithError } from "../../../libs/base/index.js";
import type { FollowedLog, StandbyView } from "../../../libs/cluster/index.js";
import type { pb } from "../../../libs/wire/index.js";

/** So many shards are named where a promotion is refused. */
const namedMax = 8;

/** Following another cluster, as the Cluster service shows and ends it. */
export class StandbyApi {
  readonly #view: StandbyView | undefined;

  constructor(view: StandbyView | undefined) {
    this.#view = view;
  }

  get(): pb.GetStandbyResponse {
    return { standby: this.#standby() };
  }

  /** FAILED_PRECONDITION where this cluster follows none, or has shards that are not whole yet and `force` is not given. */
  async promote({ force }: pb.PromoteStandbyRequest): Promise<pb.PromoteStandbyResponse> {
    const view = this.#view;
    if (view?.primary === undefined) throw followsNone();
    if (view.state?.phase === "following" && !force) this.#checkWhole(view);
    await view.promote();
    return { standby: this.#standby() };
  }

  #checkWhole({ progress }: StandbyView): void {
    const copying = progress?.logs.filter(({ state }) => state === "copying") ?? [];
    if (progress !== undefined && copying.length === 0) return;
    const named = copying.slice(0, namedMax).map(({ collection, shard }) => `shard ${shard} of "${collection}"`);
    const what =
      progress === undefined
        ? "it is not known yet what this cluster has"
        : `this cluster has no whole replica yet of ${named.join(", ")}${copying.length > namedMax ? " …" : ""}`;
    throw new KithError(
      "FAILED_PRECONDITION",
      `${what}: wait until it is copied; where the primary is lost, promote with force, and restore what is missing from a backup`,
      { details: { shards: copying.length } },
    );
  }

  #standby(): pb.Standby | undefined {
    const { state, progress, primary } = this.#view ?? {};
    if (primary === undefined) return undefined;
    const logs = state?.phase === "promoted" ? [] : (progress?.logs ?? []);
    const lags = logs.map(({ lagMs }) => lagMs);
    return {
      primary,
      phase: state?.phase ?? "following",
      since: state && new Date(state.sinceMs),
      reachable: progress?.isReachable ?? false,
      reason: progress?.reason ?? "",
      orphans: progress?.orphans ?? [],
      toldAt: progress && new Date(progress.atMs),
      lag: logs.reduce((sum, log) => sum + lagOf(log), 0),
      lagMs: logs.length > 0 && lags.every((each) => each !== undefined) ? Math.round(Math.max(...lags)) : undefined,
      logs: logs.map((log) => ({
        collection: log.collection,
        shard: log.shard,
        state: log.state,
        sequence: log.sequence,
        primarySequence: log.primarySequence,
        lag: lagOf(log),
        lagMs: log.lagMs === undefined ? undefined : Math.round(log.lagMs),
        reason: log.reason ?? "",
      })),
    };
  }
}

function lagOf({ sequence, primarySequence }: FollowedLog): number {
  return Math.max(0, primarySequence - sequence);
}

function followsNone(): KithError {
  return new KithError("FAILED_PRECONDITION", "this cluster follows no other one: there is nothing to promote");
}
