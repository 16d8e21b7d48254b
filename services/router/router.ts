import type { AuditLog, Authenticator, KeyStore } from "../../libs/auth/index.js";
import type { BackupLocations } from "../../libs/backup/index.js";
import type { KithError, Runtime } from "../../libs/base/index.js";
import type { Catalog } from "../../libs/catalog/index.js";
import type { CollectionsView, NodesView, Operations, SettingsView, StandbyView } from "../../libs/cluster/index.js";
import type { Log } from "../../libs/log/index.js";
import type { RpcServer } from "../../libs/rpc/server/index.js";
import type { Logger } from "../../libs/telemetry/index.js";
import { pb } from "../../libs/wire/index.js";
import { Aliases } from "./catalog/aliases.js";
import { Backups } from "./catalog/backups.js";
import { Cluster } from "./catalog/cluster.js";
import { Collections } from "./catalog/collections.js";
import { Keys } from "./catalog/keys.js";
import { Moves } from "./catalog/moves.js";
import { Resharding } from "./catalog/resharding.js";
import { OperationsApi } from "./catalog/operations.js";
import { Outages } from "./catalog/outage.js";
import { Rebalance } from "./catalog/rebalance.js";
import { Generations } from "./catalog/generations.js";
import { TextGenerations } from "./catalog/text-generations.js";
import { SchemaChanges } from "./catalog/schema-changes.js";
import { SettingsApi } from "./catalog/settings.js";
import { StandbyApi } from "./catalog/standby.js";
import { Door, type GuardedHandlers } from "./door.js";
import { RoutingTable, type NodeFinder } from "./routing/routing-table.js";
import { AnswerBudget } from "./query/answer-budget.js";
import { Queries } from "./query/queries.js";
import { Reads } from "./query/reads.js";
import { SlowLog } from "./query/slow-log.js";
import { Watches } from "./query/watches.js";
import { queryBatch, serveQueries, serveUpserts } from "./streams.js";
import { Writes } from "./write/writes.js";

export interface RouterOptions extends Runtime {
  cluster: string;
  version: string;
  nodeId: string;
  zone: string;
  defaultReplicationFactor: number;
  /** From so many milliseconds on a query is slow; 0: none is. */
  slowQueryMs: () => number;
  logKind: "embedded" | "jetstream";
  log: Log;
  catalog: Catalog;
  collections: CollectionsView;
  operations: Operations;
  nodes: NodesView;
  settings: SettingsView;
  /** Whether this cluster follows another one; missing: it never does. */
  standby?: StandbyView;
  findNode: NodeFinder;
  /** Where backups may be. */
  backups: BackupLocations;
  logger: Logger;
  /** Who may call, and the keys by which callers say who they are. Missing: everybody may do all. */
  auth?: { authenticator: Authenticator; store: KeyStore; audit?: AuditLog | undefined };
}

/** The handlers of all public services. */
export interface PublicApi {
  readonly collections: GuardedHandlers<typeof pb.CollectionsService>;
  readonly points: GuardedHandlers<typeof pb.PointsService>;
  readonly cluster: GuardedHandlers<typeof pb.ClusterService>;
  readonly changes: GuardedHandlers<typeof pb.ChangesService>;
  readonly backups: GuardedHandlers<typeof pb.BackupsService>;
  readonly keys?: GuardedHandlers<typeof pb.KeysService>;
  readonly roles?: GuardedHandlers<typeof pb.RolesService>;
}

/** The public API: stateless, so that any number of routers may run. */
export class Router {
  readonly #routingTable: RoutingTable;
  readonly #outages: Outages;
  readonly #collections: Collections;
  readonly #aliases: Aliases;
  readonly #schemaChanges: SchemaChanges;
  readonly #generations: Generations;
  readonly #textGenerations: TextGenerations;
  readonly #writes: Writes;
  readonly #reads: Reads;
  readonly #queries: Queries;
  readonly #answers: AnswerBudget;
  readonly #cluster: Cluster;
  readonly #slowLog: SlowLog;
  readonly #operations: OperationsApi;
  readonly #backups: Backups;
  readonly #settings: SettingsApi;
  readonly #standby: StandbyApi;
  readonly #refusal: () => KithError | undefined;
  readonly #rebalance: Rebalance;
  readonly #watches: Watches;
  readonly #keys: Keys | undefined;
  readonly #auth: RouterOptions["auth"];
  readonly #view: CollectionsView;

