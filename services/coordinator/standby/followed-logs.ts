import { type Runtime, sleep, withTimeout } from "../../../libs/base/index.js";
import type { CollectionsView, FollowedLog } from "../../../libs/cluster/index.js";
import type { Log } from "../../../libs/log/index.js";
import type { ReplicaStatus, ShardId, ShardPlacement } from "../../../libs/model/index.js";
import { type GaugeReport, type Logger, registerGauge } from "../../../libs/telemetry/index.js";
import { LogMirror } from "./log-mirror.js";
import { followedIn, shownState } from "./mirrored.js";

/** Asks a node for the state of its replica of a shard; rejects where it has none or does not answer. */
export type StatusOf = (node: string, replica: ShardId) => Promise<ReplicaStatus>;

export interface FollowedLogsOptions extends Runtime {
  collections: CollectionsView;
  /** This cluster's log, as it is stored. */
  stored: Log;
  statusOf: StatusOf;
  logger: Logger;
}

interface Followed {
  name: ShardId;
  collection: string;
  mirror: LogMirror;
}

/** How often the ends of the primary's logs are looked at, at most; and the same, of each log. */
const endsEveryMs = 1_000;
const endsEveryMsOfLog = 5;
const looksMax = 8;
/** A promotion waits so long for what the primary still has, where that answers; so long for replicas that are copied from it; and so long for the end of one log. */
const finishMs = 20_000;
const copiedMs = 60_000;
const endTimeoutMs = 5_000;
/** A shard that is to be copied from the primary in the place of one that followed another here. */
const restMs = 3_000;

/** The logs of the primary that are repeated here: one mirror for each, and how far each is. */
export class FollowedLogs {
  readonly #options: FollowedLogsOptions;
  readonly #mirrors = new Map<string, Followed>();
  /** Shards with a replica that has been whole. */
  readonly #whole = new Set<string>();
  readonly #resting = new Map<string, number>();
  readonly #stopGauges: (() => void)[];
  #endsMs = Number.NEGATIVE_INFINITY;
  #isMatched = false;

