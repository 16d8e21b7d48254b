import { assert, KithError, toKithError, withTimeout } from "../../libs/base/index.js";
import type { CallContext } from "../../libs/call/index.js";
import type { Catalog } from "../../libs/catalog/index.js";
import {
  type BackupCall,
  type BackupJobKind,
  type BackupJobs,
  BackupLocations,
  type BackupResult,
  type BackupWorker,
} from "../../libs/backup/index.js";
import {
  collectionsView,
  FollowersView,
  Lease,
  NodesView,
  Operations,
  SettingsView,
  StandbyView,
} from "../../libs/cluster/index.js";
import type { IndexFactory, ReplicaTuning } from "../../libs/engine/index.js";
import { exactIndexesAnswering } from "../../libs/engine/testing.js";
import { type Log, ReadOnlyLog } from "../../libs/log/index.js";
import type { OperationOutcome, ReplicaStatus, ShardId, Snapshot } from "../../libs/model/index.js";
import type { Handlers } from "../../libs/rpc/server/index.js";
import type { ReadAnswer, ReadKind, ReadRequest, ShardApi } from "../../libs/shard-api/index.js";
import { untraced } from "../../libs/telemetry/index.js";
import type { pb } from "../../libs/wire/index.js";
import { Coordinator, type PrimaryCluster } from "../../services/coordinator/index.js";
import { Heartbeat } from "../../services/node/index.js";
import { Router, type ShardNode } from "../../services/router/index.js";
import { restoredFiles, ShardBackups, ShardHost } from "../../services/shard/index.js";
import { Disk, Mount } from "./disk.js";
import { mount } from "./files.js";
import { FollowersLedger, Ledger, Nats, SimulatedCatalog, SimulatedLog } from "./nats.js";
import { type Broken, Network } from "./network.js";
import { Process, type World } from "./world.js";

/** Where a fault is planted: between a part of Kith and what it uses. The product knows nothing of it. */
export interface Planted {
  log?(log: Log, process: Process, role: Role): Log;
  catalog?(catalog: Catalog, process: Process, role: Role): Catalog;
  indexes?(indexes: IndexFactory, process: Process): IndexFactory;
  /** Called before a node starts on its disk. */
  disk?(disk: Disk, name: string): void;
  lease?(lease: Lease): Lease;
  /** What is backed up of a shard node. */
  backedUp?(replicas: BackedUp): BackedUp;
  /** What a shard node does for backups. */
  backups?(worker: BackupWorker): BackupWorker;
}

export type BackedUp = ConstructorParameters<typeof ShardBackups>[0]["replicas"];

export type Role = "shard" | "router" | "coordinator";

export interface ClusterSize {
  shardNodes: number;
  routers: number;
  coordinators: number;
  /** Message ids that the log remembers. */
  duplicateCount: number;
}

export interface RouterApi {
  collections: Handlers<typeof pb.CollectionsService>;
  points: Handlers<typeof pb.PointsService>;
  cluster: Handlers<typeof pb.ClusterService>;
  backups: Handlers<typeof pb.BackupsService>;
}

/** One node: a disk and, while it is up, a process with what runs in it. */
interface Node {
  readonly name: string;
  readonly role: Role;
  readonly disk: Disk;
  process: Process | undefined;
  wallOffsetMs: number;
}

/** Searches take up to so long. */
const searchMs = 2;

/** Thresholds at which short histories meet all that a replica does. */
const tuning: Partial<ReplicaTuning> = {
  checkpointRows: 8,
  checkpointShare: 0.1,
  checkpointRowsOnClose: 1,
  deadShare: 0.25,
  deadRows: 6,
  batchPoints: 4,
  payloadCacheBytes: 400,
};

/** How long a coordinator waits for what a replica says of itself. */
const statusMs = 2_000;

/** How long a standby waits for its primary's catalog. */
const openMs = 5_000;

const shardBroken: Broken = (why) => new KithError("SHARD_UNAVAILABLE", why, { retryAfterMs: 200 });

/** A whole cluster in one world: shard nodes, routers, coordinators, and NATS. */
export class SimulatedCluster {
  readonly network: Network;
  readonly nats: Nats;
  readonly natsDisk: Disk;
  /** That all nodes see. */
  readonly backupDisk: Disk;
  readonly ledger: Ledger;
  /** Another cluster may follow it: its coordinators look how far that one is. To be set before they start. */
  isFollowed = false;
  readonly nodes = new Map<string, Node>();
  readonly hosts = new Map<Process, ShardHost>();
  readonly #workers = new Map<Process, BackupWorker>();
  readonly #routers = new Map<Process, RouterApi>();

