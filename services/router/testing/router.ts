import { KithError, systemClock, systemRandom } from "../../../libs/base/index.js";
import { ShiftedClock } from "../../../libs/base/testing.js";
import type { Catalog, CatalogChange, CatalogEntry } from "../../../libs/catalog/index.js";
import { collectionsView, NodesView, Operations } from "../../../libs/cluster/index.js";
import type { Log } from "../../../libs/log/index.js";
import {
  type Collection,
  idMapKey,
  type OperationOutcome,
  type ReplicaPlacement,
  type ReplicaState,
  type ReplicaStatus,
  type ShardId,
  type ShardQuery,
} from "../../../libs/model/index.js";
import type { ReadAnswer, ReadKind, ReadRequest, ShardApi } from "../../../libs/shard-api/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import { untraced } from "../../../libs/telemetry/index.js";
import { evenRanges } from "../../../libs/sharding/index.js";
import { RoutingTable } from "../routing/routing-table.js";
import type { ShardNode } from "../routing/replica-handle.js";

/** A catalog in memory; `put` and `remove` are what others do to it. */
export class FakeCatalog implements Catalog {
  readonly #entries = new Map<string, CatalogEntry>();
  #quiet = false;
  readonly #watches = new Set<{ prefix: string; handlers: Parameters<Catalog["watch"]>[1] }>();
  #revision = 0;
  readonly available = true;

