import { type ErrorCode, KithError, toKithError } from "../../libs/base/index.js";
import { parseFilter } from "../../libs/filter/index.js";
import type { CallContext } from "../../libs/call/index.js";
import type { UnaryContext } from "../../libs/rpc/server/index.js";
import { untraced } from "../../libs/telemetry/index.js";
import { Encoded, filterToWire, pb } from "../../libs/wire/index.js";
import type { RouterApi, SimulatedCluster } from "./cluster.js";
import type { Entry, ReadContent, SchemaEntry, WriteEntry } from "./history.js";
import type { Broken } from "./network.js";
import { Process } from "./world.js";

/** Ids of points are below. */
export const idCount = 14;
/** Values of the field "k" are below. */
const groupCount = 3;

const unreachable: Broken = (why) => new KithError("SERVER_UNREACHABLE", why);

/** Refused before anything was sent to a log, whatever else goes on. */
const refusals = new Set<ErrorCode>([
  "INVALID_ARGUMENT",
  "INVALID_ID",
  "INVALID_PAYLOAD",
  "INVALID_FILTER",
  "DIMENSION_MISMATCH",
  "VECTOR_NOT_FINITE",
  "UNKNOWN_VECTOR",
  "DUPLICATE_ID",
  "COLLECTION_NOT_READY",
]);

const noBytes = new Uint8Array(0);
const everything: pb.Select = { payload: true, vectors: [], allVectors: true, include: [], exclude: [] };

type Method =
  | "upsert"
  | "delete"
  | "setPayload"
  | "overwritePayload"
  | "deletePayload"
  | "clearPayload"
  | "updateVectors"
  | "writeBatch";

/** A write before it has its collection and its options. */
interface PlannedWrite {
  method: Method;
  request: object;
  what: string;
}

/** One user of the cluster: one call after the other, as chance has it, and a history of what came of each. */
export class Client {
  readonly process: Process;
  readonly #cluster: SimulatedCluster;
  readonly #history: Entry[];
  /** By collection: what this client has seen or written. */
  readonly #tokens = new Map<string, pb.Token>();
  readonly #versions = new Map<string, number>();
  #writeCount = 0;
  #isStopped = false;
  isDone = false;

  constructor(
    cluster: SimulatedCluster,
    readonly name: string,
    history: Entry[],
  ) {
    this.#cluster = cluster;
    this.#history = history;
    this.process = new Process(cluster.world, name);
    cluster.network.join(name, this.process);
  }

  /** No further call is begun. */
  stop(): void {
    this.#isStopped = true;
  }

  /** Calls until it is stopped. */
  async run(collections: readonly string[], pauseMs: number): Promise<void> {
    const { world } = this.#cluster;
    while (!this.#isStopped) {
      await world.sleep(world.random.float() * 2 * pauseMs);
      if (this.#isStopped) break;
      const collection = this.#oneOf(collections);
      await (world.random.float() < 0.6 ? this.write(collection, this.#plan(collection)) : this.read(collection));
    }
    this.isDone = true;
  }

  async create(name: string, shards: number, replicas: number): Promise<SchemaEntry> {
    const entry = this.#schemaEntry("create", name);
    const request: pb.CreateCollectionRequest = {
      ...pb.CreateCollectionRequest.decode(noBytes),
      name,
      shardCount: shards,
      replicationFactor: replicas,
      vectors: [{ ...pb.VectorField.decode(noBytes), dimension: 2, metric: pb.Metric.L2 }],
    };
    try {
      const response = (await this.#call(30_000, (api, call) =>
        api.collections.create(request, call),
      )) as pb.CreateCollectionResponse;
      entry.outcome = "ok";
      entry.collectionId = response.collection?.id ?? "";
    } catch (error) {
      this.#traceFailure(`create ${name}`, error);
    }
    entry.endMs = this.#cluster.world.nowMs;
    return entry;
  }

  async drop(name: string): Promise<SchemaEntry> {
    const entry = this.#schemaEntry("drop", name);
    try {
      await this.#call(30_000, (api, call) => api.collections.delete({ name }, call));
      entry.outcome = "ok";
    } catch (error) {
      this.#traceFailure(`drop ${name}`, error);
    }
    entry.endMs = this.#cluster.world.nowMs;
    return entry;
  }

  /** Moves a replica, or begins to; whether it was taken. */
  move(collection: string, shard: number, from: string, to: string): Promise<boolean> {
    return this.#administer(`move ${collection}/${shard} from ${from} to ${to}`, (api, call) =>
      api.cluster.moveReplica({ collection, shard, from, to }, call),
    );
  }

  /** Begins to split a shard; whether it was taken. */
  split(collection: string, shard: number, into: number): Promise<boolean> {
    return this.#administer(`split ${collection}/${shard} into ${into}`, (api, call) =>
      api.cluster.splitShard({ collection, shard, into }, call),
    );
  }

