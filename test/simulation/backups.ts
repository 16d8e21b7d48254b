import { toKithError } from "../../libs/base/index.js";
import type { OperationRecord } from "../../libs/cluster/index.js";
import type { Model, ModelPoint } from "../../libs/engine/testing.js";
import type { RestoreOrigin } from "../../libs/model/index.js";
import { hashSlotOf } from "../../libs/sharding/index.js";
import { decodeRecord, type pb } from "../../libs/wire/index.js";
import { type Judge, numFromKey, printContent } from "./check.js";
import { Client, idCount } from "./client.js";
import type { SimulatedCluster } from "./cluster.js";
import type { Entry } from "./history.js";
import type { RecordedLog } from "./nats.js";

/** Collections that are made of backups, at most; each is looked at to its last point. */
const restoredMax = 4;
/** What is written to them afterwards has ids from here on, and what they were made of has none of these. */
const laterIds = 1_000;

/** Backups that are made while everything goes on, the collections that are made of them, and what both must hold. */
export class Backups {
  readonly #cluster: SimulatedCluster;
  readonly #client: Client;
  readonly #history: readonly Entry[];
  /** When each was asked for, by its id. */
  readonly #askedMs = new Map<string, number>();
  /** Where the logs of the shards ended when a collection was asked for that has a time's state, by its name. */
  readonly #endsAsked = new Map<string, ReadonlyMap<number, number>>();
  #restoredCount = 0;

  constructor(cluster: SimulatedCluster, history: Entry[]) {
    this.#cluster = cluster;
    this.#history = history;
    this.#client = new Client(cluster, "client-b", history);
  }

  async run(names: readonly string[], spanMs: number): Promise<void> {
    const { world } = this.#cluster;
    const { random } = world;
    for (const endMs = world.nowMs + spanMs; world.nowMs < endMs; await world.sleep(random.float() * 700)) {
      const chance = random.float();
      if (chance < 0.4) await this.#backUp(names[random.below(names.length)] as string);
      else if (chance < 0.7) await this.#restore();
      else await this.#use();
    }
  }

  /** One more of each, when nothing breaks any more. */
  async end(names: readonly string[]): Promise<void> {
    for (const name of names) await this.#backUp(name);
    await this.#settled();
    await this.#restore();
    await this.#settled();
    await this.#use();
  }

