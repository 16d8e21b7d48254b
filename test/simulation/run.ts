// First, before what it replaces is taken.
import "./compression.js";
import { toKithError } from "../../libs/base/index.js";
import { openEmbeddedCatalog } from "../../libs/catalog/index.js";
import type { OperationRecord } from "../../libs/cluster/index.js";
import { type Collection, compareIds, parseCollection, type ReplicaStatus } from "../../libs/model/index.js";
import { openEmbeddedLog } from "../../libs/log/index.js";
import { untraced } from "../../libs/telemetry/index.js";
import {
  areNearest,
  type Found,
  Judge,
  nearest,
  numFromKey,
  printFound,
  printModelPoint,
  printPoint,
} from "./check.js";
import { Backups } from "./backups.js";
import { Client, idCount } from "./client.js";
import { type ClusterSize, type Planted, SimulatedCluster } from "./cluster.js";
import { Disk, Mount } from "./disk.js";
import { Faults } from "./faults.js";
import { installDisks, mount, unmountAll } from "./files.js";
import type { Entry } from "./history.js";
import { SimulatedLevel } from "./level.js";
import type { Ledger } from "./nats.js";
import { Standby } from "./standby.js";
import { Process, World } from "./world.js";

export interface RunOptions {
  planted?: Planted;
  /** Each line of the trace, as it comes. */
  print?: (line: string) => void;
}

export interface RunResult {
  seed: number;
  /** What cannot be; empty where all is well. */
  violations: string[];
  /** Of all that happened: the same for each run of the seed. */
  hash: string;
  lines: readonly string[];
  virtualMs: number;
  eventCount: number;
  writes: Record<"ok" | "failed" | "unknown", number>;
  readCount: number;
  faults: Partial<Record<string, number>>;
}

/** Longest that a healed cluster may take until all is well, in virtual time. */
const healMs = 240_000;
const bootMs = 60_000;
const trimming = { logRetentionMs: 0, logRetentionBytes: 0, replicaFlushMs: 300 };
/** Results wanted of a search that is to find everything. */
const searchLimit = 100;

/** Loads what is loaded late, so that nothing is waited for that is not in the world. */
async function prepare(): Promise<void> {
  installDisks(SimulatedLevel);
  const world = new World(0);
  const process = new Process(world, "first");
  const path = mount(new Mount(new Disk(world), process));
  const { clock, random } = process;
  const opened = (async () => {
    await openEmbeddedLog({ directory: `${path}/log`, clock, random });
    await openEmbeddedCatalog({ directory: `${path}/catalog`, clock, random });
  })();
  let isOpen = false;
  void opened.then(() => (isOpen = true));
  while (!isOpen) await world.run(() => isOpen, world.nowMs + 1_000);
  await opened;
  unmountAll();
}

let prepared: Promise<void> | undefined;

