import {
  type Clock,
  defaultTarget,
  KithError,
  type Runtime,
  sleep,
  systemRuntime,
  toKithError,
} from "../base/index.js";
import type { UnaryDefinition } from "../rpc/common/index.js";
import { enableTracing } from "../telemetry/index.js";
import { pb } from "../wire/index.js";
import { type AliasAction, aliasActionToWire, type AliasInfo } from "./aliases.js";
import { Backups } from "./backups.js";
import { CollectionHandle } from "./collection.js";
import { clusterFromWire, collectionFromWire, operationFromWire, settingsFromWire } from "./decode.js";
import { diagnose } from "./diagnose.js";
import { givenList } from "./given.js";
import { Keys, Roles } from "./keys.js";
import {
  callKeys,
  clusterSettingKeys,
  connectKeys,
  listAliasesKeys,
  moveKeys,
  isolateKeys,
  mergeKeys,
  promoteKeys,
  splitKeys,
  rebalanceKeys,
  retryKeys,
  slowQueriesKeys,
  tlsKeys,
} from "./option-keys.js";
import { onlyKeys } from "./only-keys.js";
import { partitionToWire } from "./partition.js";
import { type QueryStream, queryStream } from "./request-stream.js";
import { checkRetry, type RetryOptions } from "./retry.js";
import { Session } from "./token.js";
import type { TlsOptions } from "./tls.js";
import { checkWait, Transport } from "./transport.js";
import type { CallOptions } from "./types/calls.js";
import type {
  ClusterInfo,
  ClusterSettings,
  IsolateRequest,
  MergeRequest,
  MoveRequest,
  OperationInfo,
  RebalancePlan,
  SlowQueries,
  SplitRequest,
  StandbyInfo,
} from "./types/cluster.js";
import type { CollectionInfo } from "./types/collections.js";
import type { JsonObject } from "./types/values.js";

export interface ConnectOptions {
  /**
   * How long to wait for the server, in milliseconds. Default: 5 000 for one that does not answer, and no time for one that is
   * not there: an address where nothing listens fails at once.
   */
  connectTimeoutMs?: number;
  /** Deadline of calls that name none, in milliseconds. Default: 30 000. */
  deadlineMs?: number;
  /** true: the system's authorities. Default: no TLS. */
  tls?: boolean | TlsOptions;
  /**
   * Says who calls: an API key, or a token. A function is asked before each call and whenever a stream is opened, so that what it gives may change
   * while the client lives.
   */
  apiKey?: string | (() => string);
  /** Metadata sent with every call. */
  headers?: Readonly<Record<string, string>>;
  retry?: RetryOptions;
  /**
   * Makes payloads of their JSON text. Default: JSON.parse, which gives numbers beyond 2^53 as the nearest double; a parser that keeps
   * their digits may be given instead.
   */
  parsePayload?: (json: string) => unknown;
  /** Makes OpenTelemetry spans for every call; the application registers the tracer provider. Default: false. */
  tracing?: boolean;
  /** Ends the waiting for the server. */
  signal?: AbortSignal;
}

/** Symbol.asyncDispose, which Node 20 has and the library of ES2023 does not name. */
const asyncDispose: typeof Symbol.asyncDispose = Symbol.asyncDispose;

/** A connection to a Kith server. Cheap to share, expensive to make: one per process is enough. */
export class KithClient {
  readonly #transport: Transport;
  readonly #queries: QueryStream;
  /** By name of the collection; as many as the program uses names. */
  readonly #sessions = new Map<string, Session>();

  /** The collections of the server. */
  readonly collections = {
    list: async (options?: CallOptions): Promise<CollectionInfo[]> => {
      const response = await this.#read("collections.list", pb.CollectionsService.list, {}, options);
      return response.collections.map(collectionFromWire);
    },
  };

