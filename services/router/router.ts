import type { BackupLocations } from "../../libs/backup/index.js";
import type { Runtime } from "../../libs/base/index.js";
import type { Catalog } from "../../libs/catalog/index.js";
import type { CollectionsView, NodesView, Operations, SettingsView } from "../../libs/cluster/index.js";
import type { Log } from "../../libs/log/index.js";
import type { RpcServer } from "../../libs/rpc/server/index.js";
import type { Logger } from "../../libs/telemetry/index.js";
import { encodeQueryResponse, pb } from "../../libs/wire/index.js";
import { Aliases } from "./catalog/aliases.js";
import { Backups } from "./catalog/backups.js";
import { Cluster } from "./catalog/cluster.js";
import { Collections } from "./catalog/collections.js";
import { Moves } from "./catalog/moves.js";
import { OperationsApi } from "./catalog/operations.js";
import { Outages } from "./catalog/outage.js";
import { Rebalance } from "./catalog/rebalance.js";
import { SchemaChanges } from "./catalog/schema-changes.js";
import { SettingsApi } from "./catalog/settings.js";
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
  slowQueryMs: number;
  logKind: "embedded" | "jetstream";
  log: Log;
  catalog: Catalog;
  collections: CollectionsView;
  operations: Operations;
  nodes: NodesView;
  settings: SettingsView;
  findNode: NodeFinder;
  /** Where backups may be. */
  backups: BackupLocations;
  logger: Logger;
}

/** The public API: stateless, so that any number of routers may run. */
export class Router {
  readonly #routingTable: RoutingTable;
  readonly #outages: Outages;
  readonly #collections: Collections;
  readonly #aliases: Aliases;
  readonly #schemaChanges: SchemaChanges;
  readonly #writes: Writes;
  readonly #reads: Reads;
  readonly #queries: Queries;
  readonly #answers = new AnswerBudget();
  readonly #cluster: Cluster;
  readonly #slowLog: SlowLog;
  readonly #operations: OperationsApi;
  readonly #backups: Backups;
  readonly #settings: SettingsApi;
  readonly #rebalance: Rebalance;
  readonly #watches: Watches;

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
    this.#writes = new Writes(routingTable);
    this.#slowLog = new SlowLog(clock, nodeId, options.slowQueryMs);
    this.#reads = new Reads(routingTable, log, this.#answers, this.#slowLog);
    this.#queries = new Queries(routingTable, log, nodeId, this.#answers, this.#slowLog);
    const moves = new Moves({ operations, nodes, routingTable, log, random });
    this.#operations = new OperationsApi(operations, moves, outages);
    this.#watches = new Watches({ routingTable, clock, random });
    this.#backups = new Backups({ locations: options.backups, view, operations, clock, random });
    this.#settings = new SettingsApi(options.settings);
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
  }

  /** Adds the public services to a server. */
  serve(server: Pick<RpcServer, "addService" | "unsentBytes">): void {
    this.#answers.countUnsent(() => server.unsentBytes);
    const collections = this.#collections;
    const aliases = this.#aliases;
    const outages = this.#outages;
    const schemaChanges = this.#schemaChanges;
    const writes = this.#writes;
    const reads = this.#reads;
    const queries = this.#queries;
    const operations = this.#operations;
    server.addService(pb.CollectionsService, {
      create: (request, call) => collections.create(request, call),
      get: async (request) => collections.get(request),
      list: async () => collections.list(),
      update: (request, call) => collections.update(request, call),
      delete: (request, call) => collections.delete(request, call),
      exists: async (request) => collections.exists(request),
      stats: (request, call) => collections.stats(request, call),
      waitIndexed: (request, call) => collections.waitIndexed(request, call),
      createPayloadIndex: (request, call) => schemaChanges.createPayloadIndex(request, call),
      dropPayloadIndex: (request, call) => schemaChanges.dropPayloadIndex(request, call),
      listPayloadIndexes: (request, call) => schemaChanges.listPayloadIndexes(request, call),
      addVectorField: (request, call) => schemaChanges.addVectorField(request, call),
      dropVectorField: (request, call) => schemaChanges.dropVectorField(request, call),
      rename: (request, call) => outages.guard(call, () => aliases.rename(request)),
      updateAliases: (request, call) => outages.guard(call, () => aliases.update(request)),
      listAliases: async (request) => aliases.list(request),
    });
    server.addService(pb.PointsService, {
      upsert: (request, call) => writes.upsert(request, call),
      upsertColumns: (request, call) => writes.upsertColumns(request, call),
      upsertStream: (stream) => serveUpserts(stream, writes),
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
      get: (request, call) => reads.get(request, call),
      scroll: (request, call) => reads.scroll(request, call),
      count: (request, call) => reads.count(request, call),
      facet: (request, call) => reads.facet(request, call),
      query: async (request, call) => encodeQueryResponse(await queries.query(request, call)),
      queryBatch: (request, call) => queryBatch(request, queries, call),
      queryStream: (stream) => serveQueries(stream, queries, reads),
      queryGroups: (request, call) => queries.groups(request, call),
      searchMatrix: (request, call) => queries.matrix(request, call),
    });
    server.addService(pb.ClusterService, {
      describe: (_request, call) => this.#cluster.describe(call),
      listOperations: () => operations.list(),
      getOperation: (request, call) => operations.get(request, call),
      cancelOperation: (request, call) => operations.cancel(request, call),
      moveReplica: (request, call) => outages.guard(call, () => operations.moveReplica(request)),
      drainNode: (request, call) => outages.guard(call, () => this.#cluster.drain(request)),
      undrainNode: (request, call) => outages.guard(call, () => this.#cluster.undrain(request)),
      rebalance: (request, call) => outages.guard(call, () => this.#rebalance.plan(request)),
      abortRebalance: (_request, call) => outages.guard(call, () => this.#rebalance.abort()),
      getSettings: async () => this.#settings.get(),
      updateSettings: (request, call) => outages.guard(call, () => this.#settings.update(request)),
      slowQueries: async (request) => this.#slowLog.list(request),
    });
    server.addService(pb.ChangesService, { watch: (stream) => this.#watches.serve(stream) });
    const backups = this.#backups;
    server.addService(pb.BackupsService, {
      create: (request, call) => outages.guard(call, () => backups.create(request)),
      list: (request) => backups.list(request),
      verify: (request, call) => backups.verify(request, call),
      restore: (request, call) => outages.guard(call, () => backups.restore(request)),
      delete: (request, call) => outages.guard(call, () => backups.delete(request)),
    });
  }

  close(): void {
    this.#routingTable.close();
    this.#outages.close();
  }
}
