import { type Collection, parseCollection } from "../../libs/model/index.js";
import { decodeRecord } from "../../libs/wire/index.js";
import { Client } from "./client.js";
import { SimulatedCluster } from "./cluster.js";
import { Faults } from "./faults.js";
import type { Entry } from "./history.js";
import { Ledger, natsName } from "./nats.js";

/** Longest that a healed standby may take to be promoted, in virtual time. */
const promoteMs = 240_000;
/** A promotion in the middle of faults is given up after so long: what is copied may need the primary. */
const hurriedMs = 20_000;
/** With no coordinator a promotion is asked for so long. */
const refusedMs = 3_000;

/** A cluster that follows another one, with faults and clients of its own, and takes its place. */
export class Standby {
  readonly cluster: SimulatedCluster;
  readonly history: Entry[] = [];
  readonly client: Client;
  readonly #primary: SimulatedCluster;
  readonly #label: string;
  readonly #isCalm: boolean;
  readonly #faults: Faults;
  #names: readonly string[] = [];
  /** Where each log ended when it was promoted. */
  #ends: Map<string, number> | undefined;

  constructor(primary: SimulatedCluster, label: string, isCalm: boolean) {
    const { world } = primary;
    const { random } = world;
    const size = {
      shardNodes: 1 + random.below(2),
      routers: 1,
      coordinators: 1 + random.below(2),
      duplicateCount: random.float() < 0.3 ? 2 : 65_536,
    };
    this.#primary = primary;
    this.#label = label;
    this.#isCalm = isCalm;
    this.cluster = new SimulatedCluster(world, size, primary.planted, primary, label);
    this.cluster.isFollowed = true;
    this.#faults = new Faults(this.cluster, isCalm);
    this.client = new Client(this.cluster, `client-${label}0`, this.history);
  }