  async #backUp(name: string): Promise<void> {
    const { world } = this.#cluster;
    const askedMs = world.nowMs;
    const id = await this.#client.backUp(name, world.random.float() < 0.3);
    if (id !== undefined) this.#askedMs.set(id, askedMs);
  }

  async #restore(): Promise<void> {
    const { world, size } = this.#cluster;
    const { random } = world;
    const backups = (await this.#client.listBackups()) ?? [];
    const backup = backups[random.below(backups.length)];
    if (backup === undefined || this.#restoredCount === restoredMax) return;
    const collection = `r${this.#restoredCount++}`;
    const kind = random.float();
    const ends = kind < 0.6 ? await this.#endsOf(backup) : undefined;
    if (ends !== undefined) this.#endsAsked.set(collection, ends);
    await this.#client.restore({
      ...{ location: "", id: backup.id, collection },
      shardCount: random.float() < 0.5 ? 0 : 1 + random.below(4),
      replicationFactor: 1 + random.below(size.shardNodes),
      until:
        ends &&
        (kind < 0.3
          ? { $case: "sequences", value: { shards: this.#laterSequences(backup, ends) } }
          : { $case: "time", value: await this.#laterTime(backup, ends) }),
    });
  }

  /** Where the logs behind a backup end now; without those of shards that were split, which are gone. */
  async #endsOf({ collectionId, shards }: pb.Backup): Promise<Map<number, number>> {
    const ends = new Map<number, number>();
    for (const { shard } of shards) {
      try {
        ends.set(shard, (await this.#cluster.nats.log.state({ collectionId, shard })).lastSequence);
      } catch (error) {
        toKithError(error);
      }
    }
    return ends;
  }

  /** Some records behind the backup, as far as there are some. */
  #laterSequences({ shards }: pb.Backup, ends: ReadonlyMap<number, number>): Record<number, number> {
    const { random } = this.#cluster.world;
    return Object.fromEntries(
      shards.flatMap(({ shard, sequence }) => {
        const end = ends.get(shard);
        return end === undefined ? [] : [[shard, Math.min(sequence + random.below(4), Math.max(sequence, end))]];
      }),
    );
  }

  /** The time of a record behind the backup, as a router had it; or one within some seconds, which may be still to come. */
  async #laterTime({ collectionId, shards, endedAt }: pb.Backup, ends: ReadonlyMap<number, number>): Promise<Date> {
    const { nats, world } = this.#cluster;
    const { random } = world;
    const endedMs = endedAt?.getTime() ?? 0;
    const { shard, sequence } = shards[random.below(shards.length)] as pb.BackupShard;
    const behind = (ends.get(shard) ?? 0) - sequence;
    if (behind > 0 && random.float() < 0.6) {
      const data = await nats.log
        .read({ collectionId, shard }, sequence + 1 + random.below(behind))
        .catch(() => undefined);
      if (data !== undefined) return new Date(Math.max(endedMs, decodeRecord(data).appendedAtMs));
    }
    return new Date(endedMs + random.below(4_000));
  }

  /** Writes to what is open of the restored. */
  async #use(): Promise<void> {
    const { random } = this.#cluster.world;
    const { collections, restored } = this.#cluster.ledger;
    for (const { id, name, restoring } of collections.values()) {
      if (!restored.has(id) || restoring !== undefined) continue;
      const ids = Array.from({ length: 1 + random.below(3) }, () => laterIds + random.below(idCount));
      await this.#client.write(name, this.#client.planUpsert([...new Set(ids)], name));
      await this.#client.read(name);
    }
  }

  async #settled(): Promise<void> {
    const { nats, world } = this.#cluster;
    const endMs = world.nowMs + 60_000;
    while (world.nowMs < endMs) {
      const operations = await nats.catalog.list("operations").catch(() => undefined);
      if (operations?.every(({ value }) => !isGoingOn(value)) === true) return;
      await world.sleep(200);
    }
  }

  /** Lists what there is, and where each comes from. To be called before anything is judged. */
  async look(): Promise<void> {
    const { ledger, world } = this.#cluster;
    for (;;) {
      const backups = await this.#client.listBackups();
      if (backups === undefined) {
        await world.sleep(500);
        continue;
      }
      for (const backup of backups) ledger.backups.set(backup.id, backup);
      return;
    }
  }

  /** What is wrong with the backups, and with what was made of them. */
  async compare(judge: Judge): Promise<string[]> {
    const { ledger, nats } = this.#cluster;
    const violations: string[] = [];
    for (const backup of ledger.backups.values()) {
      violations.push(...this.#compareBackup(backup, judge));
      const wrong = await this.#client.verify(backup.id);
      if (wrong !== undefined) violations.push(`the backup ${backup.id} is not sound: ${wrong.message}`);
    }
    for (const { value } of await nats.catalog.list("operations")) {
      const { id, kind, state, error, data } = JSON.parse(value) as OperationRecord;
      const isBackup = kind === "backup_collection" || kind === "restore_collection";
      if (!isBackup || state !== "failed") continue;
      // The logs behind a backup may be trimmed, or those of shards that are gone.
      const mayFail =
        kind === "backup_collection" || (data as { until?: unknown }).until !== undefined
          ? "FAILED_PRECONDITION"
          : undefined;
      if (error?.code !== mayFail) violations.push(`the operation ${id} has failed: ${error?.code}, ${error?.message}`);
    }
    for (const [collectionId, origin] of ledger.restored)
      violations.push(...this.#compareRestored(collectionId, origin, judge));
    return violations;
  }

  /** It has one state of each shard, and all that was acknowledged when it was asked for. */
  #compareBackup({ id, collectionId, shards }: pb.Backup, judge: Judge): string[] {
    const violations: string[] = [];
    for (const { shard, sequence, pointCount, digest } of shards) {
      const name = `the backup ${id} of ${collectionId}/${shard}`;
      const state = judge.pastOf(collectionId, shard)?.between(sequence, sequence)[0];
      if (state === undefined) {
        violations.push(`${name} names the record ${sequence} that never was`);
      } else if (state.points.size !== pointCount || state.digest() !== digest) {
        violations.push(
          `${name} has ${pointCount} points with the digest ${digest} at ${sequence}, and the shard had ${state.points.size} with ${state.digest()}`,
        );
      }
      const askedMs = this.#askedMs.get(id) ?? Number.NEGATIVE_INFINITY;
      for (const entry of this.#history) {
        if (entry.kind !== "write" || entry.outcome !== "ok" || entry.endMs > askedMs) continue;
        if (entry.token?.collectionId !== collectionId) continue;
        const min = judge.sequenceOf(entry.token, shard);
        if (min > sequence)
          violations.push(`${name} is of ${sequence}, and ${entry.key} was acknowledged at ${min} before`);
      }
    }
    return violations;
  }

  /** It has what the shards had at the sequences of its backup, or at those that were asked for, and nothing else. */
  #compareRestored(collectionId: string, { backup: id, until }: RestoreOrigin, judge: Judge): string[] {
    const { ledger } = this.#cluster;
    const record = ledger.collections.get(collectionId);
    const backup = ledger.backups.get(id);
    if (record === undefined || record.restoring !== undefined) return [];
    const name = `the collection "${record.name}" that was made of the backup ${id}`;
    if (backup === undefined) return [`${name}, which is not there`];
    const points = record.shards.flatMap(({ shard, state }) => {
      const past = state === "active" ? judge.pastOf(collectionId, shard) : undefined;
      return past === undefined ? [] : [...past.last.points.values()];
    });
    // What its shards were made of may have other slots: point by point.
    return backup.shards.flatMap((part) => {
      const states = this.#statesOf(part, backup.collectionId, record.name, until, judge);
      const told = printAll(points.filter(({ id: key }) => isIn(part, hashSlotOf(key))));
      const wanted = states.map((state) => printAll(state.points.values()));
      if (wanted.includes(told)) return [];
      return [`${name} has of the shard ${part.shard}\n  ${told}\nand should have\n  ${wanted.join("\nor\n  ")}`];
    });
  }

  /** What a collection may have of a part of its backup: one state; of a time, all records that were there when it was asked for, and perhaps later ones. */
  #statesOf(
    { shard, sequence }: pb.BackupShard,
    collectionId: string,
    restored: string,
    until: RestoreOrigin["until"],
    judge: Judge,
  ): Model[] {
    const { logs } = this.#cluster.ledger;
    const past = judge.pastOf(collectionId, shard);
    if (past === undefined) return [];
    if (until === undefined || "sequences" in until) {
      const at = until?.sequences[shard] ?? sequence;
      return past.between(at, at);
    }
    const { records, afterSequence } = logs.get(`${collectionId}/${shard}`) as RecordedLog;
    const isLater = (data: Uint8Array, i: number): boolean =>
      afterSequence + 1 + i > sequence && decodeRecord(data).appendedAtMs > until.timeMs;
    const later = records.findIndex(isLater);
    const last = afterSequence + (later === -1 ? records.length : later);
    const asked = this.#endsAsked.get(restored)?.get(shard) ?? sequence;
    return past.between(Math.min(last, Math.max(sequence, asked)), last);
  }
}

function isIn({ firstSlot, lastSlot }: pb.BackupShard, slot: number): boolean {
  return firstSlot <= slot && slot <= lastSlot;
}

function isGoingOn(operation: string): boolean {
  const { state } = JSON.parse(operation) as OperationRecord;
  return state === "running" || state === "cancelling";
}

/** Without versions: what goes through the logs has new ones. */
function printAll(points: Iterable<ModelPoint>): string {
  const all = [...points].map((point): [number, ModelPoint] => [numFromKey(point.id), point]);
  const own = all.filter(([id]) => id < laterIds).sort(([a], [b]) => a - b);
  return own.map(([id, point]) => `${id}: ${printContent(point)}`).join("\n  ");
}