  /** Second names of collections, good wherever a collection is named, but to delete or rename it. */
  readonly aliases = {
    /** All, or those of one collection, in order. */
    list: async (options: CallOptions & { collection?: string } = {}): Promise<AliasInfo[]> => {
      const request = { collection: options.collection ?? "" };
      return (await this.#read("aliases.list", pb.CollectionsService.listAliases, request, options, listAliasesKeys))
        .aliases;
    },

    /** ALREADY_EXISTS where the alias means another collection, COLLECTION_EXISTS where a collection has the name. */
    create: (alias: string, collection: string, options?: CallOptions): Promise<void> =>
      this.aliases.update([{ create: { alias, collection } }], options),

    /** From now on the alias means this collection. NOT_FOUND where there is no such alias. */
    switch: (alias: string, collection: string, options?: CallOptions): Promise<void> =>
      this.aliases.update([{ switch: { alias, collection } }], options),

    /** NOT_FOUND where there is no such alias. */
    delete: (alias: string, options?: CallOptions): Promise<void> =>
      this.aliases.update([{ delete: { alias } }], options),

    /** All of these in one step, in order, or none: whoever asks meanwhile meets what the aliases meant before, or what they mean after. */
    update: async (actions: readonly AliasAction[], options?: CallOptions): Promise<void> => {
      if (options !== undefined) onlyKeys(options, callKeys, "options");
      const request = {
        actions: givenList(actions, "actions").map((action, i) => aliasActionToWire(action, `actions[${i}]`)),
      };
      // Not repeated by itself: after a lost answer, a second try would be refused for what the first one did.
      await this.#transport.call("kith.client.aliases.update", options, (call) =>
        this.#transport.unary(pb.CollectionsService.updateAliases, request, call),
      );
    },
  };

  /** What runs where, and how far each replica is. */
  readonly cluster = {
    describe: async (options?: CallOptions): Promise<ClusterInfo> =>
      clusterFromWire(await this.#read("cluster.describe", pb.ClusterService.describe, {}, options)),

    /** Queries that took long in the router that answers, newest first; `limit`: at most so many. */
    slowQueries: async (options: CallOptions & { limit?: number } = {}): Promise<SlowQueries> => {
      const request = { limit: options.limit ?? 0 };
      return this.#read("cluster.slowQueries", pb.ClusterService.slowQueries, request, options, slowQueriesKeys);
    },

    /** Those that have not ended, and the latest of those that have; newest first. */
    operations: async (options?: CallOptions): Promise<OperationInfo[]> => {
      const response = await this.#read("cluster.operations", pb.ClusterService.listOperations, {}, options);
      return response.operations.map(operationFromWire);
    },

    /** NOT_FOUND for an unknown id, and for an operation that ended long ago. */
    operation: async (id: string, options?: CallOptions): Promise<OperationInfo> => {
      const response = await this.#read("cluster.operation", pb.ClusterService.getOperation, { id }, options);
      return operationFromWire(response.operation);
    },

    /**
     * Asks for the operation to be undone, and does not wait for it: it will be "cancelled", or "done" where it was too late.
     * FAILED_PRECONDITION where it has ended, or is of a kind that cannot be undone.
     */
    cancelOperation: async (id: string, options?: CallOptions): Promise<OperationInfo> => {
      const response = await this.#read("cluster.cancelOperation", pb.ClusterService.cancelOperation, { id }, options);
      return operationFromWire(response.operation);
    },

    /**
     * Begins to move a replica, and does not wait for it. Without `from` one is added, where the shard has fewer than its collection asks for;
     * without `to` one is removed, where it has more. FAILED_PRECONDITION where that cannot be.
     */
    moveReplica: async (move: MoveRequest, options?: CallOptions): Promise<OperationInfo> => {
      onlyKeys(move, moveKeys, "move");
      if (options !== undefined) onlyKeys(options, callKeys, "options");
      const { collection, shard, from = "", to = "" } = move;
      const request = { collection, shard, from, to };
      // Not tried again by itself: the second one would be refused because of the first.
      const response = await this.#transport.call("kith.client.cluster.moveReplica", options, (call) =>
        this.#transport.unary(pb.ClusterService.moveReplica, request, call),
      );
      return operationFromWire(response.operation);
    },

    /**
     * Begins to split a shard into new ones by its hash slots, and does not wait for it: reads go on, and writes wait for a moment at the end.
     * INVALID_ARGUMENT for an unknown shard; FAILED_PRECONDITION where it cannot be split, or is being changed already.
     */
    splitShard: async (split: SplitRequest, options?: CallOptions): Promise<OperationInfo> => {
      onlyKeys(split, splitKeys, "split");
      if (options !== undefined) onlyKeys(options, callKeys, "options");
      const { collection, shard, into = 0 } = split;
      // Not tried again by itself: the second one would be refused because of the first.
      const response = await this.#transport.call("kith.client.cluster.splitShard", options, (call) =>
        this.#transport.unary(pb.ClusterService.splitShard, { collection, shard, into }, call),
      );
      return operationFromWire(response.operation);
    },

