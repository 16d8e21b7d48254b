import { join } from "node:path";
import type { IndexOptions } from "../../libs/ann/index.js";
import { BackupLocations, type BackupWorker } from "../../libs/backup/index.js";
import {
  crc32c,
  deferred,
  heardByMany,
  KithError,
  prepareData,
  systemRuntime,
  withAbort,
  withTimeout,
} from "../../libs/base/index.js";
import {
  collectionsView,
  FollowersView,
  Lease,
  type NodeState,
  NodesView,
  Operations,
  SettingsView,
  StandbyView,
} from "../../libs/cluster/index.js";
import type { NodeConfig, Role } from "../../libs/config/index.js";
import { EncryptedLog, ReadOnlyLog } from "../../libs/log/index.js";
import { createRpcServer, type RpcServer } from "../../libs/rpc/server/index.js";
import { serveBackupWork, serveLink, serveSnapshots } from "../../libs/link/index.js";
import {
  createLogger,
  type Logger,
  type LogRecordSink,
  sampleTraces,
  setupTelemetry,
  type Telemetry,
  untraced,
} from "../../libs/telemetry/index.js";
import type { ShardHost } from "../shard/index.js";
import { openAdapters, openPrimary, untilNatsAnswers } from "./adapters.js";
import { openAuth } from "./auth.js";
import { Closers } from "./closers.js";
import { lockData } from "./data-lock.js";
import { checkCluster, checkData, keepMark, onceTold, openEncryption } from "./encryption.js";
import { Heartbeat } from "./heartbeat.js";
import { Kubernetes } from "./kubernetes.js";
import { NodeLinks } from "./links.js";
import { type Reloadable, Reloader } from "./reload.js";
import { drainSelf, undrainSelf } from "./self-drain.js";
import { shardsFirst } from "./shards-first.js";
import { measureCluster, measureProcess } from "./measurements.js";
import { NodeTls } from "./tls.js";
import { openDoors } from "./doors.js";
import { listen } from "./listen.js";
import { openSecret } from "./secret.js";
import { snapshotsOf } from "./trust.js";
import { backupRunner, backupSettings, backupWorkOf } from "./backups.js";

export interface NodeOptions {
  /** Shown to whoever asks what runs here. */
  version: string;
  /** The process's environment, for the standard OTEL_* variables. */
  env?: Record<string, string | undefined>;
  /** Makes the logger instead of the one that writes to standard error; `onRecord` exports what it is given. */
  logger?: (onRecord: LogRecordSink | undefined, level: () => NodeConfig["logLevel"]) => Logger;
  /** Reads the settings again, as they were read for this start; throws where they are not valid. */
  readConfig?: () => NodeConfig;
  /** Ends the start: what was begun is closed in order, and `startNode` rejects with the signal's reason. */
  signal?: AbortSignal;
}

export interface RunningNode {
  /** host:port of the public service, or of the link where this node has no router. */
  readonly address: string;
  /** host:port of the REST API; "" where there is none. */
  readonly httpAddress: string;
  /** host:port of Qdrant's REST API; "" where there is none. */
  readonly qdrantAddress: string;
  /** host:port of Qdrant's gRPC services; "" where there are none. */
  readonly qdrantGrpcAddress: string;
  /** What this node knows of another one (or of itself) at the moment; "removed" of one that it does not know. */
  stateOf(nodeId: string): NodeState;
  /** Takes settings that have changed: all, or none. Never rejects; the log tells what came of it. */
  reload(): Promise<void>;
  /** Ends the node in order: drains, checkpoints, closes. May be called again. */
  close(): Promise<void>;
  /** Resolves when the node has ended. */
  readonly closed: Promise<void>;
}

/** Starts the roles of one process and puts them together; resolves when they answer. */
export async function startNode(config: NodeConfig, options: NodeOptions): Promise<RunningNode> {
  /** Set when the node has started: settings are as they were until then. */
  const started: { reloader?: Reloader } = {};
  const settings = (): NodeConfig => started.reloader?.current ?? config;
  const closers = new Closers(systemRuntime.clock, () => settings().drainTimeoutMs);
  const telemetry = await setupTelemetry({
    ...systemRuntime,
    serviceName: "kith",
    nodeId: config.nodeId,
    version: options.version,
    env: options.env ?? {},
  });
  closers.addTelling("telemetry", () => telemetry.shutdown());
  const level = (): NodeConfig["logLevel"] => settings().logLevel;
  const makeLogger: NonNullable<NodeOptions["logger"]> =
    options.logger ?? ((onRecord) => createLogger({ level, nodeId: config.nodeId, onRecord }));
  const logger = makeLogger(telemetry.onLogRecord, level);
  // What is said of a failed export is not exported itself: it would fail too, and so on for ever.
  telemetry.reportTo(makeLogger(undefined, level));
  if (config.traceSample !== undefined) sampleTraces(config.traceSample);
  try {
    return await start(config, options, telemetry, logger, closers, started);
  } catch (error) {
    await closers.run(logger);
    throw error;
  }
}