  constructor(options: FollowedLogsOptions) {
    this.#options = options;
    this.#stopGauges = [
      this.#gauge("kith.standby.lag", ({ sequence, primarySequence }) => primarySequence - sequence),
      this.#gauge("kith.standby.lag.time", ({ lagMs }) => lagMs && lagMs / 1_000),
    ];
  }

  /** Whether there is a mirror for each log: not before this coordinator has seen the primary. */
  get isMatched(): boolean {
    return this.#isMatched;
  }

  /** How far each log is, with the number of the last record that is here. */
  get places(): (ShardId & { sequence: number })[] {
    return [...this.#mirrors.values()].map(({ name, mirror }) => ({ ...name, sequence: mirror.sequence }));
  }

  /** One mirror for each log that is to be repeated now. */
  async match(theirs: Log): Promise<void> {
    const { collections, stored, clock, random, logger } = this.#options;
    const wanted = new Map<string, { name: ShardId; collection: string }>();
    for (const record of collections.values()) {
      if (record.state !== "ready") continue;
      for (const shard of record.shards) {
        const name = { collectionId: record.id, shard: shard.shard };
        const parent = followedIn(shard, record.shards);
        // What was written behind the end of another log is not to be had before that end.
        if (
          parent !== undefined &&
          (await stored.sealedAt({ ...name, shard: parent.shard }).catch(() => undefined)) === undefined
        )
          continue;
        if (shard.state !== "sealed") wanted.set(keyOf(name), { name, collection: record.name });
      }
    }
    for (const [key, { mirror }] of this.#mirrors) {
      if (wanted.has(key)) continue;
      this.#mirrors.delete(key);
      await mirror.close();
    }
    for (const [key, { name, collection }] of wanted) {
      if (this.#mirrors.has(key)) continue;
      const fields = { collection, shard: name.shard };
      const mirror = new LogMirror({
        ...{ name, theirs, ours: stored, clock, random },
        onRestart: (reason) => {
          this.#whole.delete(key);
          logger.warn(
            `the log of shard ${name.shard} of "${collection}" is begun again, and its replicas copied: ${reason}`,
            fields,
          );
        },
        onFailure: ({ code, message }) =>
          logger.warn(`the log of shard ${name.shard} of "${collection}" cannot be repeated now: ${message}`, {
            ...fields,
            code,
          }),
      });
      this.#mirrors.set(key, { name, collection, mirror });
    }
    this.#isMatched = true;
  }

  /** Looks where the primary's logs end now: what is not here yet is the lag. */
  async readEnds(log: Log): Promise<void> {
    const { clock } = this.#options;
    const nowMs = clock.monotonicMs();
    if (nowMs - this.#endsMs < Math.max(endsEveryMs, this.#mirrors.size * endsEveryMsOfLog)) return;
    this.#endsMs = nowMs;
    const left = [...this.#mirrors.values()].filter(({ mirror }) => mirror.state === "following");
    const work = async (): Promise<void> => {
      for (let next = left.pop(); next !== undefined; next = left.pop()) {
        const { name, mirror } = next;
        const askedMs = clock.monotonicMs();
        const state = await log.state(name).catch(() => undefined);
        if (state !== undefined) mirror.noteEnd(state.lastSequence, askedMs);
      }
    };
    await Promise.all(Array.from({ length: looksMax }, work));
  }

  /** What is told of each log. */
  async shown(): Promise<FollowedLog[]> {
    const logs: FollowedLog[] = [];
    for (const followed of this.#mirrors.values()) {
      const { name, collection, mirror } = followed;
      const { sequence, primarySequence, lagMs, reason } = mirror;
      logs.push({
        ...name,
        collection,
        state: await this.#stateOf(followed),
        sequence,
        primarySequence,
        ...(lagMs !== undefined && { lagMs }),
        ...(reason !== "" && { reason }),
      });
    }
    return logs;
  }

  /** The primary has no more of this log, although it has not come to its end here. */
  isCutOff(name: ShardId): boolean {
    return this.#mirrors.get(keyOf(name))?.mirror.state === "waiting";
  }

  /** Its log was dropped a moment ago, because it is to be copied from the primary. */
  isResting(name: ShardId): boolean {
    const sinceMs = this.#resting.get(keyOf(name));
    return sinceMs !== undefined && this.#options.clock.monotonicMs() - sinceMs < restMs;
  }

  /** Removes the log of a shard here. */
  async drop(name: ShardId): Promise<void> {
    const key = keyOf(name);
    const known = this.#mirrors.get(key);
    this.#mirrors.delete(key);
    this.#whole.delete(key);
    this.#resting.set(key, this.#options.clock.monotonicMs());
    await known?.mirror.close();
    await this.#options.stored.remove(name);
  }

  /**
   * Waits until all that the primary has now is here, for 20 seconds at most; and where a log was begun again, since the primary has no more of its beginning, for a
   * minute until a replica has been copied: nobody has what it lacks once the primary is followed no more.
   */
  async finish(theirs: Log, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const fromMs = clock.monotonicMs();
    const untilMs = fromMs + finishMs;
    const copied = async (followed: Followed): Promise<void> => {
      while ((await this.#stateOf(followed)) === "copying") {
        if (clock.monotonicMs() > fromMs + copiedMs || signal.aborted || !theirs.available) return;
        await sleep(clock, 100);
      }
    };
    const left = async (followed: Followed): Promise<void> => {
      const { name, mirror } = followed;
      const end = await withTimeout(clock, endTimeoutMs, () => theirs.state(name)).catch(() => undefined);
      // One that waits after an outage goes on by itself.
      const goesOn = (): boolean => mirror.state === "following" || mirror.state === "waiting";
      while (end !== undefined && goesOn() && mirror.sequence < end.lastSequence) {
        if (clock.monotonicMs() > untilMs || signal.aborted) return;
        await sleep(clock, 20);
      }
      if (end !== undefined) await copied(followed);
    };
    await Promise.all([...this.#mirrors.values()].map(left));
  }

  /** Repeats nothing any more, until `match` is called again. */
  async stop(): Promise<void> {
    const all = [...this.#mirrors.values()];
    this.#isMatched = false;
    this.#mirrors.clear();
    await Promise.all(all.map(({ mirror }) => mirror.close()));
  }

  /** Stops, and forgets what it knows of the shards. */
  async forget(): Promise<void> {
    await this.stop();
    this.#whole.clear();
    this.#resting.clear();
  }

  async close(): Promise<void> {
    for (const stop of this.#stopGauges) stop();
    await this.forget();
  }

  #shardOf({ collectionId, shard }: ShardId): ShardPlacement | undefined {
    return this.#options.collections.findById(collectionId)?.shards.find((each) => each.shard === shard);
  }

  async #stateOf({ name, mirror }: Followed): Promise<FollowedLog["state"]> {
    const key = keyOf(name);
    const shard = this.#shardOf(name);
    const isWhole = this.#whole.has(key) || (await this.#noteWhole(key, name, shard));
    return shownState(mirror.state, shard?.state, isWhole);
  }

  async #noteWhole(key: string, name: ShardId, shard: ShardPlacement | undefined): Promise<boolean> {
    const statuses = shard === undefined ? [] : await statusesOf(name, shard, this.#options.statusOf);
    const isWhole = statuses.some(({ state }) => state === "active");
    if (isWhole) this.#whole.add(key);
    return isWhole;
  }

  #gauge(name: Parameters<typeof registerGauge>[0], value: (mirror: LogMirror) => number | undefined): () => void {
    return registerGauge(name, (report: GaugeReport) => {
      for (const { name: shard, collection, mirror } of this.#mirrors.values()) {
        const now = value(mirror);
        if (now !== undefined) report(now, { "kith.collection": collection, "kith.shard": shard.shard });
      }
    });
  }
}

/** What the nodes of a shard tell of it; those that do not answer are left out. */
export async function statusesOf(
  name: ShardId,
  { replicas }: ShardPlacement,
  statusOf: StatusOf,
): Promise<ReplicaStatus[]> {
  const all = await Promise.all(replicas.map(({ node }) => statusOf(node, name).catch(() => undefined)));
  return all.filter((status) => status !== undefined);
}

function keyOf({ collectionId, shard }: ShardId): string {
  return `${collectionId}/${shard}`;
}
