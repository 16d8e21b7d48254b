import {
  type Clock,
  type Deferred,
  deferred,
  KithError,
  sleep,
  toKithError,
  withTimeout,
} from "../../../libs/base/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import type { CollectionsView } from "../../../libs/cluster/index.js";
import type { RoutedCollection } from "./routed-collection.js";

/** How long calls wait for the next map of a collection's shards: longer than a coordinator is waited for that has died. */
const epochWaitMs = 30_000;
/** After so long a replica is asked again that lacks a field. */
const schemaEveryMs = 50;
/** After so long a call is made again all the same. */
const attemptEveryMs = 1_000;

export interface EpochsOptions {
  collections: CollectionsView;
  clock: Clock;
  find: (name: string) => RoutedCollection | undefined;
}

/** Calls that meet the end of a map of shards are made again upon the next one. */
export class Epochs {
  readonly #options: EpochsOptions;
  #changed: Deferred<void> = deferred();

  constructor(options: EpochsOptions) {
    this.#options = options;
  }

  /** To be called when a collection is routed in another way. */
  change(): void {
    this.#changed.resolve();
    this.#changed = deferred();
  }

  /**
   * `attempt` looks its collection up by this name as its first step. Where it fails because hash slots have gone to other shards, it is
   * made again as soon as it is known to which; what it does must be harmless when repeated.
   */
  async retrying<T>(name: string, call: CallContext, attempt: () => Promise<T>): Promise<T> {
    const before = this.#options.find(name);
    try {
      return await attempt();
    } catch (error) {
      return this.retryingAfter(error, before, name, call, attempt);
    }
  }

  /** As `retrying`, behind a first attempt that has failed with `error`. `before`: what the name meant when that began. */
  async retryingAfter<T>(
    error: unknown,
    before: RoutedCollection | undefined,
    name: string,
    call: CallContext,
    attempt: () => Promise<T>,
  ): Promise<T> {
    const { clock, find } = this.#options;
    const endMs = clock.monotonicMs() + epochWaitMs;
    for (;;) {
      if (before === undefined || !(await this.#isWorthwhile(name, before, toKithError(error), call))) throw error;
      if (clock.monotonicMs() >= endMs) throw error;
      before = find(name);
      try {
        return await attempt();
      } catch (next) {
        error = next;
      }
    }
  }

  /** Whether the call is to be made again. Waits for another map than the one with which it has failed, where there must be one. */
  async #isWorthwhile(name: string, before: RoutedCollection, error: KithError, call: CallContext): Promise<boolean> {
    const isOther = (): boolean => {
      const now = this.#options.find(name)?.record;
      return now?.id === before.record.id && now.epoch > before.record.epoch;
    };
    if (error.code === "SHARD_UNAVAILABLE") return isOther();
    const { schemaVersion } = error.details ?? {};
    if (Number(schemaVersion) < before.record.schemaVersion) {
      // The replica has not come to a change yet, which may have brought the field or index that it does not know.
      await sleep(this.#options.clock, schemaEveryMs, call.signal);
      return call.signal?.aborted !== true;
    }
    if (error.code !== "STALE_EPOCH") return false;
    await this.#refuseUnknown(name, error);
    const untilOther = async (signal: AbortSignal): Promise<void> => {
      while (!isOther()) {
        const ended = deferred<void>();
        const end = (): void => ended.resolve();
        signal.addEventListener("abort", end, { once: true });
        await Promise.race([this.#changed.promise, ended.promise]);
        signal.removeEventListener("abort", end);
        if (signal.aborted) return;
      }
    };
    await withTimeout(this.#options.clock, attemptEveryMs, untilOther, call.signal);
    return call.signal?.aborted !== true;
  }

  /** A token may name a shard that this router has not heard of yet, or one that never was. */
  async #refuseUnknown(name: string, { details, message }: KithError): Promise<void> {
    const { unknownShard } = details ?? {};
    const { collections } = this.#options;
    const key = collections.naming.find(name)?.key;
    if (typeof unknownShard !== "number" || key === undefined) return;
    const record = (await collections.read(key))?.value;
    if (record === undefined || unknownShard < record.nextShard) return;
    throw new KithError("INVALID_TOKEN", message, { details: { shard: unknownShard } });
  }
}