  get(key: string): Promise<CatalogEntry | undefined> {
    return Promise.resolve(this.#entries.get(key));
  }
  list(prefix: string): Promise<CatalogEntry[]> {
    return Promise.resolve([...this.#entries.values()].filter(({ key }) => key.startsWith(`${prefix}.`)));
  }
  create(key: string, value: string): Promise<CatalogEntry> {
    if (this.#entries.has(key)) return Promise.reject(new KithError("ALREADY_EXISTS", key));
    return Promise.resolve(this.put(key, value));
  }
  update(key: string, value: string, revision: number): Promise<CatalogEntry> {
    if (this.#entries.get(key)?.revision !== revision) return Promise.reject(new KithError("REVISION_MISMATCH", key));
    return Promise.resolve(this.put(key, value));
  }
  delete(key: string): Promise<void> {
    this.remove(key);
    return Promise.resolve();
  }
  watch(prefix: string, handlers: Parameters<Catalog["watch"]>[1]) {
    const watch = { prefix, handlers };
    this.#watches.add(watch);
    for (const entry of this.#entries.values())
      if (entry.key.startsWith(`${prefix}.`)) handlers.onChange({ kind: "put", entry });
    handlers.onReady?.();
    return { close: () => Promise.resolve(void this.#watches.delete(watch)) };
  }
  onAvailability(): () => void {
    return () => undefined;
  }
  close(): Promise<void> {
    return Promise.resolve();
  }

  put(key: string, value: string): CatalogEntry {
    const entry = { key, value, revision: ++this.#revision };
    this.#entries.set(key, entry);
    this.#tell({ kind: "put", entry });
    return entry;
  }
  remove(key: string): void {
    this.#entries.delete(key);
    this.#tell({ kind: "delete", key, revision: ++this.#revision });
  }
  /** What happens within is not told to those who watch: their watch is away. */
  quiet(change: () => void): void {
    this.#quiet = true;
    change();
    this.#quiet = false;
  }
  #tell(change: CatalogChange): void {
    if (this.#quiet) return;
    const key = change.kind === "put" ? change.entry.key : change.key;
    for (const { prefix, handlers } of this.#watches) if (key.startsWith(`${prefix}.`)) handlers.onChange(change);
  }
}

/** A log that appends at once. */
export class FakeLog implements Log {
  available = true;
  lastSequence = 0;
  readonly appended: ShardId[] = [];

  #state() {
    return { firstSequence: 1, lastSequence: this.lastSequence, incarnation: "1", sizeBytes: 0 };
  }
  create() {
    return Promise.resolve(this.#state());
  }
  remove(): Promise<void> {
    return Promise.resolve();
  }
  checksum() {
    return Promise.resolve(undefined);
  }
  state(_id: ShardId) {
    if (!this.available) return Promise.reject(new KithError("LOG_UNAVAILABLE", "no log"));
    return Promise.resolve(this.#state());
  }
  append(name: ShardId, _data: Uint8Array) {
    this.appended.push(name);
    return Promise.resolve({ sequence: ++this.lastSequence, duplicate: false });
  }
  subscribe() {
    return { close: () => Promise.resolve() };
  }
  trim(): Promise<void> {
    return Promise.resolve();
  }
  onAvailability(): () => void {
    return () => undefined;
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** A node whose replicas all have the same state; tests replace what they want to see called. */
export class FakeNode implements ShardNode, ShardApi {
  readonly zone = "";
  readonly api = this;
  usable = true;
  applied = 0;
  /** Whether what is waited for never comes. */
  hangs = false;
  /** How often something was waited for. */
  waits = 0;
  /** Ids that exist. */
  readonly ids = new Set<string>();
  queries: ShardQuery[] = [];

  /** `state`: "opening" for a replica that cannot be asked yet. */
  /** What it was told to have applied before it is active. */
  promised = 0;

  constructor(
    readonly id: string,
    public state: ReplicaState | "opening" = "active",
  ) {}

  read<K extends ReadKind>(kind: K, replica: ShardId, request: ReadRequest<K>): Promise<ReadAnswer<K>> {
    return this.reads[kind](replica, request);
  }
  readonly reads: { [K in ReadKind]: (replica: ShardId, request: ReadRequest<K>) => Promise<ReadAnswer<K>> } = {
    query: (_replica, query) => {
      this.queries.push(query);
      return Promise.resolve({ hits: [], plan: "exact", sequence: this.applied });
    },
    get: (_replica, { ids }) => {
      const points = ids
        .filter((id) => this.ids.has(idMapKey(id)))
        .map((id) => ({ id, version: 1, payload: new Uint8Array() }));
      return Promise.resolve({ points, sequence: this.applied });
    },
    scroll: () => Promise.resolve({ points: [], end: true, sequence: this.applied }),
    count: () => Promise.resolve({ count: 0, sequence: this.applied }),
    search: () => Promise.resolve({ hits: [], sequence: this.applied }),
    order: () => Promise.resolve({ hits: [], sequence: this.applied }),
    sample: () => Promise.resolve({ hits: [], sequence: this.applied }),
    facet: () => Promise.resolve({ counts: [], sequence: this.applied }),
  };
  wait = (_replica: ShardId, _sequence: number, operationIds: readonly Uint8Array[]): Promise<OperationOutcome[]> =>
    this.#waiting(() => operationIds.map(() => ({ affected: 1, failures: [] })));
  waitIndexed = (): Promise<number> => this.#waiting(() => 7);
  status = (_replica: ShardId, minSequences: number): Promise<ReplicaStatus> => {
    this.promised = Math.max(this.promised, minSequences);
    return this.#answering((state) => ({
      state,
      appliedSequence: this.applied,
      pointCount: 0,
      indexedVectorCount: 0,
      unindexedVectorCount: 0,
      memoryBytes: 0,
      diskBytes: 0,
      digest: "",
      digestFormat: 1,
      fault: "",
    }));
  };

  #waiting<T>(answer: () => T): Promise<T> {
    this.waits++;
    return this.hangs ? new Promise(() => undefined) : this.#answering(answer);
  }

  #answering<T>(answer: (state: ReplicaState) => T): Promise<T> {
    const { state } = this;
    if (state !== "opening") return Promise.resolve(answer(state));
    return Promise.reject(new KithError("SHARD_UNAVAILABLE", `node ${this.id} is still opening the replica`));
  }
}

export const call: CallContext = { trace: untraced, signal: undefined };

/** Placed on all `nodes`, each of its shards, which have these ids. */
export function collectionRecord(
  name: string,
  nodes: readonly string[],
  shardIds: readonly number[] = [0],
): Collection {
  const active = (node: string): ReplicaPlacement => ({ node, state: "active", sinceMs: 0 });
  return {
    id: `${name}1`,
    name,
    fields: [{ name: "", dimension: 2, metric: "l2", datatype: "f32", m: 16, efConstruction: 100, efSearch: 64 }],
    replicationFactor: nodes.length,
    epoch: 1,
    createdAtMs: 0,
    labels: {},
    state: "ready",
    nextShard: Math.max(...shardIds) + 1,
    shards: evenRanges(shardIds.length).map((slots, i) => ({
      shard: shardIds[i] as number,
      ...slots,
      epoch: 1,
      state: "active",
      replicas: nodes.map(active),
    })),
  };
}

/** What a router has around it: one ready collection "c" on `nodes`, with shards of these ids. `close` when done. */
export async function routed(nodes: readonly FakeNode[], shardIds?: readonly number[]) {
  const catalog = new FakeCatalog();
  const log = new FakeLog();
  const record = collectionRecord(
    "c",
    nodes.map(({ id }) => id),
    shardIds,
  );
  catalog.put("collections.c", JSON.stringify(record));
  const view = collectionsView(catalog);
  const clock = new ShiftedClock(systemClock);
  const random = systemRandom;
  const nodesView = new NodesView(catalog, clock);
  const operations = new Operations(catalog, clock);
  await Promise.all([view.start(), nodesView.start(), operations.start()]);
  const routingTable = new RoutingTable({
    collections: view,
    log,
    clock,
    random,
    zone: "",
    findNode: (id) => nodes.find((node) => node.id === id) as FakeNode,
  });
  const collectionsOptions = {
    view,
    operations,
    nodes: nodesView,
    routingTable,
    clock,
    random,
    defaultReplicationFactor: 1,
  };
  return {
    catalog,
    log,
    record,
    view,
    operations,
    routingTable,
    clock,
    collectionsOptions,
    close: () => routingTable.close(),
  };
}