  constructor(
    readonly world: World,
    readonly size: ClusterSize,
    readonly planted: Planted = {},
    /** The cluster that it follows, and how the names of its own nodes begin then. */
    readonly primary?: SimulatedCluster,
    label = "",
  ) {
    this.network = new Network(world);
    this.ledger = primary === undefined ? new Ledger() : new FollowersLedger();
    this.natsDisk = new Disk(world);
    this.backupDisk = new Disk(world);
    planted.disk?.(this.natsDisk, "nats");
    this.nats = new Nats(world, this.network, this.natsDisk, this.ledger, size.duplicateCount);
    const add = (role: Role, count: number): void => {
      for (let i = 0; i < count; i++) {
        const name = `${label}${role}-${i}`;
        this.nodes.set(name, { name, role, disk: new Disk(world), process: undefined, wallOffsetMs: 0 });
      }
    };
    add("shard", size.shardNodes);
    add("router", size.routers);
    add("coordinator", size.coordinators);
  }

  names(role?: Role): string[] {
    return [...this.nodes.values()].filter((node) => role === undefined || node.role === role).map(({ name }) => name);
  }

  find(name: string): Node {
    const node = this.nodes.get(name);
    assert(node !== undefined, `there is no node ${name}`);
    return node;
  }

  /** The public API of a router, while it is up. */
  routerOf(process: Process): RouterApi {
    const api = this.#routers.get(process);
    if (api === undefined) throw new KithError("SERVER_UNREACHABLE", `${process.name} is not a router that is up`);
    return api;
  }