    /**
     * Begins to give one value of a collection's partition key a shard of its own, and does not wait for it; otherwise as `splitShard`.
     * FAILED_PRECONDITION where the collection has no partition key, or the value is alone already.
     */
    isolatePartition: async (isolated: IsolateRequest, options?: CallOptions): Promise<OperationInfo> => {
      onlyKeys(isolated, isolateKeys, "isolated");
      if (options !== undefined) onlyKeys(options, callKeys, "options");
      const request = { collection: isolated.collection, partition: partitionToWire(isolated.partition) };
      // Not tried again by itself: the second one would be refused because of the first.
      const response = await this.#transport.call("kith.client.cluster.isolatePartition", options, (call) =>
        this.#transport.unary(pb.ClusterService.isolatePartition, request, call),
      );
      return operationFromWire(response.operation);
    },

    /**
     * Begins to merge shards whose hash slots are next to each other into a new one, and does not wait for it: reads go on, and writes wait for a moment
     * at the end. INVALID_ARGUMENT for an unknown shard; FAILED_PRECONDITION where they cannot be merged, or one is being changed already.
     */
    mergeShards: async (merge: MergeRequest, options?: CallOptions): Promise<OperationInfo> => {
      onlyKeys(merge, mergeKeys, "merge");
      if (options !== undefined) onlyKeys(options, callKeys, "options");
      const { collection, shards } = merge;
      // Not tried again by itself: the second one would be refused because of the first.
      const response = await this.#transport.call("kith.client.cluster.mergeShards", options, (call) =>
        this.#transport.unary(pb.ClusterService.mergeShards, { collection, shards: [...shards] }, call),
      );
      return operationFromWire(response.operation);
    },

    /** Asks for all replicas of a node to be moved to others, and does not wait for it: its `replicaCount` falls to 0. NOT_FOUND for an unknown node. */
    drain: async (node: string, options?: CallOptions): Promise<void> => {
      await this.#read("cluster.drain", pb.ClusterService.drainNode, { node }, options);
    },

    /** The node takes replicas again. What was moved away stays where it is. */
    undrain: async (node: string, options?: CallOptions): Promise<void> => {
      await this.#read("cluster.undrain", pb.ClusterService.undrainNode, { node }, options);
    },

    /** Moves that make the nodes equally loaded, by bytes and by reads. `apply`: they are begun, and not waited for. */
    rebalance: async (options: CallOptions & { apply?: boolean } = {}): Promise<RebalancePlan> => {
      onlyKeys(options, rebalanceKeys, "options");
      const request = { apply: options.apply === true };
      return this.#transport.call("kith.client.cluster.rebalance", options, (call) =>
        this.#transport.unary(pb.ClusterService.rebalance, request, call),
      );
    },

    /** Undoes the moves of a rebalancing that have not ended, and gives their ids; it does not wait for them. */
    abortRebalance: async (options?: CallOptions): Promise<string[]> => {
      const response = await this.#read("cluster.abortRebalance", pb.ClusterService.abortRebalance, {}, options);
      return response.operations;
    },

    settings: async (options?: CallOptions): Promise<ClusterSettings> => {
      const response = await this.#read("cluster.settings", pb.ClusterService.getSettings, {}, options);
      return settingsFromWire(response.settings);
    },

    /** Changes some settings while the cluster runs, and gives all of them. LIMIT_OUT_OF_RANGE where a value is out of its bounds. */
    updateSettings: async (settings: Partial<ClusterSettings>, options?: CallOptions): Promise<ClusterSettings> => {
      onlyKeys(settings, clusterSettingKeys, "settings");
      const response = await this.#read(
        "cluster.updateSettings",
        pb.ClusterService.updateSettings,
        { settings },
        options,
      );
      return settingsFromWire(response.settings);
    },

    /** Whether this cluster follows another one, and how far it is; undefined where it never did. */
    standby: async (options?: CallOptions): Promise<StandbyInfo | undefined> => {
      const response = await this.#read("cluster.standby", pb.ClusterService.getStandby, {}, options);
      return response.standby;
    },

    /**
     * Has a cluster that follows another one do so no more, and take writes; does not wait for it: its `phase` becomes "promoted". FAILED_PRECONDITION
     * where it follows none, or where shards have no whole replica yet and `force` is not given: these answer nothing then.
     */
    promoteStandby: async (options: CallOptions & { force?: boolean } = {}): Promise<StandbyInfo | undefined> => {
      onlyKeys(options, promoteKeys, "options");
      const { force = false, ...call } = options;
      const response = await this.#read("cluster.promoteStandby", pb.ClusterService.promoteStandby, { force }, call);
      return response.standby;
    },
  };

  /** Backups of collections. */
  readonly backups: Backups;

  /** API keys, by which callers say who they are. */
  readonly keys: Keys;

  /** What keys allow. */
  readonly roles: Roles;

  /** @internal Use `connect()`. */
  constructor(transport: Transport) {
    this.#transport = transport;
    this.backups = new Backups(transport);
    this.keys = new Keys(transport);
    this.roles = new Roles(transport);
    this.#queries = queryStream(transport);
  }

  /** The address that was given to `connect()`. */
  get target(): string {
    return this.#transport.target;
  }

  /** A handle for one collection, which need not exist yet. */
  collection<P = JsonObject>(name: string): CollectionHandle<P> {
    let session = this.#sessions.get(name);
    if (session === undefined) {
      session = new Session();
      this.#sessions.set(name, session);
    }
    return new CollectionHandle<P>(name, this.#transport, this.#queries, session);
  }

  /** Ends the connection. Calls in flight fail with CANCELLED; later ones with FAILED_PRECONDITION. */
  close(): void {
    this.#queries.close();
    this.#transport.close();
  }

  /** As close(): `await using client = await connect()`. */
  [asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  async #read<Req, Res>(
    name: string,
    method: UnaryDefinition<Req, Res>,
    request: Req,
    options: CallOptions | undefined,
    known: readonly string[] = callKeys,
  ): Promise<Res> {
    if (options !== undefined) onlyKeys(options, known, "options");
    return this.#transport.call(`kith.client.${name}`, options, (call) =>
      this.#transport.retried(method, request, call),
    );
  }
}

