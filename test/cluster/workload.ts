import { expect } from "vitest";
import {
  type ClusterInfo,
  type CollectionHandle,
  KithError,
  type KithClient,
  type PointInput,
  type ReadConsistency,
} from "../../libs/client/index.js";

export const dimension = 16;

/** A reproducible vector of a point in its n-th version. */
export function vectorOf(id: number, version: number): Float32Array {
  const vector = new Float32Array(dimension);
  let state = (id * 2_654_435_761 + version * 40_503 + 1) >>> 0;
  for (let i = 0; i < dimension; i++) {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
    vector[i] = state / 2 ** 31 - 1;
  }
  return vector;
}

export interface Payload extends Record<string, unknown> {
  version: number;
}

export function pointOf(id: number, version: number): PointInput<Payload> {
  return { id, vector: vectorOf(id, version), payload: { version } };
}

export function range(from: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => from + i);
}

/** What a failed call failed with. Anything but a typed error of Kith fails the test. */
export async function failureOf(call: Promise<unknown>): Promise<KithError | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    if (!(error instanceof KithError)) throw error;
    return error;
  }
}

/**
 * Writes points and remembers what was acknowledged. A write whose outcome is unknown (an error) may or may not have taken effect;
 * an acknowledged one must be there, or a later one of the same id. Writers that run at once must not share ids.
 */
export class Ledger {
  readonly acknowledged = new Map<number, number>();
  readonly attempted = new Map<number, number>();
  /** Ids whose deletion was acknowledged, with the newest version that it covered. */
  readonly deleted = new Map<number, number>();
  /** Ids whose deletion was tried with an unknown outcome: they may be there or not. */
  readonly doubtful = new Set<number>();
  /** Failed writes by error code. */
  readonly failures = new Map<string, number>();

  constructor(readonly handle: CollectionHandle<Payload>) {}

  /** Writes one new version of each id in one batch; false where that failed. */
  async write(ids: readonly number[], options: { deadlineMs?: number } = {}): Promise<boolean> {
    const batch = ids.map((id) => {
      const version = (this.attempted.get(id) ?? 0) + 1;
      this.attempted.set(id, version);
      return { id, version };
    });
    const points = batch.map(({ id, version }) => pointOf(id, version));
    const failure = await failureOf(this.handle.upsert(points, options));
    if (failure !== undefined) return this.#failed(failure);
    for (const { id, version } of batch) {
      this.acknowledged.set(id, version);
      this.doubtful.delete(id);
    }
    return true;
  }

  /** Deletes the ids in one batch; false where that failed. */
  async delete(ids: readonly number[], options: { deadlineMs?: number } = {}): Promise<boolean> {
    for (const id of ids) this.doubtful.add(id);
    const failure = await failureOf(this.handle.delete(ids, options));
    if (failure !== undefined) return this.#failed(failure);
    for (const id of ids) {
      this.doubtful.delete(id);
      this.acknowledged.delete(id);
      this.deleted.set(id, this.attempted.get(id) ?? 0);
    }
    return true;
  }