  constructor(options: RouterOptions) {
    const {
      collections: view,
      operations,
      nodes,
      log,
      catalog,
      clock,
      random,
      zone,
      findNode,
      nodeId,
      logger,
    } = options;
    this.#answers = new AnswerBudget(clock);
    const routingTable = new RoutingTable({ collections: view, log, clock, random, zone, findNode, logger });
    this.#routingTable = routingTable;
    const outages = new Outages(catalog, clock, options.logKind);
    this.#outages = outages;
    this.#collections = new Collections({
      outages,
      view,
      operations,
      nodes,
      routingTable,
      clock,
      random,
      logKind: options.logKind,
      defaultReplicationFactor: options.defaultReplicationFactor,
    });
    this.#aliases = new Aliases(view, clock);
    this.#schemaChanges = new SchemaChanges({ view, operations, routingTable, clock, outages });
    this.#generations = new Generations({ clock, view, log, routingTable, schemaChanges: this.#schemaChanges });
    this.#textGenerations = new TextGenerations({ clock, view, routingTable, schemaChanges: this.#schemaChanges });
    this.#writes = new Writes(routingTable);
    this.#slowLog = new SlowLog(clock, nodeId, options.slowQueryMs);
    this.#reads = new Reads(routingTable, log, this.#answers, this.#slowLog);
    this.#queries = new Queries(routingTable, log, nodeId, this.#answers, this.#slowLog);
    const moves = new Moves({ operations, nodes, routingTable, log, random });
    const resharding = new Resharding({ operations, view, routingTable, log, random });
    this.#operations = new OperationsApi(operations, moves, resharding, outages);
    this.#watches = new Watches({ routingTable, clock, random });
    this.#backups = new Backups({ locations: options.backups, view, operations, clock, random });
    this.#settings = new SettingsApi(options.settings);
    this.#standby = new StandbyApi(options.standby);
    this.#refusal = () => options.standby?.refusal;
    this.#rebalance = new Rebalance({
      ...{ collections: view, operations, nodes, routingTable, random },
      settings: options.settings,
    });
    this.#cluster = new Cluster({
      name: options.cluster,
      version: options.version,
      logKind: options.logKind,
      log,
      catalog,
      nodes,
      routingTable,
      clock,
    });
    this.#auth = options.auth;
    this.#view = view;
    this.#keys = options.auth && new Keys(options.auth.store, clock);
    this.api = this.#makeApi();
  }

  /** What the public services do, for any door: each call has found out before what its caller may do (`access`). */
  readonly api: PublicApi;

  /** Adds the public services to a server, behind a door that asks who calls. */
  serve(server: Pick<RpcServer, "addService" | "unsentBytes">): void {
    this.#answers.countUnsent(() => server.unsentBytes);
    const door = new Door({
      authenticator: this.#auth?.authenticator,
      audit: this.#auth?.audit,
      refusal: this.#refusal,
      ownName: (asked) => this.#view.naming.find(asked)?.record.name,
    });
    server.addService(pb.CollectionsService, door.guard(pb.CollectionsService, this.api.collections));
    server.addService(pb.PointsService, door.guard(pb.PointsService, this.api.points));
    server.addService(pb.ClusterService, door.guard(pb.ClusterService, this.api.cluster));
    server.addService(pb.ChangesService, door.guard(pb.ChangesService, this.api.changes));
    server.addService(pb.BackupsService, door.guard(pb.BackupsService, this.api.backups));
    const { keys, roles } = this.api;
    if (keys !== undefined) server.addService(pb.KeysService, door.guard(pb.KeysService, keys));
    if (roles !== undefined) server.addService(pb.RolesService, door.guard(pb.RolesService, roles));
  }

  #makeApi(): PublicApi {
    const collections = this.#collections;
    const aliases = this.#aliases;
    const outages = this.#outages;
    const schemaChanges = this.#schemaChanges;
    const generations = this.#generations;
    const textGenerations = this.#textGenerations;
    const ofIndexOr = ({ index }: { index: string }): Generations | TextGenerations =>
      index === "" ? generations : textGenerations;
    const writes = this.#writes;
    const reads = this.#reads;
    const queries = this.#queries;
    const operations = this.#operations;
    const backups = this.#backups;
    const keys = this.#keys;
    return {
      collections: {
        create: (request, call) => collections.create(request, call),
        get: async (request, call) => collections.get(request, call),
        list: async (_request, call) => collections.list(call),
        update: (request, call) => collections.update(request, call),
        delete: (request, call) => collections.delete(request, call),
        exists: async (request, call) => collections.exists(request, call),
        stats: (request, call) => collections.stats(request, call),
        waitIndexed: (request, call) => collections.waitIndexed(request, call),
        createPayloadIndex: (request, call) => schemaChanges.createPayloadIndex(request, call),
        dropPayloadIndex: (request, call) => schemaChanges.dropPayloadIndex(request, call),
        listPayloadIndexes: (request, call) => schemaChanges.listPayloadIndexes(request, call),
        addVectorField: (request, call) => schemaChanges.addVectorField(request, call),
        dropVectorField: (request, call) => schemaChanges.dropVectorField(request, call),
        alterVectorField: (request, call) => generations.alter(request, call),
        listGenerations: async (request, call) => ({
          ...(await generations.list(request, call)),
          textGenerations: await textGenerations.list(request, call),
        }),
        promoteGeneration: (request, call) => ofIndexOr(request).promote(request, call),
        rollbackGeneration: (request, call) => ofIndexOr(request).rollback(request, call),
        dropGeneration: (request, call) => ofIndexOr(request).drop(request, call),
        alterPayloadIndex: (request, call) => textGenerations.alter(request, call),
        rename: (request, call) => outages.guard(call, (guarded) => aliases.rename(request, guarded)),
        updateAliases: (request, call) => outages.guard(call, (guarded) => aliases.update(request, guarded)),
        listAliases: async (request, call) => aliases.list(request, call),
      },
      points: {
        upsert: (request, call) => writes.upsert(request, call),
        upsertColumns: (request, call) => writes.upsertColumns(request, call),
        upsertStream: (stream, gate) => serveUpserts(stream, writes, gate),
        delete: (request, call) => writes.delete(request, call),
        setPayload: (request, call) => writes.setPayload(request, call),
        overwritePayload: (request, call) => writes.overwritePayload(request, call),
        deletePayload: (request, call) => writes.deletePayload(request, call),
        clearPayload: (request, call) => writes.clearPayload(request, call),
        updateVectors: (request, call) => writes.updateVectors(request, call),
        deleteVectors: (request, call) => writes.deleteVectors(request, call),
        setExpiry: (request, call) => writes.setExpiry(request, call),
        truncate: (request, call) => writes.truncate(request, call),
        writeBatch: (request, call) => writes.batch(request, call),
        get: async (request, call) => queries.writer.points(await reads.get(request, call)),
        scroll: async (request, call) => queries.writer.page(await reads.scroll(request, call)),
        count: (request, call) => reads.count(request, call),
        facet: (request, call) => reads.facet(request, call),
        query: (request, call) => queries.answer(request, call),
        queryBatch: (request, call) => queryBatch(request, queries, call),
        queryStream: (stream, gate) => serveQueries(stream, queries, reads, gate),
        queryGroups: async (request, call) => queries.writer.groups(await queries.groups(request, call)),
        searchMatrix: (request, call) => queries.matrix(request, call),
      },
      cluster: {
        describe: (_request, call) => this.#cluster.describe(call),
        listOperations: () => operations.list(),
        getOperation: (request, call) => operations.get(request, call),
        cancelOperation: (request, call) => operations.cancel(request, call),
        moveReplica: (request, call) => outages.guard(call, (guarded) => operations.moveReplica(request, guarded)),
        splitShard: (request, call) => outages.guard(call, (guarded) => operations.splitShard(request, guarded)),
        isolatePartition: (request, call) =>
          outages.guard(call, (guarded) => operations.isolatePartition(request, guarded)),
        mergeShards: (request, call) => outages.guard(call, (guarded) => operations.mergeShards(request, guarded)),
        drainNode: (request, call) => outages.guard(call, () => this.#cluster.drain(request)),
        undrainNode: (request, call) => outages.guard(call, () => this.#cluster.undrain(request)),
        rebalance: (request, call) => outages.guard(call, () => this.#rebalance.plan(request)),
        abortRebalance: (_request, call) => outages.guard(call, () => this.#rebalance.abort()),
        getSettings: async () => this.#settings.get(),
        updateSettings: (request, call) => outages.guard(call, () => this.#settings.update(request)),
        slowQueries: async (request) => this.#slowLog.list(request),
        getStandby: async () => this.#standby.get(),
        promoteStandby: (request, call) => outages.guard(call, () => this.#standby.promote(request)),
      },
      changes: { watch: (stream, gate) => this.#watches.serve(stream, gate) },
      backups: {
        create: (request, call) => outages.guard(call, (guarded) => backups.create(request, guarded)),
        list: (request) => backups.list(request),
        verify: (request, call) => backups.verify(request, call),
        restore: (request, call) => outages.guard(call, (guarded) => backups.restore(request, guarded)),
        delete: (request, call) => outages.guard(call, () => backups.delete(request)),
      },
      ...(keys && {
        keys: {
          create: (request, call) => outages.guard(call, () => keys.create(request)),
          list: async () => keys.list(),
          rotate: (request, call) => outages.guard(call, () => keys.rotate(request)),
          revoke: (request, call) => outages.guard(call, () => keys.revoke(request)),
        },
        roles: {
          put: (request, call) => outages.guard(call, () => keys.putRole(request)),
          list: async () => keys.listRoles(),
          delete: (request, call) => outages.guard(call, () => keys.deleteRole(request)),
        },
      }),
    };
  }

  close(): void {
    this.#queries.close();
    this.#routingTable.close();
    this.#outages.close();
  }
}