/**
 * Connects to a Kith server and waits until it answers.
 * SERVER_UNREACHABLE where nothing answers in time, at once where nothing listens; TLS_MISMATCH, CERTIFICATE_UNTRUSTED; UNIMPLEMENTED where something answers that is not Kith.
 * `runtime`: time and chance of tests and simulations; programs leave it out.
 */
export async function connect(
  target: string = defaultTarget,
  options: ConnectOptions = {},
  runtime: Runtime = systemRuntime,
): Promise<KithClient> {
  onlyKeys(options, connectKeys, "options");
  if (options.retry !== undefined) {
    onlyKeys(options.retry, retryKeys, "options.retry");
    checkRetry(options.retry);
  }
  if (typeof options.tls === "object") onlyKeys(options.tls, tlsKeys, "options.tls");
  if (options.tracing === true) enableTracing(runtime.random);
  const transport = new Transport({
    target: checkTarget(target),
    deadlineMs: options.deadlineMs ?? 30_000,
    retry: options.retry ?? {},
    ...runtime,
    ...(options.tls !== undefined && { tls: options.tls }),
    ...(options.headers && { headers: options.headers }),
    ...(options.apiKey !== undefined && { apiKey: options.apiKey }),
    ...(options.parsePayload && { parsePayload: options.parsePayload }),
  });
  try {
    await waitForServer(transport, runtime.clock, options);
  } catch (error) {
    transport.close();
    throw error;
  }
  return new KithClient(transport);
}

