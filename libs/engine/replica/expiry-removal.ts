import { limits, type Timer, withTimeout } from "../../base/index.js";
import type { Log } from "../../log/index.js";
import type { IdKey } from "../../model/index.js";
import { encodeRecord } from "../../wire/index.js";
import { isWhole } from "../apply/adopt.js";
import type { OpenReplica } from "./open-replica.js";

/** How often it is looked for points that have expired: the highest rate of removals is a record in each period. */
const periodMs = 1_000;
/** Replicas wait by chance, so that mostly one of a shard removes; a removal that comes twice does nothing. */
const delayMaxMs = 4_000;
const pointsMax = 10_000;
const appendTimeoutMs = 5_000;
const noBytes = new Uint8Array(0);

export interface ExpiryRemovalOptions {
  log: Log;
  name: { collectionId: string; shard: number };
  /** Of the collection. */
  epoch: number;
}

/**
 * Removes points that have expired through the shard's log, by their ids and versions: one that was written since stays. Any replica
 * may do it. While the log is away they stay on the disk, and reads pass over them.
 */
export class ExpiryRemoval {
  readonly #replica: OpenReplica;
  readonly #options: ExpiryRemovalOptions;
  readonly #timer: Timer;
  /** By the monotonic clock; undefined while nothing has expired. */
  #dueMs: number | undefined;
  /** Of the last removal: the next waits for it. */
  #sequence = 0;
  #isBusy = false;

  constructor(replica: OpenReplica, options: ExpiryRemovalOptions) {
    this.#replica = replica;
    this.#options = options;
    this.#timer = replica.context.clock.every(() => void this.#check(), periodMs).unref();
  }

  close(): void {
    this.#timer.close();
  }

  async #check(): Promise<void> {
    const { expiries, stopped, appliedSequence, context, identity, sealedAt, adoption } = this.#replica;
    // Those who follow another shard's log have that shard's replicas do it.
    if (identity.follows !== undefined || sealedAt !== undefined) return;
    if (adoption !== undefined && !isWhole(adoption)) return;
    if (this.#isBusy || stopped.aborted || appliedSequence < this.#sequence) return;
    if (expiries.over.size === 0) {
      this.#dueMs = undefined;
      return;
    }
    const { clock, random } = context;
    this.#dueMs ??= clock.monotonicMs() + random.float() * delayMaxMs;
    if (clock.monotonicMs() < this.#dueMs) return;
    this.#isBusy = true;
    try {
      await this.#remove();
    } catch {
      // The log is away, or the replica ends: the points are there to be removed later.
      this.#dueMs = clock.monotonicMs() + delayMaxMs * (1 + random.float());
    } finally {
      this.#isBusy = false;
    }
  }

  async #remove(): Promise<void> {
    const { expiries, slots, context, stopped } = this.#replica;
    const { clock, random } = context;
    const ids: IdKey[] = [];
    const expectedVersions: number[] = [];
    let sizeBytes = 0;
    for (const slot of expiries.over) {
      const id = slots.idOf(slot);
      sizeBytes += id.length + 12;
      if (ids.length === pointsMax || sizeBytes > limits.recordBytes) break;
      ids.push(id);
      expectedVersions.push(slots.versionOf(slot));
    }
    const target = { ids, filter: noBytes, expectedVersions, onlyIf: noBytes };
    const record = encodeRecord({
      epoch: this.#options.epoch,
      appendedAtMs: clock.nowMs(),
      operations: [
        { operationId: random.bytes(16), traceparent: "", mutation: { $case: "remove", value: { target } } },
      ],
    });
    const { log, name } = this.#options;
    const messageId = random.uuid();
    const { sequence } = await withTimeout(
      clock,
      appendTimeoutMs,
      (signal) => log.append(name, record, { messageId, signal }),
      stopped,
    );
    this.#sequence = sequence;
  }
}