async function start(
  config: NodeConfig,
  options: NodeOptions,
  telemetry: Telemetry,
  logger: Logger,
  closers: Closers,
  started: { reloader?: Reloader },
): Promise<RunningNode> {
  const now = (): NodeConfig => started.reloader?.current ?? config;
  const has = (role: Role): boolean => config.roles.includes(role);
  // The one place that gives a server its time and its chance: everything below takes them from here.
  const runtime = systemRuntime;
  const { clock, random } = runtime;
  const { signal } = options;
  const tls = await NodeTls.read(config.tls, logger);
  const secret = await openSecret(config, runtime);
  const encryption = await openEncryption(config, runtime, logger);
  const keys = encryption?.keys;
  const trust = { ...(tls && { tls: tls.link }), secret: secret?.secret };
  if (config.data !== undefined) await prepareData(config.data);
  // Loads the library, as any but short bytes do: at the first write there may be no file handle left to read it.
  crc32c(new Uint8Array(1_024));
  measureProcess(config.data, closers);
  if (has("shard")) {
    const lock = await lockData(config.data as string, logger);
    closers.add("lock of the data folder", () => lock.close());
  }
  const { data } = config;
  if (data !== undefined) {
    await checkData(data, keys, logger);
    if (keys !== undefined)
      closers.add(
        "mark of the data folder",
        keepMark(() => checkData(data, keys, logger), keys, logger),
      );
  }

  let healthServer: RpcServer | undefined;
  if (config.health !== undefined) {
    healthServer = createRpcServer({ node: config.nodeId, logger, ...runtime });
    await listen(healthServer, config.health, closers, "health");
    // Alive from now on, also while it waits for NATS; ready later.
    healthServer.setServing("", false);
  }
  const { statefulSet, nodeName, serviceAccount } = config.kubernetes;
  const kubernetes = new Kubernetes({ env: options.env ?? {}, serviceAccount, clock });
  const zone = nodeName === undefined ? config.zone : await kubernetes.zoneOf(nodeName, zoneMs, signal);

  const adapters = await openAdapters(config, runtime, logger, signal);
  const { catalog } = adapters;
  closers.addTelling("log and catalog", () => adapters.close());
  const standby = new StandbyView(catalog, clock, config.standby?.primary.cluster);
  // What a cluster has that follows another one comes from there alone, whoever would write to its logs.
  const ownLog = new ReadOnlyLog(adapters.log, () => standby.refusal);
  const log = new EncryptedLog(ownLog, { keys, onPlain: onceTold(logger) });
  const tellsKey = has("router") || has("coordinator");
  // It has just been found, and may lose its leader any time.
  await untilNatsAnswers(() => checkCluster(catalog, keys, tellsKey), runtime, logger, signal);
  if (keys !== undefined && tellsKey) {
    closers.add(
      "mark of the master key",
      keepMark(() => checkCluster(catalog, keys, true), keys, logger),
    );
  }
  const collections = collectionsView(catalog);
  const nodes = new NodesView(catalog, clock);
  const operations = new Operations(catalog, clock);
  const settings = new SettingsView(catalog);
  closers.add("views of the catalog", async () => {
    await collections.close();
    await nodes.close();
    await operations.close();
    await settings.close();
    await standby.close();
  });
  measureCluster({ log, catalog, nodes }, closers);
  await Promise.all([collections, nodes, settings, standby].map((view) => view.start(signal)));
  if (has("router") || has("coordinator")) await operations.start(signal);

  const record = {
    id: config.nodeId,
    linkAddress: "",
    address: "",
    zone,
    roles: config.roles,
    state: "joining" as const,
    startedAtMs: clock.nowMs(),
    version: options.version,
    memoryBytes: 0,
    diskFreeBytes: 0,
    heartbeat: 0,
  };
  const heartbeat = new Heartbeat(nodes, clock, record, config.data, logger);
  // The record goes last: with it gone, nobody would find the links that are still being drained.
  closers.addTelling("heartbeat", () => heartbeat.stop());

  /** Set when all are there: the replicas of this node are opened before. */
  const asked: { links?: NodeLinks } = {};
  const statusOf: StatusOf = (id, replica) =>
    withTimeout(clock, statusTimeoutMs, async (ended) => {
      if (asked.links === undefined) throw new KithError("SHARD_UNAVAILABLE", "this node is still starting");
      return asked.links.find(id).api.status(replica, 0, { signal: ended, trace: untraced });
    });
  const locations = new BackupLocations(await backupSettings(config), random, keys);
  // Each role is loaded where it is played: a router has no use for LevelDB and the graph, a shard node none for the public API.
  let host: ShardHost | undefined;
  let backupWorker: BackupWorker | undefined;
  if (has("shard")) {
    const { configurePool, createIndex, loadIndex } = await import("../../libs/ann/index.js");
    const { restoredFiles, ShardBackups, ShardHost } = await import("../shard/index.js");
    if (config.searchThreads > 0) configurePool({ threads: config.searchThreads });
    const indexes = {
      create: (each: IndexOptions) => createIndex(each, keys),
      load: (directory: string, each: IndexOptions) => loadIndex(directory, each, { keys }),
      keys,
    };
    host = new ShardHost({
      nodeId: config.nodeId,
      data: config.data as string,
      collections,
      log,
      clock,
      random,
      indexes,
      logger,
      store: { ...config.leveldb, keys },
      tuning: { payloadCacheBytes: config.payloadCacheBytes, answerCacheBytes: config.answerCacheBytes },
      copyBytesPerSecond: () => settings.current.copyBytesPerSecond,
      flushEveryMs: () => settings.current.replicaFlushMs,
      restoredFiles: restoredFiles(locations),
      ...(config.log.kind === "jetstream" && {
        fetchSnapshot: snapshotsOf(nodes, clock, trust),
        statusOf,
      }),
    });
    const hosted = host;
    closers.add("shard", () => hosted.close());
    backupWorker = new ShardBackups({
      ...{ locations, log, clock, random, keys, replicas: hosted },
      folder: join(config.data as string, "restore"),
    });
    await hosted.start();
  }

  let linkAddress = "";
  let linkServer: RpcServer | undefined;
  let publicServer: RpcServer | undefined;
  if (host !== undefined && config.log.kind === "jetstream") {
    linkServer = createRpcServer({ node: config.nodeId, logger, ...runtime, ...(tls && { tls: tls.linkServer }) });
    tls?.addServer(linkServer, true);
    serveLink(linkServer, host, config.nodeId, secret?.secret);
    serveSnapshots(linkServer, host, secret?.secret);
    if (backupWorker !== undefined) serveBackupWork(linkServer, backupWorkOf(backupWorker), secret?.secret);
    linkAddress = await listen(linkServer, config.link, closers, "link");
    // Not ready before each replica has caught up with its log, or could not be opened; those that have answer meanwhile.
    linkServer.setServing("", false);
    if (config.link.advertise !== "") linkAddress = config.link.advertise;
    await heartbeat.tell({ linkAddress });
  }
  if (host !== undefined) await withAbort(host.settled(), signal);

  const links = new NodeLinks({
    nodes,
    ...(host && { local: { id: config.nodeId, zone, api: host } }),
    link: { ...runtime, self: config.nodeId, logger, ...trust },
  });
  closers.add("links", () => links.close());
  asked.links = links;

  let address = linkAddress;
  let httpAddress = "";
  let qdrantAddress = "";
  let qdrantGrpcAddress = "";
  let qdrantServer: RpcServer | undefined;
  let isUp = false;
  const parts: Reloadable[] = [tls, secret, encryption, adapters.reloadable].filter((part) => part !== undefined);
  if (has("router")) {
    const { Router } = await import("../router/index.js");
    const auth = await openAuth(config, catalog, runtime, logger, signal);
    parts.push(auth);
    closers.add("keys and roles", () => auth.close());
    const router = new Router({
      auth,
      cluster: config.cluster,
      version: options.version,
      nodeId: config.nodeId,
      zone,
      defaultReplicationFactor: config.replicationFactor,
      slowQueryMs: () => now().slowQueryMs,
      logKind: config.log.kind,
      log,
      catalog,
      collections,
      operations,
      nodes,
      settings,
      standby,
      findNode: (id) => links.find(id),
      backups: locations,
      clock,
      random,
      logger,
    });
    closers.add("router", () => router.close());
    const server = createRpcServer({ node: config.nodeId, logger, ...runtime, ...(tls && { tls: tls.server }) });
    tls?.addServer(server);
    ({ httpAddress, qdrantAddress, qdrantGrpcAddress, qdrantServer } = await openDoors({
      ...{ config, router, server, tls, telemetry, logger, runtime, closers, version: options.version },
      ready: () => isUp && (host === undefined || host.isCaughtUp),
    }));
    server.addReflection();
    address = await listen(server, config.listen, closers, "public");
    publicServer = server;
  }
  const servers = [linkServer, publicServer, qdrantServer, healthServer].filter((server) => server !== undefined);
  const setReady = (ready: boolean): void => {
    for (const server of servers) server.setServing("", ready);
  };
  setReady(false);
  if (config.waitForShards && host === undefined) {
    await shardsFirst({ nodes, version: options.version, clock, logger }, signal);
  }
  if (host !== undefined && !host.isCaughtUp) void host.caughtUp().then(() => setReady(true));
  else setReady(true);

  if (has("coordinator")) {
    const { Coordinator } = await import("../coordinator/index.js");
    const lease = new Lease(catalog, config.nodeId, clock);
    const own = backupWorker && { id: config.nodeId, worker: backupWorker };
    const run = backupRunner(own, nodes, clock, trust);
    const backups = { locations, run };
    const followers = new FollowersView(catalog, clock);
    closers.add("view of followers", () => followers.close());
    await followers.start(signal);
    const coordinator = new Coordinator({
      ...{ lease, collections, operations, nodes, settings, log, backups, clock, random, logger },
      statusOf,
      trialOf: (id, replica, request, closing) =>
        withTimeout(clock, trialTimeoutMs, async (ended) => {
          if (asked.links === undefined) throw new KithError("SHARD_UNAVAILABLE", "this node is still starting");
          // Each search of a trial listens to it.
          const signal = heardByMany(AbortSignal.any([ended, closing]));
          const call = { signal, trace: untraced };
          return asked.links.find(id).api.read("trial", replica, { ...request, minSequence: 0 }, call);
        }),
      followers,
      standby: {
        view: standby,
        primary: config.standby?.primary.cluster,
        cluster: config.cluster,
        stored: adapters.log,
        log: new EncryptedLog(adapters.log, { keys }),
        open: (ended) => openPrimary(config, runtime, logger, ended),
      },
    });
    coordinator.start();
    closers.addTelling("coordinator", () => coordinator.close());
  }

  await heartbeat.tell({ state: "up", address: has("router") ? address : "" });
  // Of the other services each says so itself, when it ends.
  closers.add("readiness", () => healthServer?.setServing("", false));
  // First of all at the end: routers stop asking this node before its link refuses requests.
  closers.addTelling("announcement", () => heartbeat.tell({ state: "draining" }));
  if (host !== undefined && config.log.kind === "jetstream") {
    const drain = { nodeId: config.nodeId, nodes, collections, clock, logger };
    await undrainSelf(drain);
    // While it still answers as before.
    if (config.drainOnStopMs > 0) {
      closers.add("drain", async () => {
        const isLeaving =
          statefulSet === undefined || (await kubernetes.isScaledIn(statefulSet, config.nodeId, scaleMs, logger));
        if (isLeaving) await drainSelf(drain, config.drainOnStopMs);
      });
    }
  }
  parts.push(sampling);
  const reloader = new Reloader({ config, readConfig: options.readConfig, parts, clock, logger });
  started.reloader = reloader;
  closers.add("settings", reloader.follow());
  isUp = true;
  logger.info(`node ${config.nodeId} is up: ${config.roles.join(", ")} at ${address}`, {
    address,
    roles: config.roles,
  });

  const ended = deferred<void>();
  let closing: Promise<void> | undefined;
  return {
    address,
    httpAddress,
    qdrantAddress,
    qdrantGrpcAddress,
    stateOf: (nodeId) => nodes.stateOf(nodeId),
    closed: ended.promise,
    reload: () => reloader.reload(),
    close() {
      closing ??= closers.run(logger).then(() => ended.resolve());
      return closing;
    },
  };
}

/** How long Kubernetes is asked for the zone at the start, and at the end for how many pods there are to be, in milliseconds. */
const zoneMs = 60_000;
const scaleMs = 5_000;

type StatusOf = NonNullable<ConstructorParameters<typeof ShardHost>[0]["statusOf"]>;

/** How long the coordinator waits for what a replica says of itself. */
const statusTimeoutMs = 2_000;
/** To try datatypes takes some seconds of a thread for each of them. */
const trialTimeoutMs = 600_000;

/** Which part of the traces is recorded. */
const sampling: Reloadable = {
  prepare: ({ traceSample }) =>
    Promise.resolve(() => {
      if (traceSample !== undefined) sampleTraces(traceSample);
      return [];
    }),
};