  /** Starts a node that is down; it comes up in its own time. */
  start(name: string): void {
    const node = this.find(name);
    assert(node.process === undefined, `${name} is up already`);
    const process = new Process(this.world, name, node.wallOffsetMs);
    node.process = process;
    this.world.trace(name, "starts");
    this.#run(node, process).catch((error: unknown) => {
      if (!process.isDead) {
        this.world.trace(name, `could not start: ${toKithError(error).message}`);
        this.kill(name, false);
        this.world.after(1_000, () => {
          if (node.process === undefined) this.start(name);
        });
      }
    });
  }

  /** The process of a node dies; with the power, what was not synced. */
  kill(name: string, losesPower: boolean): void {
    const node = this.find(name);
    const { process } = node;
    if (process === undefined) return;
    node.process = undefined;
    process.kill();
    this.hosts.delete(process);
    this.#workers.delete(process);
    this.#routers.delete(process);
    const lost = losesPower ? node.disk.losePower() : 0;
    this.world.trace(name, losesPower ? `loses its power and ${lost} changes` : "is killed");
  }

  async #run(node: Node, process: Process): Promise<void> {
    const { name, role } = node;
    const { clock, random, logger } = process;
    const { network, nats, planted } = this;
    const connection = { network, nats, process, name };
    // From the beginning, so that NATS can answer.
    network.join(name, process);
    this.primary?.network.join(name, process);
    const ownLog = new SimulatedLog(connection);
    const ownCatalog = new SimulatedCatalog(connection);
    const stored = planted.log?.(ownLog, process, role) ?? ownLog;
    const catalog = planted.catalog?.(ownCatalog, process, role) ?? ownCatalog;
    const standby = this.primary && new StandbyView(catalog, clock, "primary");
    const log = standby === undefined ? stored : new ReadOnlyLog(stored, () => standby.refusal);
    const followers = this.isFollowed && role === "coordinator" ? new FollowersView(catalog, clock) : undefined;
    const collections = collectionsView(catalog);
    const nodes = new NodesView(catalog, clock);
    const operations = new Operations(catalog, clock);
    const settings = new SettingsView(catalog);
    const backups = new BackupLocations({ folder: mount(new Mount(this.backupDisk, process)) }, random);
    await Promise.all([collections.start(), nodes.start(), settings.start(), standby?.start(), followers?.start()]);
    if (role !== "shard") await operations.start();
    const record = {
      id: name,
      linkAddress: role === "shard" ? name : "",
      address: role === "router" ? name : "",
      zone: "",
      roles: [role],
      state: "joining" as const,
      startedAtMs: clock.nowMs(),
      version: "simulated",
      memoryBytes: 0,
      diskFreeBytes: 0,
      heartbeat: 0,
    };
    const heartbeat = new Heartbeat(nodes, clock, record, undefined, logger);
    if (role === "shard") {
      planted.disk?.(node.disk, name);
      // The native index answers when its threads are done, which no seed tells; this one in virtual time.
      const indexes = exactIndexesAnswering(() => this.world.sleep(this.world.random.float() * searchMs, process));
      const data = mount(new Mount(node.disk, process));
      const host = new ShardHost({
        nodeId: name,
        data,
        collections,
        log,
        clock,
        random,
        indexes: planted.indexes?.(indexes, process) ?? indexes,
        logger,
        // One keeps answers, the others do not: nobody may see a difference.
        tuning: { ...tuning, answerCacheBytes: name === "shard-0" ? 4_000 : 0 },
        flushEveryMs: () => settings.current.replicaFlushMs,
        statusOf: (id, replica) =>
          withTimeout(clock, statusMs, (signal) =>
            new RemoteShards(this, process, name, id).status(replica, 0, { signal, trace: untraced }),
          ),
        compareEveryMs: 1_500,
        verifyEveryMs: 4_000,
        // Files of the machine are read in its own time.
        countHandles: () => Promise.resolve(undefined),
        restoredFiles: restoredFiles(backups),
        fetchSnapshot: (from, replica, wanted, signal, address) => {
          const holder = address === undefined ? this : this.primary;
          assert(holder !== undefined, "there is no other cluster");
          return holder.#fetchSnapshot(process, name, from, replica, wanted, signal);
        },
      });
      await host.start();
      this.hosts.set(process, host);
      const replicas = planted.backedUp?.(host) ?? host;
      const folder = `${data}/backups`;
      const worker = new ShardBackups({ locations: backups, log, clock, random, replicas, folder });
      this.#workers.set(process, planted.backups?.(worker) ?? worker);
      await heartbeat.tell({});
      await host.settled();
    } else if (role === "router") {
      const api: Partial<RouterApi> = {};
      const router = new Router({
        cluster: "simulated",
        version: "simulated",
        nodeId: name,
        zone: "",
        defaultReplicationFactor: 1,
        slowQueryMs: () => 0,
        logKind: "jetstream",
        log,
        catalog,
        collections,
        operations,
        settings,
        backups,
        ...(standby && { standby }),
        nodes,
        findNode: (id) => this.#shardNode(process, name, id, nodes),
        clock,
        random,
        logger,
      });
      router.serve({
        unsentBytes: 0,
        addService: (definition, handlers) => {
          const methods = Object.keys(definition);
          if (methods.includes("upsert")) api.points = handlers as unknown as RouterApi["points"];
          if (methods.includes("waitIndexed")) api.collections = handlers as unknown as RouterApi["collections"];
          if (methods.includes("verify")) api.backups = handlers as unknown as RouterApi["backups"];
          if (methods.includes("moveReplica")) api.cluster = handlers as unknown as RouterApi["cluster"];
        },
      });
      this.#routers.set(process, api as RouterApi);
    } else {
      const own = new Lease(catalog, name, clock);
      const lease = planted.lease?.(own) ?? own;
      const coordinator = new Coordinator({
        ...{ lease, collections, operations, nodes, settings, log, clock, random, logger },
        ...(followers && { followers }),
        ...(standby && {
          standby: {
            ...{ view: standby, primary: "primary", cluster: "standby", stored, log: stored },
            open: () => this.#openPrimary(process, name),
          },
        }),
        reshardingPace: { everyMs: 400, holdOffMs: 200 },
        backups: {
          locations: backups,
          run: <K extends BackupJobKind>(id: string, job: BackupJobs[K]["job"] & { kind: K }, call: BackupCall) =>
            this.#runWork<K>(process, name, id, job, call),
        },
        statusOf: (id, replica) =>
          withTimeout(clock, statusMs, (signal) =>
            new RemoteShards(this, process, name, id).status(replica, 0, { signal, trace: untraced }),
          ),
        trialOf: (id, replica, request, signal) =>
          new RemoteShards(this, process, name, id).read(
            "trial",
            replica,
            { ...request, minSequence: 0 },
            { signal, trace: untraced },
          ),
      });
      coordinator.start();
    }
    await heartbeat.tell({ state: "up" });
    this.world.trace(name, "is up");
  }

  /** As a node connects to its primary's NATS. */
  async #openPrimary(process: Process, name: string): Promise<PrimaryCluster> {
    assert(this.primary !== undefined, "it follows no other cluster");
    const { network, nats } = this.primary;
    const { clock } = process;
    const there = { network, nats, process, name };
    const log = new SimulatedLog(there);
    const catalog = new SimulatedCatalog(there);
    const collections = collectionsView(catalog);
    const nodes = new NodesView(catalog, clock);
    const operations = new Operations(catalog, clock);
    const followers = new FollowersView(catalog, clock);
    const views = [collections, nodes, operations, followers];
    const close = async (): Promise<void> => {
      for (const view of views) await view.close();
    };
    const started = Promise.all(views.map((view) => view.start()));
    await withTimeout(clock, openMs, () => started);
    return { collections, nodes, operations, followers, log, close };
  }

  #shardNode(process: Process, name: string, id: string, nodes: NodesView): ShardNode {
    const { network } = this;
    return {
      id,
      zone: "",
      api: new RemoteShards(this, process, name, id),
      get usable() {
        return nodes.get(id) !== undefined && network.isConnected(name, id);
      },
    };
  }

  /** As a stream to the node, which does not come twice. */
  #runWork<K extends BackupJobKind>(
    process: Process,
    name: string,
    id: string,
    job: BackupJobs[K]["job"] & { kind: K },
    call: BackupCall,
  ): Promise<BackupResult<K>> {
    const { network } = this;
    let work: Promise<BackupResult<K>> | undefined;
    return network.call(process, name, id, call, shardBroken, async (peer, { signal = call.signal }) => {
      const onProgress: BackupCall["onProgress"] = (done) => network.send(peer, id, name, () => call.onProgress(done));
      work ??= this.#workerOf(peer).run<K>(job, { signal, onProgress });
      return work;
    });
  }

  #workerOf(process: Process): BackupWorker {
    const worker = this.#workers.get(process);
    if (worker === undefined) throw shardBroken(`${process.name} is still starting`);
    return worker;
  }

  async #fetchSnapshot(
    process: Process,
    name: string,
    from: string,
    replica: ShardId,
    wanted: Parameters<ShardHost["snapshot"]>[1],
    signal: AbortSignal,
  ): Promise<Snapshot> {
    const ask = <T>(request: (host: ShardHost) => Promise<T>): Promise<T> =>
      this.network.call(process, name, from, { signal }, shardBroken, async (peer) => request(this.hostOf(peer)));
    const snapshot = await ask((host) => host.snapshot(replica, wanted));
    async function* crossing<T>(parts: AsyncIterable<T>): AsyncGenerator<T> {
      const iterator = parts[Symbol.asyncIterator]();
      for (;;) {
        const next = await ask(() => iterator.next());
        if (next.done === true) return;
        yield next.value;
      }
    }
    const { manifest, chunks, blocks } = snapshot;
    return {
      ...{ manifest, chunks: crossing(chunks), close: () => snapshot.close() },
      ...(blocks && { blocks: crossing(blocks) }),
    };
  }

  hostOf(process: Process): ShardHost {
    const host = this.hosts.get(process);
    if (host === undefined) throw shardBroken(`${process.name} is still starting`);
    return host;
  }
}

