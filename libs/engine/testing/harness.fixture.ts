import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createIndex, loadIndex } from "../../ann/index.js";
import { sleep, systemClock, systemRuntime } from "../../base/index.js";
import { type Log, openEmbeddedLog } from "../../log/index.js";
import {
  type Collection,
  idFromNum,
  type IdKey,
  type ReplicaStatus,
  type Select,
  type SnapshotWanted,
  sparseToBytes,
  type VectorField,
} from "../../model/index.js";
import type { CallContext } from "../../call/index.js";
import { partKind } from "../../storage/index.js";
import { noTrace } from "../../telemetry/index.js";
import { encodeRecord, floatsToBytes, type ipb, pb } from "../../wire/index.js";
import { addHash, formatDigest, partHash, partSeed, pointHash } from "../../hash/index.js";
import { exactIndexes } from "./exact-index.fixture.js";
import {
  type Alarm,
  type IndexFactory,
  type PeerSnapshot,
  Replica,
  type ReplicaOptions,
  type ReplicaTuning,
} from "../index.js";
import type { OpenStore } from "../recover/recovery.js";

export const call: CallContext = { trace: noTrace };
export const nothing: Select = { payload: false, vectors: [] };
export const everything: Select = { payload: true, vectors: "all" };

/** Small thresholds, so that checkpoints, generations and batches happen in short histories too. */
export const smallTuning: Partial<ReplicaTuning> = {
  checkpointRowsOnClose: 1,
  retryInitialMs: 5,
  retryMaxMs: 20,
};

export const nativeIndexes: IndexFactory = { create: createIndex, load: (path, options) => loadIndex(path, options) };

/** Every suite runs on the exact double and on the native index. */
export const factories: [string, IndexFactory][] = [
  ["exact double", exactIndexes],
  ["native index", nativeIndexes],
];

export function field(name = "", dimension = 4): VectorField {
  return { name, dimension, metric: "l2", datatype: "f32", m: 8, efConstruction: 64, efSearch: 64 };
}

export function collectionOf(...fields: VectorField[]): Collection {
  return {
    id: "c1",
    name: "things",
    fields: fields.length === 0 ? [field()] : fields,
    replicationFactor: 1,
    epoch: 1,
    createdAtMs: 0,
    labels: {},
    state: "ready",
    nextShard: 1,
    payloadIndexes: [],
    schemaVersion: 1,
    shards: [],
  };
}

export interface Item {
  id: IdKey | number;
  vector?: Float32Array | number[];
  vectors?: Record<string, number[]>;
  payload?: unknown;
}

export interface OperationOptions {
  id?: Uint8Array;
  mode?: pb.UpsertMode;
  traceparent?: string;
}

export function idOf(id: IdKey | number): Buffer {
  return Buffer.from(typeof id === "number" ? idFromNum(id) : id);
}

function bytesOf(rows: (Float32Array | number[])[]): Buffer {
  return Buffer.concat(rows.map((row) => Buffer.from(floatsToBytes(Float32Array.from(row)))));
}

/** All items of one operation have the same fields. */
export function upsert(items: Item[], options: OperationOptions = {}): ipb.Operation {
  const [first] = items;
  const vectors: pb.VectorColumn[] = [];
  if (first?.vector !== undefined)
    vectors.push({ name: "", matrix: bytesOf(items.map((item) => item.vector ?? [])), rows: [] });
  for (const name of Object.keys(first?.vectors ?? {})) {
    vectors.push({ name, matrix: bytesOf(items.map((item) => item.vectors?.[name] ?? [])), rows: [] });
  }
  const hasPayload = items.some((item) => item.payload !== undefined);
  const payloads = items.map(({ payload }) => Buffer.from(payload === undefined ? "" : JSON.stringify(payload)));
  return {
    operationId: Buffer.from(options.id ?? randomBytes(16)),
    traceparent: options.traceparent ?? "",
    mutation: {
      $case: "upsert",
      value: {
        mode: options.mode ?? pb.UpsertMode.UNSPECIFIED,
        ids: items.map(({ id }) => idOf(id)),
        vectors,
        payloads: hasPayload ? payloads : [],
      },
    },
  };
}

export function remove(ids: (IdKey | number)[], options: OperationOptions = {}): ipb.Operation {
  return {
    operationId: Buffer.from(options.id ?? randomBytes(16)),
    traceparent: "",
    mutation: { $case: "delete", value: { ids: ids.map(idOf) } },
  };
}

export interface TargetOptions extends Partial<Omit<ipb.Target, "ids">> {
  ids?: (IdKey | number)[];
}

export function target({ ids = [], ...options }: TargetOptions): ipb.Target {
  const none = new Uint8Array(0);
  return { ids: ids.map(idOf), filter: none, expectedVersions: [], onlyIf: none, ...options };
}

/** An operation of any kind. */
export function operationOf(mutation: ipb.Operation["mutation"], options: OperationOptions = {}): ipb.Operation {
  return { operationId: Buffer.from(options.id ?? randomBytes(16)), traceparent: "", mutation };
}

