import { expect } from "vitest";
import { type CollectionHandle, KithError, type KithClient, type PointInput } from "../../libs/client/index.js";

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

/**
 * Writes points and remembers what was acknowledged. A write whose outcome is unknown (an error) may or may not have taken effect;
 * an acknowledged one must be there, or a later one of the same id.
 */
export class Ledger {
  readonly acknowledged = new Map<number, number>();
  readonly attempted = new Map<number, number>();
  readonly failures = new Map<string, number>();

  constructor(readonly handle: CollectionHandle<Payload>) {}

  /** Writes one new version of each id in one batch. */
  async write(ids: readonly number[], options: { deadlineMs?: number } = {}): Promise<boolean> {
    const batch = ids.map((id) => {
      const version = (this.attempted.get(id) ?? 0) + 1;
      this.attempted.set(id, version);
      return { id, version };
    });
    try {
      await this.handle.upsert(
        batch.map(({ id, version }) => pointOf(id, version)),
        options,
      );
    } catch (error) {
      if (!(error instanceof KithError)) throw error;
      this.failures.set(error.code, (this.failures.get(error.code) ?? 0) + 1);
      return false;
    }
    for (const { id, version } of batch) this.acknowledged.set(id, version);
    return true;
  }

  /** Every acknowledged write is there, whole, and nothing that was never written. */
  async verify(): Promise<void> {
    const found = new Map<number, number>();
    for await (const point of this.handle.scroll({ batch: 1000, withVectors: true, consistency: "linearizable" })) {
      const id = Number(point.id);
      const version = point.payload?.version ?? -1;
      expect(version, `version of point ${id}`).toBeLessThanOrEqual(this.attempted.get(id) ?? -1);
      expect([...(point.vector ?? [])], `vector of point ${id} in version ${version}`).toEqual([
        ...vectorOf(id, version),
      ]);
      found.set(id, version);
    }
    for (const [id, version] of this.acknowledged) {
      expect(found.get(id) ?? 0, `acknowledged version of point ${id}`).toBeGreaterThanOrEqual(version);
    }
    expect(await this.handle.count({ consistency: "linearizable" })).toBe(found.size);
  }

  /** Share of points whose own vector finds them first. */
  async selfRecall(sample = 100): Promise<number> {
    const ids = [...this.acknowledged.keys()];
    const step = Math.max(1, Math.floor(ids.length / sample));
    const chosen = ids.filter((_, i) => i % step === 0);
    const found = await Promise.all(
      chosen.map(async (id) => {
        const [point] = await this.handle.get([id], { withVectors: true });
        const { points } = await this.handle.query({ vector: point?.vector, limit: 1 });
        return points[0]?.id === id;
      }),
    );
    return found.filter(Boolean).length / found.length;
  }
}

/** Replicas of a shard at the same sequence have the same digest; returns how many shards were compared. */
export async function compareDigests(client: KithClient, replicas: number): Promise<number> {
  const { shards } = await client.cluster.describe();
  for (const shard of shards) {
    expect(
      shard.replicas.map((replica) => replica.state),
      `states of shard ${shard.shard}`,
    ).toEqual(new Array(replicas).fill("active"));
    const sequences = new Set(shard.replicas.map((replica) => replica.appliedSequence));
    expect(sequences, `applied sequences of shard ${shard.shard}`).toEqual(new Set([shard.logSequence]));
    expect(new Set(shard.replicas.map((replica) => replica.digest)).size, `digests of shard ${shard.shard}`).toBe(1);
  }
  return shards.length;
}