  /** Begins to merge shards; whether it was taken. */
  merge(collection: string, shards: number[]): Promise<boolean> {
    return this.#administer(`merge ${collection}/${shards.join("+")}`, (api, call) =>
      api.cluster.mergeShards({ collection, shards }, call),
    );
  }

  /** Has an operation undone, if it is not too late. */
  cancel(id: string): Promise<boolean> {
    return this.#administer(`cancel ${id}`, (api, call) => api.cluster.cancelOperation({ id }, call));
  }

  /** Has a cluster that follows another one go on by itself; whether it was taken. */
  promote(): Promise<boolean> {
    return this.#administer("promote", (api, call) => api.cluster.promoteStandby({ force: false }, call));
  }

  /** Has a node give its replicas to others. */
  drain(node: string): Promise<boolean> {
    return this.#administer(`drain ${node}`, (api, call) => api.cluster.drainNode({ node }, call));
  }

  /** Lets a node that was drained have replicas again. */
  undrain(node: string): Promise<boolean> {
    return this.#administer(`undrain ${node}`, (api, call) => api.cluster.undrainNode({ node }, call));
  }

  /** Begins to back up a collection; the backup's id, where that was taken. */
  async backUp(collection: string, full: boolean): Promise<string | undefined> {
    const request = { ...pb.CreateBackupRequest.decode(noBytes), collection, full };
    const answer = await this.#asked(`back up ${collection}`, (api, call) => api.backups.create(request, call));
    return answer?.id;
  }

  /** Undefined where no answer came. */
  async listBackups(): Promise<pb.Backup[] | undefined> {
    const request = pb.ListBackupsRequest.decode(noBytes);
    return (await this.#asked("list backups", (api, call) => api.backups.list(request, call)))?.backups;
  }

  /** Begins to make a collection of a backup. */
  async restore(request: pb.RestoreBackupRequest): Promise<void> {
    const { id, collection, shardCount, until } = request;
    const what = `restore ${id} as ${collection}, ${shardCount} shards${until === undefined ? "" : `, ${JSON.stringify(until.value)}`}`;
    await this.#asked(what, (api, call) => api.backups.restore(request, call));
  }

  /** What is wrong with a backup: undefined where all is well. */
  async verify(id: string): Promise<KithError | undefined> {
    try {
      await this.#call(60_000, (api, call) => api.backups.verify({ location: "", id }, call));
      return undefined;
    } catch (error) {
      return this.#traceFailure(`verify ${id}`, error);
    }
  }

  async #asked<T>(
    what: string,
    ask: (api: RouterApi, call: UnaryContext) => Promise<T>,
  ): Promise<Exclude<T, Encoded<unknown>> | undefined> {
    try {
      const answer = await this.#call(5_000, ask);
      this.#trace(`${what}: ok`);
      return answer as Exclude<T, Encoded<unknown>>;
    } catch (error) {
      this.#traceFailure(what, error);
      return undefined;
    }
  }

  async #administer(what: string, ask: (api: RouterApi, call: UnaryContext) => Promise<unknown>): Promise<boolean> {
    try {
      await this.#call(5_000, ask);
      this.#trace(`${what}: ok`);
      return true;
    } catch (error) {
      this.#traceFailure(what, error);
      return false;
    }
  }

  #schemaEntry(kind: "create" | "drop", collection: string): SchemaEntry {
    const startMs = this.#cluster.world.nowMs;
    const entry: SchemaEntry = {
      kind,
      client: this.name,
      collection,
      startMs,
      endMs: startMs,
      outcome: "unknown",
      collectionId: "",
    };
    this.#history.push(entry);
    return entry;
  }

  /** Writes, and tries again with the same key as often as chance has it. */
  async write(
    collection: string,
    planned: PlannedWrite,
    options: { ack?: WriteEntry["ack"]; attempts?: number } = {},
  ): Promise<WriteEntry> {
    const { world } = this.#cluster;
    const ack = options.ack ?? this.#oneOf(["log", "applied", "applied", "all"] as const);
    const entry: WriteEntry = {
      kind: "write",
      client: this.name,
      key: `${this.name}-${this.#writeCount++}`,
      collection,
      what: planned.what,
      ack,
      startMs: world.nowMs,
      endMs: world.nowMs,
      outcome: "unknown",
      token: undefined,
      affected: undefined,
      errors: undefined,
    };
    this.#history.push(entry);
    const acks = { log: pb.Ack.LOG, applied: pb.Ack.APPLIED, all: pb.Ack.ALL };
    const request = { ...planned.request, collection, options: { ack: acks[ack], idempotencyKey: entry.key } };
    const attempts = options.attempts ?? 1 + world.random.below(4);
    let mayBeThere = false;
    for (let attempt = 0; attempt < attempts; attempt++) {
      entry.outcome = "unknown";
      try {
        this.#take(entry, planned.method, await this.#send(planned.method, request));
        break;
      } catch (error) {
        const { code } = this.#traceFailure(`${entry.key} ${planned.what}`, error);
        // Not yet: a router hears of the promotion of its cluster in a moment.
        if (code === "READ_ONLY") entry.outcome = mayBeThere ? "unknown" : "failed";
        else if (!refusals.has(code)) mayBeThere = true;
        else if (!mayBeThere) entry.outcome = "failed";
        if (entry.outcome === "failed" && code !== "READ_ONLY") break;
        // Also so late that it is a new write to what no longer remembers it in memory.
        await world.sleep(world.random.float() * 1_500);
      }
    }
    entry.endMs = world.nowMs;
    return entry;
  }

  async #send(method: Method, request: object): Promise<object> {
    return this.#call(500 + this.#cluster.world.random.float() * 8_000, (api, call) => {
      const handler = api.points[method] as (request: object, call: UnaryContext) => Promise<object>;
      return handler(request, call);
    });
  }

  #take(entry: WriteEntry, method: Method, answer: object): void {
    if (method === "writeBatch") {
      const { results, token } = answer as pb.WriteBatchResponse;
      const failures = results.filter(({ outcome }) => outcome?.$case === "failure");
      // Of a batch some may be in the log and others not.
      if (failures.length > 0) {
        this.#trace(`${entry.key} ${entry.what}: ${failures.length} of ${results.length} failed`);
        return;
      }
      entry.token = token;
    } else {
      const { upserted, deleted, affected, errors, token } = answer as Partial<
        pb.UpsertResponse & pb.DeletePointsResponse & pb.WriteResponse
      >;
      if (entry.ack !== "log") {
        entry.affected = upserted ?? deleted ?? affected;
        entry.errors = errors?.map(({ code }) => code).sort();
      }
      entry.token = token;
    }
    entry.outcome = "ok";
    this.#see(entry.collection, entry.token);
    this.#trace(`${entry.key} ${entry.what}: ok, ${entry.ack}, ${printToken(entry.token)}`);
  }

  async read(collection: string): Promise<void> {
    const { world } = this.#cluster;
    const { random } = world;
    const startMs = world.nowMs;
    const atLeast = random.float() < 0.6 ? this.#tokens.get(collection) : undefined;
    const isLinearizable = atLeast === undefined && random.float() < 0.2;
    const consistency: pb.Consistency | undefined =
      atLeast !== undefined
        ? { level: { $case: "atLeast", value: atLeast } }
        : isLinearizable
          ? { level: { $case: "linearizable", value: true } }
          : undefined;
    try {
      const { token, answer } = await this.#ask(collection, consistency);
      if (token === undefined) return;
      this.#history.push({ kind: "read", client: this.name, collection, startMs, atLeast, token, answer });
      this.#see(collection, token);
      if ("points" in answer)
        for (const { id, version } of answer.points) this.#versions.set(`${collection}/${numOf(id)}`, version);
      this.#trace(`${answer.kind} ${collection} at ${printToken(atLeast)}: ${sizeOf(answer)} at ${printToken(token)}`);
    } catch (error) {
      this.#traceFailure(`read of ${collection}`, error);
    }
  }

  async #ask(
    collection: string,
    consistency: pb.Consistency | undefined,
  ): Promise<{ token: pb.Token | undefined; answer: ReadContent }> {
    const { random } = this.#cluster.world;
    const timeoutMs = 500 + random.float() * 5_000;
    const filter = random.float() < 0.4 ? `k = ${random.below(groupCount)}` : "";
    const wireFilter = filter === "" ? undefined : filterToWire(parseFilter(filter));
    switch (random.below(4)) {
      case 0: {
        const ids = this.#someIds(1 + random.below(4));
        const request: pb.GetPointsRequest = { collection, ids: ids.map(idOf), select: everything, consistency };
        const response = (await this.#call(timeoutMs, (api, call) =>
          api.points.get(request, call),
        )) as pb.GetPointsResponse;
        return { token: response.token, answer: { kind: "get", ids, points: response.points } };
      }
      case 1: {
        const request: pb.ScrollRequest = {
          ...pb.ScrollRequest.decode(noBytes),
          collection,
          limit: 100,
          select: everything,
          consistency,
        };
        const response = (await this.#call(timeoutMs, (api, call) =>
          api.points.scroll(request, call),
        )) as pb.ScrollResponse;
        return { token: response.token, answer: { kind: "scroll", points: response.points } };
      }
      case 2: {
        const request: pb.CountRequest = {
          collection,
          consistency,
          filter: wireFilter,
          approximate: false,
          explain: false,
        };
        const response = (await this.#call(timeoutMs, (api, call) =>
          api.points.count(request, call),
        )) as pb.CountResponse;
        return { token: response.token, answer: { kind: "count", filter, count: response.count } };
      }
      default: {
        const vector = Float32Array.of(random.below(60), random.below(20));
        const limit = 1 + random.below(6);
        const request: pb.QueryRequest = {
          ...pb.QueryRequest.decode(noBytes),
          collection,
          vector,
          limit,
          exact: true,
          select: everything,
          consistency,
          filter: wireFilter,
        };
        const answer = await this.#call(timeoutMs, (api, call) => api.points.query(request, call));
        const response = answer instanceof Encoded ? pb.QueryResponse.decode(answer.bytes) : answer;
        return { token: response.token, answer: { kind: "query", vector, limit, filter, points: response.points } };
      }
    }
  }

  /** A write as chance has it. */
  #plan(collection: string): PlannedWrite {
    const { random } = this.#cluster.world;
    const chance = random.float();
    if (chance < 0.45) return this.planUpsert(this.#someIds(1 + random.below(4)), collection);
    if (chance < 0.55) {
      const ids = this.#someIds(1 + random.below(3));
      const request = { ...pb.DeletePointsRequest.decode(noBytes), ids: ids.map(idOf) };
      return { method: "delete", request, what: `delete ${ids.join()}` };
    }
    if (chance < 0.6) {
      const filter = `k = ${random.below(groupCount)}`;
      const request = { ...pb.DeletePointsRequest.decode(noBytes), filter: filterToWire(parseFilter(filter)) };
      return { method: "delete", request, what: `delete where ${filter}` };
    }
    if (chance < 0.63) {
      // Three numbers for two dimensions: never written.
      const point = {
        id: idOf(1),
        vectors: { "": { values: Float32Array.of(1, 2, 3), indices: [] } },
        payload: noBytes,
        version: 0,
      };
      return {
        method: "upsert",
        request: { ...pb.UpsertRequest.decode(noBytes), points: [point] },
        what: "upsert of a wrong vector",
      };
    }
    if (chance < 0.7) {
      const writes = [
        this.#planParts(collection),
        this.planUpsert(this.#someIds(2), collection),
        this.#planParts(collection),
      ];
      const operations = writes.map(({ method, request }): pb.WriteOperation => {
        const value = { ...request, collection: "", options: undefined };
        return { operation: { $case: method, value } as pb.WriteOperation["operation"] };
      });
      return { method: "writeBatch", request: { operations }, what: writes.map(({ what }) => what).join(" + ") };
    }
    return this.#planParts(collection);
  }

  planUpsert(ids: readonly number[], collection: string): PlannedWrite {
    const { random } = this.#cluster.world;
    const serial = random.below(1_000);
    const points = ids.map((id) => {
      const payload =
        random.float() < 0.1 ? noBytes : Buffer.from(JSON.stringify({ w: serial, k: random.below(groupCount) }));
      return { id: idOf(id), vectors: { "": { values: vectorOf(serial, id), indices: [] } }, payload, version: 0 };
    });
    const chance = random.float();
    const mode =
      chance < 0.15 ? pb.UpsertMode.INSERT_ONLY : chance < 0.3 ? pb.UpsertMode.UPDATE_ONLY : pb.UpsertMode.UNSPECIFIED;
    const expectedVersions =
      random.float() < 0.15 ? ids.map((id) => this.#versions.get(`${collection}/${id}`) ?? 0) : [];
    const request = { ...pb.UpsertRequest.decode(noBytes), points, mode, expectedVersions };
    return {
      method: "upsert",
      request,
      what: `upsert ${mode === pb.UpsertMode.UNSPECIFIED ? "" : `mode ${mode} `}${ids.join()} as ${serial}`,
    };
  }

  #planParts(collection: string): PlannedWrite {
    const { random } = this.#cluster.world;
    const serial = random.below(1_000);
    const ids = this.#someIds(1 + random.below(3));
    const isByFilter = random.float() < 0.25;
    const filter = `k = ${random.below(groupCount)}`;
    const onlyIf = random.float() < 0.2 ? filterToWire(parseFilter(`k != ${random.below(groupCount)}`)) : undefined;
    const expectedVersions =
      !isByFilter && random.float() < 0.2 ? ids.map((id) => this.#versions.get(`${collection}/${id}`) ?? 0) : [];
    const target: pb.WriteTarget = {
      points: isByFilter
        ? { $case: "filter", value: filterToWire(parseFilter(filter)) }
        : { $case: "ids", value: { ids: ids.map(idOf) } },
      expectedVersions,
      onlyIf,
    };
    const where = isByFilter ? `where ${filter}` : ids.join();
    const payload = Buffer.from(
      JSON.stringify({ p: serial, ...(random.float() < 0.3 && { k: random.below(groupCount) }) }),
    );
    switch (random.below(5)) {
      case 0:
        return { method: "setPayload", request: { target, payload, path: "" }, what: `set ${serial} at ${where}` };
      case 1:
        return { method: "overwritePayload", request: { target, payload }, what: `overwrite ${serial} at ${where}` };
      case 2:
        return { method: "deletePayload", request: { target, paths: ["p"] }, what: `delete p at ${where}` };
      case 3:
        return { method: "clearPayload", request: { target }, what: `clear at ${where}` };
      default: {
        const points = ids.map((id) => ({
          id: idOf(id),
          vectors: { "": { values: vectorOf(serial, id), indices: [] } },
        }));
        return {
          method: "updateVectors",
          request: { points, expectedVersions, onlyIf },
          what: `move ${ids.join()} to ${serial}`,
        };
      }
    }
  }

  #someIds(count: number): number[] {
    const { random } = this.#cluster.world;
    const ids = new Set<number>();
    while (ids.size < count) ids.add(random.below(idCount));
    return [...ids];
  }

  /** Asks a router, chosen by chance. */
  #call<T>(timeoutMs: number, ask: (api: RouterApi, call: UnaryContext) => Promise<T>): Promise<T> {
    const { network } = this.#cluster;
    const router = this.#oneOf(this.#cluster.names("router"));
    const deadlineMs = this.process.clock.monotonicMs() + timeoutMs;
    return network.call(this.process, this.name, router, { deadlineMs }, unreachable, async (process, call) => {
      const controller = new AbortController();
      call.signal?.addEventListener("abort", () => controller.abort());
      const leftMs = (call.deadlineMs ?? 0) - process.clock.monotonicMs();
      process.clock.setTimer(() => controller.abort(new KithError("DEADLINE_EXCEEDED", "the deadline passed")), leftMs);
      const served: CallContext = {
        ...call,
        signal: controller.signal,
        cancellation: controller.signal,
        trace: untraced,
      };
      // Handlers take no more of a call than its context.
      return ask(this.#cluster.routerOf(process), served as unknown as UnaryContext);
    });
  }

  /** Of what was seen by then, of each shard the most. */
  #see(collection: string, token: pb.Token | undefined): void {
    if (token === undefined) return;
    const before = this.#tokens.get(collection);
    if (before === undefined || before.collectionId !== token.collectionId) {
      this.#tokens.set(collection, token);
      return;
    }
    const sequences = new Map(before.shards.map(({ shard, sequence }) => [shard, sequence]));
    for (const { shard, sequence } of token.shards) sequences.set(shard, Math.max(sequence, sequences.get(shard) ?? 0));
    const shards = [...sequences].map(([shard, sequence]) => ({ shard, sequence }));
    this.#tokens.set(collection, { shards, collectionId: token.collectionId });
  }

  #oneOf<T>(items: readonly T[]): T {
    return items[this.#cluster.world.random.below(items.length)] as T;
  }

  #trace(what: string): void {
    this.#cluster.world.trace(this.name, what);
  }

  #traceFailure(what: string, error: unknown): KithError {
    const failure = toKithError(error);
    this.#trace(`${what}: ${failure.code}, ${failure.message}`);
    // No error of the world: a mistake in a program, be it Kith or the simulation.
    if (!(error instanceof KithError))
      this.#cluster.ledger.violations.push(`${what} failed with ${(error as Error).stack}`);
    return failure;
  }
}

export function vectorOf(serial: number, id: number): Float32Array {
  return Float32Array.of((serial * 7 + id * 3) % 61, (serial + id) % 23);
}

export function idOf(id: number): pb.PointId {
  return { id: { $case: "num", value: BigInt(id) } };
}

export function numOf(id: pb.PointId | undefined): number {
  return id?.id?.$case === "num" ? Number(id.id.value) : Number.NaN;
}

function printToken(token: pb.Token | undefined): string {
  return token === undefined ? "any" : token.shards.map(({ shard, sequence }) => `${shard}:${sequence}`).join(" ");
}

function sizeOf(answer: ReadContent): string {
  return answer.kind === "count" ? String(answer.count) : `${answer.points.length} points`;
}