/** Runs one history of a cluster from its seed, and judges it. */
export async function runSeed(seed: number, options: RunOptions = {}): Promise<RunResult> {
  prepared ??= prepare();
  await prepared;
  // Thousands of errors are made and handled in a run; what is wrong with a program shows in its first lines.
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 4;
  try {
    return await runPrepared(seed, options);
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

async function runPrepared(seed: number, options: RunOptions): Promise<RunResult> {
  const world = new World(seed, options);
  const run = new Run(world, seed, options.planted);
  const ended = run.whole();
  let isOver = false;
  let failure: unknown;
  ended.then(
    () => (isOver = true),
    (error: unknown) => {
      failure = error;
      isOver = true;
    },
  );
  if (!(await world.run(() => isOver, 1_200_000))) run.violations.push("the run did not come to its end");
  if (failure !== undefined) run.violations.push(`the run failed: ${(failure as Error).stack}`);
  unmountAll();
  return {
    seed,
    violations: [...run.cluster.ledger.violations, ...run.violations],
    hash: world.hash,
    lines: world.lines,
    virtualMs: world.nowMs,
    eventCount: world.eventCount,
    writes: run.countWrites(),
    readCount: run.history.filter(({ kind }) => kind === "read").length,
    faults: run.faults.counts,
  };
}

/** Two of five histories merge shards: told by the seed, so that the others are what they were. */
function mergesIn(seed: number): boolean {
  return seed % 5 === 0 || seed % 5 === 4;
}

/** In one of ten the coordinator merges by itself what was split. */
function mergesBySize(seed: number): boolean {
  return seed % 10 === 7;
}

/** In one of five backups are made, and collections of them. */
function isBackedUp(seed: number): boolean {
  return seed % 5 === 1;
}

/** In one of ten another cluster follows the first one, and takes its place. */
function isFollowed(seed: number): boolean {
  return seed % 10 === 3;
}

/** One history: a cluster starts, clients work while faults come, all is healed, and everything is looked at. */
class Run {
  readonly violations: string[] = [];
  readonly history: Entry[] = [];
  readonly cluster: SimulatedCluster;
  readonly faults: Faults;
  readonly #world: World;
  readonly #seed: number;
  readonly #isCalm: boolean;
  /** Nodes that were asked to give their replicas away. */
  readonly #drained = new Set<string>();

  constructor(world: World, seed: number, planted: Planted | undefined) {
    this.#world = world;
    this.#seed = seed;
    const { random } = world;
    const size: ClusterSize = {
      shardNodes: 1 + random.below(3),
      routers: 1 + random.below(2),
      coordinators: 1 + random.below(2),
      // With a window so small, what is published again late comes twice.
      duplicateCount: random.float() < 0.3 ? 2 : 65_536,
    };
    this.cluster = new SimulatedCluster(world, size, planted);
    this.#isCalm = random.float() < 0.35;
    this.faults = new Faults(this.cluster, this.#isCalm);
  }

  countWrites(): RunResult["writes"] {
    const counts = { ok: 0, failed: 0, unknown: 0 };
    for (const entry of this.history) if (entry.kind === "write") counts[entry.outcome]++;
    return counts;
  }

  async whole(): Promise<void> {
    const world = this.#world;
    const { random } = world;
    const { cluster } = this;
    cluster.isFollowed = isFollowed(this.#seed);
    await cluster.nats.start();
    // Logs that are trimmed as soon as may be, and past replicas that are away for a moment.
    const trims = random.float() < 0.4;
    const settings = {
      ...(trims && { ...trimming, logRetentionRecords: 1 + random.below(6), logHoldMs: random.below(4_000) }),
      ...(mergesBySize(this.#seed) && { mergeShardBytes: 2 ** 40 }),
    };
    if (Object.keys(settings).length > 0) {
      await cluster.nats.catalog.create("settings.cluster", JSON.stringify(settings));
    }
    for (const name of cluster.names()) cluster.start(name);
    const clients = Array.from(
      { length: 2 + random.below(2) },
      (_, i) => new Client(cluster, `client-${i}`, this.history),
    );
    const [first] = clients as [Client, ...Client[]];
    const names = random.float() < 0.3 ? ["a", "b"] : ["a"];
    for (const name of names) await this.#create(first, name);
    const spanMs = 1_500 + random.below(5_000);
    this.faults.schedule(random.below(8), spanMs);
    const working = clients.map((client) => client.run(names, 150));
    if (random.float() < 0.4)
      working.push(this.#changeCollections(new Client(cluster, "client-x", this.history), spanMs));
    if (cluster.size.shardNodes > 1 && random.float() < 0.5) {
      working.push(this.#changePlaces(new Client(cluster, "client-m", this.history), spanMs));
    }
    if (mergesIn(this.#seed)) working.push(this.#merge(new Client(cluster, "client-j", this.history), spanMs));
    const splits = random.float() < 0.35 && !isFollowed(this.#seed);
    if (splits || mergesBySize(this.#seed)) {
      working.push(this.#split(new Client(cluster, "client-s", this.history), spanMs));
    }
    const standby = isFollowed(this.#seed) ? new Standby(cluster, "b-", this.#isCalm) : undefined;
    const backups = isBackedUp(this.#seed) ? new Backups(cluster, this.history) : undefined;
    if (backups !== undefined) working.push(backups.run(names, spanMs));
    if (standby !== undefined) working.push(standby.run(names, spanMs, random.float() < 0.5));
    await world.sleep(spanMs);
    for (const client of clients) client.stop();
    await Promise.all(working);
    await this.faults.heal();
    for (const node of this.#drained) while (!(await first.undrain(node))) await world.sleep(500);
    await this.#untilWell();
    await backups?.end(names);
    await this.#probe(first);
    await this.#untilWell();
    await cluster.ledger.read(cluster.nats.log);
    await backups?.look();
    const judge = await this.#judge(cluster, cluster.ledger, this.history);
    if (backups !== undefined) this.violations.push(...(await backups.compare(judge)));
    await this.#goOn(standby, cluster.ledger);
  }

  /** Until the cluster has come up; the names that clients use are there from the beginning. */
  async #create(client: Client, name: string): Promise<void> {
    const { random } = this.#world;
    const shards = 1 + random.below(3);
    const replicas = 1 + random.below(this.cluster.size.shardNodes);
    const endMs = this.#world.nowMs + bootMs;
    while (this.#world.nowMs < endMs) {
      const { outcome } = await client.create(name, shards, replicas);
      if (outcome === "ok") return;
      await this.#world.sleep(500);
    }
    throw new Error(`the collection ${name} could not be created`);
  }

  /** A collection that comes and goes beside the others. */
  async #changeCollections(client: Client, spanMs: number): Promise<void> {
    const world = this.#world;
    const { random } = world;
    const endMs = world.nowMs + spanMs;
    while (world.nowMs < endMs) {
      await client.create("x", 1 + random.below(3), 1 + random.below(this.cluster.size.shardNodes));
      for (let i = random.below(4); i > 0; i--)
        await client.write("x", client.planUpsert([random.below(idCount)], "x"));
      if (random.float() < 0.7) await client.drop("x");
      await world.sleep(random.float() * 2_000);
    }
  }

  /** Replicas that are moved, and nodes that are drained and have replicas again. */
  async #changePlaces(client: Client, spanMs: number): Promise<void> {
    const world = this.#world;
    const { random } = world;
    const { cluster } = this;
    const nodes = cluster.names("shard");
    const oneOf = <T>(items: readonly T[]): T | undefined => items[random.below(items.length)];
    for (const endMs = world.nowMs + spanMs; world.nowMs < endMs; await world.sleep(random.float() * 1_500)) {
      const node = oneOf(nodes) as string;
      if (random.float() < 0.25) {
        if (this.#drained.has(node)) {
          if (await client.undrain(node)) this.#drained.delete(node);
        } else {
          // Also where the answer does not come.
          this.#drained.add(node);
          await client.drain(node);
        }
        continue;
      }
      const record = oneOf([...cluster.ledger.collections.values()]);
      const shard = record && oneOf(record.shards);
      const from = shard && oneOf(shard.replicas)?.node;
      if (record !== undefined && shard !== undefined && from !== undefined && from !== node) {
        await client.move(record.name, shard.shard, from, node);
      }
    }
  }

  /** Shards that are split, and splits that are taken back. */
  async #split(client: Client, spanMs: number): Promise<void> {
    const world = this.#world;
    const { random } = world;
    const { ledger } = this.cluster;
    const oneOf = <T>(items: readonly T[]): T | undefined => items[random.below(items.length)];
    for (const endMs = world.nowMs + spanMs; world.nowMs < endMs; await world.sleep(random.float() * 2_000)) {
      const record = oneOf([...ledger.collections.values()]);
      const active = record?.shards.filter(({ state }) => state === "active") ?? [];
      const shard = oneOf(active);
      if (record === undefined || shard === undefined || active.length > 5) continue;
      const operation = shard.operation;
      if (operation === undefined) await client.split(record.name, shard.shard, 2 + random.below(2));
      else if (random.float() < 0.3) await client.cancel(operation);
    }
  }

  /** Neighbouring shards that are merged, and merges that are taken back. */
  async #merge(client: Client, spanMs: number): Promise<void> {
    const world = this.#world;
    const { random } = world;
    const { ledger } = this.cluster;
    const oneOf = <T>(items: readonly T[]): T | undefined => items[random.below(items.length)];
    for (const endMs = world.nowMs + spanMs; world.nowMs < endMs; await world.sleep(random.float() * 1_000)) {
      const record = oneOf([...ledger.collections.values()]);
      const active = record?.shards.filter(({ state }) => state === "active") ?? [];
      const shards = active.sort((a, b) => a.firstSlot - b.firstSlot).map(({ shard }) => shard);
      const operation = active.find((each) => each.operation?.startsWith("merge-") === true)?.operation;
      if (record === undefined || shards.length < 2) continue;
      const first = random.below(shards.length - 1);
      const count = random.float() < 0.8 ? 2 : 3;
      if (operation === undefined) await client.merge(record.name, shards.slice(first, first + count));
      else if (random.float() < 0.1) await client.cancel(operation);
    }
  }

  /** A standby takes the place of its primary, which is well, unless it has done so before; and in half of them, the primary is empty and follows it then. */
  async #goOn(standby: Standby | undefined, primary: Ledger): Promise<void> {
    if (standby === undefined) return;
    await standby.heal();
    const isPlanned = await standby.takeOver();
    const { cluster, history } = standby;
    const back = this.#world.random.float() < 0.5 ? standby.follower() : undefined;
    await Promise.all([standby.work(2_000), back?.run([], 2_000, false)]);
    await standby.heal();
    await this.#untilWell(cluster);
    await this.#probe(standby.client, cluster);
    await this.#untilWell(cluster);
    const { ledger, violations } = await standby.compare(primary, isPlanned);
    this.violations.push(...violations);
    await this.#judge(cluster, ledger, history);
    await this.#goOn(back, ledger);
  }

  async #present(cluster: SimulatedCluster): Promise<Collection[]> {
    return (await cluster.nats.catalog.list("collections")).map(({ value }) => parseCollection(value));
  }

  /** All replicas are active and have applied all of their logs, and nothing is left to be done. */
  async #untilWell(cluster = this.cluster): Promise<void> {
    const world = this.#world;
    const endMs = world.nowMs + healMs;
    let left = "";
    while (world.nowMs < endMs) {
      left = await this.#unwell(cluster).catch((error: unknown) => toKithError(error).message);
      if (left === "") return;
      await world.sleep(250);
    }
    throw new Error(`${healMs / 1_000} s after all was healed, ${left}`);
  }

  /** What is not as it should be; "" where all is well. */
  async #unwell(cluster: SimulatedCluster): Promise<string> {
    const { nats } = cluster;
    for (const { value } of await nats.catalog.list("operations")) {
      const { id, state, step, error } = JSON.parse(value) as OperationRecord;
      if (state === "running" || state === "cancelling")
        return `the operation ${id} is ${state} at ${step}: ${error?.message ?? ""}`;
    }
    for (const record of await this.#present(cluster)) {
      if (record.state !== "ready") return `the collection "${record.name}" is still ${record.state}`;
      if (record.restoring !== undefined) return `the collection "${record.name}" is still restored`;
      for (const { shard, replicas } of record.shards) {
        const { lastSequence } = await nats.log.state({ collectionId: record.id, shard });
        // A standby may have fewer nodes than its primary has replicas.
        if (replicas.length !== Math.min(record.replicationFactor, cluster.size.shardNodes))
          return `${record.name}/${shard} has ${replicas.length} replicas`;
        for (const { node, state } of replicas) {
          if (state !== "active") return `the replica of ${record.name}/${shard} is ${state} on ${node}`;
          const status = await this.#statusOf(cluster, node, record.id, shard);
          const name = `the replica of ${record.name}/${shard} on ${node}`;
          if (status.state !== "active") return `${name} is ${status.state}: ${status.fault}`;
          if (status.appliedSequence !== lastSequence)
            return `${name} is at ${status.appliedSequence} of ${lastSequence}`;
        }
      }
    }
    return "";
  }

  #statusOf(cluster: SimulatedCluster, node: string, collectionId: string, shard: number): Promise<ReplicaStatus> {
    const { process } = cluster.find(node);
    if (process === undefined) throw new Error(`${node} is down`);
    return cluster.hostOf(process).status({ collectionId, shard }, 0, { trace: untraced });
  }

  /** Every shard takes writes, on all replicas. */
  async #probe(client: Client, cluster = this.cluster): Promise<void> {
    const ids = Array.from({ length: 40 }, (_, i) => 1_000 + i);
    for (const { id, name, state } of await this.#present(cluster)) {
      if (state !== "ready") continue;
      const write = await client.write(name, client.planUpsert(ids, name), { ack: "all", attempts: 10 });
      if (write.outcome === "ok") continue;
      // A deletion of which its client was not told may come only now.
      const isThere = (await this.#present(cluster)).some((record) => record.id === id && record.state === "ready");
      if (isThere) this.violations.push(`the collection "${name}" takes no writes after all was healed`);
    }
  }

  async #judge(cluster: SimulatedCluster, ledger: Ledger, history: readonly Entry[]): Promise<Judge> {
    const judge = new Judge(ledger);
    judge.judge(history);
    if (this.#isCalm) judge.judgeAcknowledgedByAll(history);
    this.violations.push(...judge.violations);
    for (const record of await this.#present(cluster)) {
      for (const { shard, replicas } of record.shards) {
        const model = judge.pastOf(record.id, shard)?.last;
        if (model === undefined) {
          this.violations.push(`nothing is known of the log ${record.name}/${shard}`);
          continue;
        }
        const expected = model.sorted().map((point) => `${numFromKey(point.id)}: ${printModelPoint(point)}`);
        for (const { node } of replicas) {
          const name = `the replica of ${record.name}/${shard} on ${node}`;
          const found = await this.#contentOf(cluster, node, record.id, shard);
          if (found.points.join("\n") !== expected.join("\n")) {
            this.violations.push(
              `${name} holds\n  ${found.points.join("\n  ")}\nand should hold\n  ${expected.join("\n  ")}`,
            );
          }
          if (found.status.digest !== model.digest())
            this.violations.push(`${name} has the digest ${found.status.digest} instead of ${model.digest()}`);
          const vector = Float32Array.of(30, 11);
          const neighbours = nearest([model], vector, "");
          const hits = await this.#search(cluster, node, record.id, shard, vector);
          if (!areNearest(hits, neighbours, searchLimit)) {
            this.violations.push(`${name} finds ${printFound(hits)} and should find ${printFound(neighbours)}`);
          }
        }
      }
    }
    return judge;
  }

  async #contentOf(
    cluster: SimulatedCluster,
    node: string,
    collectionId: string,
    shard: number,
  ): Promise<{ points: string[]; status: ReplicaStatus }> {
    const { process } = cluster.find(node);
    if (process === undefined) throw new Error(`${node} is down`);
    const host = cluster.hostOf(process);
    const select = { payload: true, vectors: "all" as const };
    const page = await host.read(
      "scroll",
      { collectionId, shard },
      { after: undefined, limit: 1_000, select, minSequence: 0 },
      { trace: untraced },
    );
    const points = [...page.points]
      .sort((a, b) => compareIds(a.id, b.id))
      .map(
        ({ id, version, payload, vectors }) =>
          `${numFromKey(id)}: ${printPoint(version, Buffer.from(payload).toString(), vectors?.get(""))}`,
      );
    return { points, status: await this.#statusOf(cluster, node, collectionId, shard) };
  }

  async #search(
    cluster: SimulatedCluster,
    node: string,
    collectionId: string,
    shard: number,
    vector: Float32Array,
  ): Promise<Found[]> {
    const { process } = cluster.find(node);
    if (process === undefined) throw new Error(`${node} is down`);
    const select = { payload: true, vectors: "all" as const };
    const { hits } = await cluster
      .hostOf(process)
      .read(
        "query",
        { collectionId, shard },
        { field: "", vector, k: searchLimit, ef: searchLimit, exact: false, select, minSequence: 0 },
        { trace: untraced },
      );
    return hits.map(({ id, score, version, payload, vectors }) => {
      return {
        id: numFromKey(id),
        score,
        text: printPoint(version, Buffer.from(payload).toString(), vectors?.get("")),
      };
    });
  }
}