/** The replicas of another node, over the simulated network. */
class RemoteShards implements ShardApi {
  readonly #cluster: SimulatedCluster;
  readonly #process: Process;
  readonly #name: string;
  readonly #node: string;

  constructor(cluster: SimulatedCluster, process: Process, name: string, node: string) {
    this.#cluster = cluster;
    this.#process = process;
    this.#name = name;
    this.#node = node;
  }

  read<K extends ReadKind>(
    kind: K,
    replica: ShardId,
    request: ReadRequest<K>,
    call: CallContext,
  ): Promise<ReadAnswer<K>> {
    return this.#ask(call, (host, inner) => host.read(kind, replica, request, inner));
  }

  wait(
    replica: ShardId,
    sequence: number,
    operationIds: readonly Uint8Array[],
    call: CallContext,
  ): Promise<OperationOutcome[]> {
    return this.#ask(call, (host, inner) => host.wait(replica, sequence, operationIds, inner));
  }

  waitIndexed(replica: ShardId, call: CallContext): Promise<number> {
    return this.#ask(call, (host, inner) => host.waitIndexed(replica, inner));
  }

  status(replica: ShardId, minSequence: number, call: CallContext): Promise<ReplicaStatus> {
    return this.#ask(call, (host, inner) => host.status(replica, minSequence, inner));
  }

  #ask<T>(call: CallContext, ask: (host: ShardHost, call: CallContext) => Promise<T>): Promise<T> {
    const { network } = this.#cluster;
    return network.call(this.#process, this.#name, this.#node, call, shardBroken, async (process, inner) =>
      ask(this.#cluster.hostOf(process), inner),
    );
  }
}