/** host:port, also of an IPv6 address in brackets, and what gRPC names by a scheme. */
const addressPattern = /^([^\s:/[\]]+|\[[0-9a-fA-F:.%]+\]):\d{1,5}$|^(dns|ipv4|ipv6|unix|unix-abstract|xds):\S+$/;

function checkTarget(target: string): string {
  const isKnown = typeof target === "string" && addressPattern.test(target);
  const port = isKnown ? Number(/:(\d+)$/.exec(target)?.[1] ?? 1) : 0;
  // What is named by a scheme gRPC itself reads.
  if (isKnown && (/^[a-z0-9-]+:\D/.test(target) || (port > 0 && port <= 65_535))) return target;
  const isUrl = /^https?:\/\//.test(target);
  const why = isUrl
    ? "is a URL"
    : isKnown
      ? "has a port that there is not"
      : /:\d*$/.test(target)
        ? "is not an address"
        : "has no port";
  throw new KithError("INVALID_ADDRESS", `"${target}" ${why}; give host:port, such as ${defaultTarget}`, {
    details: { target: String(target) },
  });
}

async function waitForServer(transport: Transport, clock: Clock, options: ConnectOptions): Promise<void> {
  const { signal } = options;
  const connectTimeoutMs = checkWait(options.connectTimeoutMs ?? 5_000, "connectTimeoutMs");
  const endMs = clock.monotonicMs() + connectTimeoutMs;
  const target = transport.target;
  for (let pauseMs = 20; ; pauseMs = Math.min(500, pauseMs * 2)) {
    try {
      await transport.call(
        "kith.client.connect",
        { signal, deadlineMs: Math.max(1, endMs - clock.monotonicMs()) },
        // What the router answers by itself: a description of the cluster asks every node, and one that hangs holds it up.
        (call) => transport.unary(pb.CollectionsService.exists, { name: "connect" }, call),
      );
      return;
    } catch (thrown) {
      const error = toKithError(thrown);
      if (error.code === "UNIMPLEMENTED") {
        throw new KithError("UNIMPLEMENTED", `what answers at ${target} is not a Kith server: ${error.message}`, {
          cause: error,
          details: { target },
        });
      }
      if (error.code === "CANCELLED") throw error;
      // A server whose catalog or log is away answers reads all the same.
      if (error.code === "CATALOG_UNAVAILABLE" || error.code === "LOG_UNAVAILABLE") return;
      const waits = error.retryable || error.code === "DEADLINE_EXCEEDED";
      if (!waits) throw error;
      const problem = await diagnose(target, transport.tls, Math.min(1_000, endMs - clock.monotonicMs()));
      if (problem.code !== "SERVER_UNREACHABLE") throw problem;
      const isRefused = options.connectTimeoutMs === undefined && problem.details["reason"] === "refused";
      if (isRefused) throw problem;
      if (clock.monotonicMs() + pauseMs >= endMs) throw problem;
    }
    await sleep(clock, pauseMs, signal);
  }
}