export class World {
  readonly directory: string;
  readonly alarms: Alarm[] = [];
  readonly collection: Collection;
  readonly indexes: IndexFactory;
  log: Log;
  #timeMs = 1_000_000;
  readonly #replicas = new Set<Replica>();

  private constructor(directory: string, log: Log, collection: Collection, indexes: IndexFactory) {
    this.directory = directory;
    this.log = log;
    this.collection = collection;
    this.indexes = indexes;
  }

  static async make(options: { collection?: Collection; indexes?: IndexFactory } = {}): Promise<World> {
    const directory = await mkdtemp(join(tmpdir(), "kith-engine-"));
    const log = await openEmbeddedLog({ directory: join(directory, "log"), ...systemRuntime });
    const collection = options.collection ?? collectionOf();
    await log.create({ collectionId: collection.id, shard: 0 });
    return new World(directory, log, collection, options.indexes ?? exactIndexes);
  }

  get logName(): { collectionId: string; shard: number } {
    return { collectionId: this.collection.id, shard: 0 };
  }

  replicaDirectory(name = "a"): string {
    return join(this.directory, `replica-${name}`);
  }

  async open(options: Partial<ReplicaOptions> & { name?: string } = {}, openStore?: OpenStore): Promise<Replica> {
    const { name, tuning, ...rest } = options;
    const replica = await Replica.open(
      {
        directory: this.replicaDirectory(name),
        collection: this.collection,
        shard: 0,
        log: this.log,
        ...systemRuntime,
        indexes: this.indexes,
        onAlarm: (alarm) => this.alarms.push(alarm),
        ...rest,
        tuning: { ...smallTuning, ...tuning },
      },
      openStore,
    );
    this.#replicas.add(replica);
    return replica;
  }

  /** Appends one record; gives its sequence. */
  async append(operations: ipb.Operation[], options: { appendedAtMs?: number } = {}): Promise<number> {
    const appendedAtMs = options.appendedAtMs ?? this.#timeMs++;
    return this.appendRaw(encodeRecord({ epoch: 1, appendedAtMs, operations }));
  }

  async appendRaw(data: Uint8Array): Promise<number> {
    const messageId = randomBytes(8).toString("hex");
    return (await this.log.append(this.logName, data, { messageId })).sequence;
  }

  async end(): Promise<void> {
    for (const replica of this.#replicas) await replica.close();
    await this.log.close();
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** What a peer gives by its entries, as one of a release that knows of nothing else: the whole snapshot, or its rest, under the id "kept". */
export async function given(replica: Replica, wanted: SnapshotWanted): Promise<PeerSnapshot> {
  const { manifest, chunks, close } = await replica.snapshot({ ...wanted, takesFiles: false });
  return { manifest: { ...manifest, id: "kept" }, chunks: chunks(wanted.resume?.afterKey), close, from: "peer" };
}

/** Polls until `check` gives something other than undefined or false. */
export async function eventually<T>(what: string, check: () => T | Promise<T>): Promise<NonNullable<T>> {
  for (let waitedMs = 0; ; waitedMs += 5) {
    const found = await check();
    if (found !== undefined && found !== false && found !== null) return found;
    if (waitedMs > 15_000) throw new Error(`it never happened: ${what}`);
    await sleep(systemClock, 5);
  }
}

/** The replica, once it has caught up with its log. */
export async function active(replica: Replica): Promise<Replica> {
  await eventually("active", () => replica.status().state === "active");
  return replica;
}

/**
 * What the replica's digest and number of points must be, from what it gives out. Only while no records arrive.
 *
 * @param matrices the fields of these
 */
export async function recomputed(
  replica: Replica,
  matrices: readonly string[] = [],
): Promise<Pick<ReplicaStatus, "digest" | "pointCount">> {
  let digest = 0n;
  let pointCount = 0;
  for (let after: IdKey | undefined; ; ) {
    const { points, end } = await replica.read(
      "scroll",
      { after, limit: 1_000, select: everything, minSequence: replica.appliedSequence },
      call,
    );
    for (const { id, version, payload, vectors, sparse } of points) {
      const named = [...(vectors ?? [])].sort(([a], [b]) => (a < b ? -1 : 1));
      const partsOf = (kind: number, wanted: boolean): { hash: bigint }[] =>
        named
          .filter(([name]) => matrices.includes(name) === wanted)
          .map(([name, vector]) => ({ hash: partHash(partSeed(kind, name, version), floatsToBytes(vector)) }));
      const parts = partsOf(partKind.vector, false);
      if (payload.length > 0) parts.push({ hash: partHash(partSeed(partKind.payload, "", version), payload) });
      for (const [name, vector] of [...(sparse ?? [])].sort(([a], [b]) => (a < b ? -1 : 1))) {
        parts.push({ hash: partHash(partSeed(partKind.sparse, name, version), sparseToBytes(vector)) });
      }
      parts.push(...partsOf(partKind.multi, true));
      digest = addHash(digest, pointHash(id, version, undefined, parts));
      pointCount++;
    }
    if (end) return { digest: formatDigest(digest), pointCount };
    after = points.at(-1)?.id;
  }
}

/** Numbers in [-1, 1) from a seed. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state / 2 ** 32) * 2 - 1;
  };
}