  /** One that follows this one: its nodes have other names. */
  follower(): Standby {
    return new Standby(this.cluster, `${String.fromCharCode(this.#label.charCodeAt(0) + 1)}-`, this.#isCalm);
  }

  /** Follows while clients ask it, and what is between the clusters breaks now and then; in a hurry it is promoted in the middle of it. */
  async run(names: readonly string[], spanMs: number, isHurried: boolean): Promise<void> {
    const { cluster } = this;
    const { world } = cluster;
    const { random } = world;
    this.#names = names;
    await cluster.nats.start();
    for (const name of cluster.names()) cluster.start(name);
    this.#faults.schedule(random.below(5), spanMs);
    if (random.float() < 0.4) world.after(random.float() * spanMs, () => this.#cutOff());
    const asking = new Client(cluster, `client-${this.#label}r`, this.history);
    const working = names.length === 0 ? undefined : asking.run(names, 300);
    await world.sleep(random.float() * spanMs);
    asking.stop();
    await working;
    if (!isHurried) return;
    if (random.float() < 0.5) this.#primary.nats.kill(random.float() < 0.5);
    await this.#promote(hurriedMs);
  }

  /** Clients that read and write, for so long. */
  async work(spanMs: number): Promise<void> {
    const { world } = this.cluster;
    if (this.#names.length === 0) return;
    const clients = [1, 2].map((i) => new Client(this.cluster, `client-${this.#label}${i}`, this.history));
    this.#faults.schedule(world.random.below(4), spanMs);
    const working = clients.map((client) => client.run(this.#names, 150));
    await world.sleep(spanMs);
    for (const client of clients) client.stop();
    await Promise.all(working);
  }

  heal(): Promise<void> {
    return this.#faults.heal();
  }

  /** Takes the place of a primary that is well and that nobody writes to; false where it was promoted before. */
  async takeOver(): Promise<boolean> {
    if (this.#ends !== undefined) return false;
    const phase = await this.#phase();
    const isFollowing = phase !== "promoting" && phase !== "promoted";
    if (isFollowing && this.#primary.primary === undefined && this.cluster.world.random.float() < 0.5)
      await this.#changeUnseen();
    if (!(await this.#promote(promoteMs)))
      throw new Error(`the standby was not promoted within ${promoteMs / 1_000} s`);
    return isFollowing;
  }

  /** Its coordinators are dead while a collection is made in the primary and another one deleted, and come back when its promotion has been asked for. */
  async #changeUnseen(): Promise<void> {
    const { cluster } = this;
    const { world } = cluster;
    const coordinators = cluster.names("coordinator");
    for (const name of coordinators) cluster.kill(name, false);
    const there = new Client(this.#primary, "client-u", []);
    await there.create("u", 1 + world.random.below(2), 1);
    await there.write("u", there.planUpsert([1, 2, 3, 4], "u"), { attempts: 10 });
    await there.drop("x");
    await this.#primary.ledger.read(this.#primary.nats.log);
    // It is refused where something was being copied.
    for (const endMs = world.nowMs + refusedMs; world.nowMs < endMs && !(await this.client.promote()); )
      await world.sleep(300);
    for (const name of coordinators) cluster.start(name);
  }

  /** Nothing comes from the primary for some seconds. */
  #cutOff(): void {
    const { world, network } = this.#primary;
    for (const name of this.cluster.names("coordinator")) {
      network.cut(name, natsName);
      network.cut(natsName, name);
    }
    world.after(world.random.float() * 9_000, () => network.heal());
  }

  async #promote(withinMs: number): Promise<boolean> {
    const { world } = this.cluster;
    const endMs = world.nowMs + withinMs;
    while (world.nowMs < endMs) {
      if (await this.client.promote()) break;
      await world.sleep(300);
    }
    while (world.nowMs < endMs) {
      const ends = await this.#endsNow().catch(() => undefined);
      if (ends !== undefined) {
        this.#ends = ends;
        return true;
      }
      await world.sleep(5);
    }
    return false;
  }

  async #present(): Promise<Collection[]> {
    return (await this.cluster.nats.catalog.list("collections")).map(({ value }) => parseCollection(value));
  }

  async #phase(): Promise<string | undefined> {
    const state = await this.cluster.nats.catalog.get("standby.state");
    return state && (JSON.parse(state.value) as { phase: string }).phase;
  }

  /** Where the logs end, when it has been promoted. */
  async #endsNow(): Promise<Map<string, number> | undefined> {
    const { nats } = this.cluster;
    if ((await this.#phase()) !== "promoted") return undefined;
    const ends = new Map<string, number>();
    for (const { id, shards } of await this.#present()) {
      for (const { shard } of shards) {
        ends.set(`${id}/${shard}`, (await nats.log.state({ collectionId: id, shard })).lastSequence);
      }
    }
    return ends;
  }

  /** It has the collections that the primary has, and no other ones. */
  async #compareCollections(present: readonly Collection[]): Promise<string[]> {
    const theirs = (await this.#primary.nats.catalog.list("collections")).map(({ value }) => parseCollection(value));
    const isIn = ({ id }: Collection, others: readonly Collection[]): boolean => others.some((each) => each.id === id);
    const missing = theirs.filter((each) => each.state === "ready" && !isIn(each, present));
    const left = present.filter((each) => each.state === "ready" && !isIn(each, theirs));
    return [
      ...missing.map(({ name }) => `the standby lacks the collection "${name}" of its primary`),
      ...left.map(({ name }) => `the standby has a collection "${name}" that its primary has deleted`),
    ];
  }

  /**
   * What it has, by which its answers are judged, and what is wrong with it: each log is that of the primary, record by record, up to where it was promoted,
   * and then its own. `isWhole`: all that the primary has must be here.
   */
  async compare(primary: Ledger, isWhole: boolean): Promise<{ ledger: Ledger; violations: string[] }> {
    const { log } = this.cluster.nats;
    const ledger = new Ledger();
    const violations: string[] = [];
    const present = await this.#present();
    if (isWhole) violations.push(...(await this.#compareCollections(present)));
    for (const record of present) {
      ledger.noteCollection(record);
      for (const { shard } of record.shards) {
        const name = { collectionId: record.id, shard };
        const key = `${record.id}/${shard}`;
        const theirs = primary.logs.get(key);
        if (theirs === undefined) {
          violations.push(`the standby has a log ${key}, and its primary never had one`);
          continue;
        }
        const { firstSequence, lastSequence } = await log.state(name);
        const first = theirs.afterSequence + 1;
        const theirEnd = theirs.afterSequence + theirs.records.length;
        const promotedEnd = this.#ends?.get(key) ?? lastSequence;
        const records: Uint8Array[] = [];
        let isOwn = false;
        for (let sequence = first; sequence <= lastSequence; sequence++) {
          const their = theirs.records[sequence - first];
          const data = sequence < firstSequence ? their : await log.read(name, sequence);
          if (data === undefined) {
            violations.push(`the standby's log ${key} lacks the record ${sequence}`);
            break;
          }
          records.push(data);
          if (!isOwn && (their === undefined || !Buffer.from(data).equals(their))) {
            isOwn = true;
            if (isWhole && sequence <= theirEnd) {
              violations.push(
                `the standby's log ${key} was promoted at ${sequence}, and its primary's ended at ${theirEnd}`,
              );
            }
          }
          if (isOwn && sequence <= promotedEnd && decodeRecord(data).operations.length > 0) {
            violations.push(
              `the standby's log ${key} has a record ${sequence} that is not its primary's, from before it was promoted`,
            );
          }
        }
        if (isWhole && lastSequence < theirEnd) {
          violations.push(`the standby's log ${key} ends at ${lastSequence}, and its primary's at ${theirEnd}`);
        }
        ledger.logs.set(key, { name, afterSequence: theirs.afterSequence, records });
      }
    }
    return { ledger, violations };
  }
}