  #failed({ code }: KithError): false {
    this.failures.set(code, (this.failures.get(code) ?? 0) + 1);
    return false;
  }

  /** Writes `count` points with ids from `from` in large batches: enough rows for the graph. */
  async fill(from: number, count: number): Promise<void> {
    for (let at = 0; at < count; at += 5_000) {
      expect(await this.write(range(from + at, Math.min(5_000, count - at)))).toBe(true);
    }
  }

  /** Every acknowledged write is there, whole; no deleted point is; and nothing that was never written. */
  async verify(consistency: ReadConsistency = "linearizable"): Promise<void> {
    const found = new Map<number, number>();
    const wrong: string[] = [];
    for await (const point of this.handle.scroll({ batch: 2_000, withVectors: true, consistency })) {
      const id = Number(point.id);
      const version = point.payload?.version ?? -1;
      if (found.has(id)) wrong.push(`point ${id} came twice`);
      if (version > (this.attempted.get(id) ?? -1)) wrong.push(`point ${id} has version ${version}, never written`);
      if (version <= (this.deleted.get(id) ?? 0)) wrong.push(`point ${id} was deleted and has version ${version}`);
      if (!isEqual(point.vector, vectorOf(id, version))) wrong.push(`point ${id} has the vector of another version`);
      found.set(id, version);
    }
    for (const [id, version] of this.acknowledged) {
      const present = found.get(id);
      if (present === undefined ? !this.doubtful.has(id) : present < version) {
        wrong.push(`point ${id} was acknowledged in version ${version} and is there in version ${present}`);
      }
    }
    expect(wrong.slice(0, 10), `${wrong.length} points are wrong`).toEqual([]);
    expect(await this.handle.count({ consistency })).toBe(found.size);
  }

  /** Share of points whose own vector finds them first. */
  async selfRecall(sample = 100): Promise<number> {
    const chosen = this.#sample(sample);
    const points = await this.handle.get(chosen, { withVectors: true });
    const found = await Promise.all(
      points.map(
        async ({ id, vector }) =>
          (await this.handle.query({ vector, limit: 1, deadlineMs: 8000 })).points[0]?.id === id,
      ),
    );
    return found.filter(Boolean).length / chosen.length;
  }

  /** Share of the ten true neighbours that a search of the graph finds. */
  async recall(sample = 50): Promise<number> {
    const shares = await Promise.all(
      this.#sample(sample).map(async (id) => {
        const vector = vectorOf(id, 1_000_003);
        const [truth, found] = await Promise.all([
          this.handle.query({ vector, limit: 10, exact: true, deadlineMs: 8000 }),
          this.handle.query({ vector, limit: 10, deadlineMs: 8000 }),
        ]);
        const ids = new Set(truth.points.map((point) => point.id));
        return found.points.filter((point) => ids.has(point.id)).length / Math.max(1, ids.size);
      }),
    );
    return shares.reduce((sum, share) => sum + share, 0) / shares.length;
  }

  #sample(count: number): number[] {
    const ids = [...this.acknowledged.keys()].filter((id) => !this.doubtful.has(id));
    const step = Math.max(1, Math.floor(ids.length / count));
    return ids.filter((_, i) => i % step === 0);
  }
}

function isEqual(a: Float32Array | undefined, b: Float32Array): boolean {
  return a !== undefined && a.length === b.length && a.every((value, i) => value === b[i]);
}

type Shard = ClusterInfo["shards"][number];

/** There are shards, and each has so many replicas, all of them active and at the end of its log. */
export async function expectCaughtUp(client: KithClient, replicas: number): Promise<Shard[]> {
  const { shards } = await client.cluster.describe();
  expect(shards.length, "shards of the cluster").toBeGreaterThan(0);
  for (const shard of shards) {
    expect(
      shard.replicas.map((replica) => replica.state),
      `states of shard ${shard.shard}: ${shard.replicas.map((replica) => replica.fault).join("; ")}`,
    ).toEqual(new Array(replicas).fill("active"));
    const sequences = new Set(shard.replicas.map((replica) => replica.appliedSequence));
    expect(sequences, `applied sequences of shard ${shard.shard}`).toEqual(new Set([shard.logSequence]));
  }
  return shards;
}

/** All replicas have caught up, and those of a shard, two at least, have the same digest. */
export async function compareDigests(client: KithClient, replicas: number): Promise<void> {
  expect(replicas, "replicas to compare").toBeGreaterThan(1);
  for (const shard of await expectCaughtUp(client, replicas)) {
    expect(new Set(shard.replicas.map((replica) => replica.digest)).size, `digests of shard ${shard.shard}`).toBe(1);
  }
}

/** The replica of shard 0 of a collection on a node, as the cluster describes it. */
export function replicaOn(info: ClusterInfo, node: string, collection?: string): Shard["replicas"][number] {
  const shard = info.shards.find((each) => collection === undefined || each.collection === collection);
  const replica = shard?.replicas.find((each) => each.node === node);
  if (replica === undefined) throw new Error(`no replica on ${node}`);
  return replica;
}
