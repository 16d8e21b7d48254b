import { type Clock, KithError, type Random, type Timer } from "../../libs/base/index.js";
import type { ShardId, Snapshot, SnapshotPlace, TakenSnapshot } from "../../libs/model/index.js";

/** Snapshots that are given out or kept at once: each holds disk space, and reading one takes disk and processor from searches. */
const snapshotsMax = 2;
/** How long a snapshot that broke off can be gone on with. */
const keptMs = 120_000;

interface Kept {
  readonly id: string;
  readonly replica: ShardId;
  readonly taken: TakenSnapshot;
  /** Of those that read it now. */
  readerCount: number;
  /** Whether one of them has read it to its end. */
  isDone: boolean;
  timer: Timer | undefined;
}

/** The snapshots that a node gives out. One that breaks off is kept for some time, so that it can be gone on with. */
export class SnapshotShelf {
  readonly #nodeId: string;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #kept = new Map<string, Kept>();
  /** Of those that are being taken. */
  #takingCount = 0;

  constructor(nodeId: string, clock: Clock, random: Random) {
    this.#nodeId = nodeId;
    this.#clock = clock;
    this.#random = random;
  }

  /** RESOURCE_EXHAUSTED where so many are read that none can be given now. */
  async give(replica: ShardId, take: () => Promise<TakenSnapshot>): Promise<Snapshot> {
    await this.#makeRoom();
    this.#takingCount++;
    try {
      const kept: Kept = {
        id: this.#random.uuid(),
        replica,
        taken: await take(),
        readerCount: 0,
        isDone: false,
        timer: undefined,
      };
      this.#kept.set(kept.id, kept);
      return this.#open(kept, undefined);
    } finally {
      this.#takingCount--;
    }
  }

  /** NOT_FOUND where it is not kept any more. */
  resume({ collectionId, shard }: ShardId, place: SnapshotPlace): Snapshot {
    const { id } = place;
    const kept = this.#kept.get(id);
    if (kept?.replica.collectionId === collectionId && kept.replica.shard === shard) return this.#open(kept, place);
    throw new KithError("NOT_FOUND", `node ${this.#nodeId} does not hold the snapshot ${id} any more`, {
      details: { node: this.#nodeId, snapshot: id },
    });
  }

  async close(): Promise<void> {
    await Promise.all([...this.#kept.values()].map((kept) => this.#remove(kept)));
  }

  /** The one that nobody reads gives way. */
  async #makeRoom(): Promise<void> {
    if (this.#kept.size + this.#takingCount < snapshotsMax) return;
    const idle = [...this.#kept.values()].find(({ readerCount }) => readerCount === 0);
    if (idle !== undefined) return this.#remove(idle);
    throw new KithError(
      "RESOURCE_EXHAUSTED",
      `node ${this.#nodeId} is giving out ${snapshotsMax} snapshots already; try again later`,
      { details: { limit: snapshotsMax }, retryAfterMs: 5_000 },
    );
  }

  #open(kept: Kept, place: SnapshotPlace | undefined): Snapshot {
    kept.readerCount++;
    kept.timer?.close();
    const { taken, id } = kept;
    let isOpen = true;
    const close = async (): Promise<void> => {
      if (!isOpen) return;
      isOpen = false;
      kept.readerCount--;
      if (kept.readerCount > 0) return;
      if (kept.isDone) await this.#remove(kept);
      else kept.timer = this.#clock.setTimer(() => void this.#remove(kept), keptMs).unref();
    };
    const { manifest, chunks, blocks } = taken;
    return {
      manifest: { ...manifest, id },
      chunks: read(kept, () => chunks(place?.afterKey)),
      ...(blocks && { blocks: read(kept, () => blocks(place?.file)) }),
      close,
    };
  }

  async #remove(kept: Kept): Promise<void> {
    kept.timer?.close();
    if (this.#kept.delete(kept.id)) await kept.taken.close();
  }
}

async function* read<T>(kept: Kept, parts: () => AsyncIterable<T>): AsyncGenerator<T> {
  yield* parts();
  kept.isDone = true;
}
