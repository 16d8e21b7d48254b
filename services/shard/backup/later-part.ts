import { rm } from "node:fs/promises";
import { type BackedCollection, type BackupPart, forEachPoint, type Until } from "../../../libs/backup/index.js";
import { makeFolder, type Runtime } from "../../../libs/base/index.js";
import type { KeyRing } from "../../../libs/encryption/index.js";
import { putFiles, type RefilledPoint, refillStore, replay, type Replayed } from "../../../libs/engine/index.js";
import type { Log } from "../../../libs/log/index.js";
import type { ipb } from "../../../libs/wire/index.js";
import type { PointSource } from "./feed-part.js";
import type { PartFiles } from "./part-files.js";

export interface LaterPartOptions extends Runtime {
  /** Where the replica comes together; emptied before and afterwards. */
  folder: string;
  collection: BackedCollection;
  part: BackupPart;
  /** What it holds: its files; or its points, and what the last operations did. */
  content: PartFiles | { outcomes: Buffer; points: PointSource };
  /** Missing: its state as it was backed up. */
  until?: Until | undefined;
  log: Log;
  /** Encrypts what the replica keeps. */
  keys?: KeyRing | undefined;
  signal: AbortSignal;
}

/**
 * The state of a shard as it was backed up, or some time after that: a replica is made of the part, which nobody sees, and applies the records of the log
 * behind it. Only a replica can tell what they did: conditions, filters and parts of payloads depend on what was there.
 */
export async function laterPart(options: LaterPartOptions): Promise<Replayed> {
  const { folder, collection, part, until, log, clock, random, signal, keys } = options;
  await rm(folder, { recursive: true, force: true });
  await makeFolder(folder);
  const remove = (): Promise<void> => rm(folder, { recursive: true, force: true });
  try {
    const { shard } = part;
    await fill(options);
    const whole = { ...collection, epoch: 0, createdAtMs: 0, state: "ready" as const, nextShard: 0, shards: [] };
    const replayed = await replay({
      ...{ directory: folder, store: { keys }, collection: whole, shard, log, until, clock, random, signal },
    });
    const close = async (): Promise<void> => {
      await replayed.close();
      await remove();
    };
    return { ...replayed, close };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function fill({ folder, collection, part, content, random, keys, signal }: LaterPartOptions): Promise<void> {
  const { shard, incarnation } = part;
  if ("manifest" in content) {
    const { manifest } = content;
    const name = { collectionId: collection.id, shard };
    return putFiles(folder, { name, manifest, blocks: content.blocks(), signal });
  }
  const bodies = { schema: Buffer.from(part.schema), state: Buffer.from(part.state) };
  await refillStore(
    folder,
    {
      ...{ collectionId: collection.id, shard, incarnation, ...bodies },
      outcomes: outcomesOf(content.outcomes),
      points: refilled(content.points),
    },
    random,
    { keys },
  );
}

function* outcomesOf(bytes: Buffer): Iterable<{ sequence: number; body: Uint8Array }> {
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32LE(at + 8);
    yield { sequence: Number(bytes.readBigUInt64LE(at)), body: bytes.subarray(at + 12, at + 12 + length) };
    at += 12 + length;
  }
}

async function* refilled(source: PointSource): AsyncGenerator<RefilledPoint[]> {
  for await (const { points } of source) {
    const ghosts = new Map<number, ipb.BackupGhost[]>();
    for (const ghost of points.ghosts) ghosts.set(ghost.row, [...(ghosts.get(ghost.row) ?? []), ghost]);
    const all: RefilledPoint[] = [];
    await forEachPoint(points, (row, parts) => {
      const whole: RefilledPoint["parts"][number][] = parts.map(
        ({ column: { kind, field, name }, version, bytes }) => ({
          ...{ kind, field, name, version, bytes },
        }),
      );
      for (const { position, hash, kind, field, version, length } of ghosts.get(row) ?? []) {
        whole.splice(position, 0, { kind, field, version, length, hash: Buffer.from(hash).readBigUInt64LE() });
      }
      all.push({
        id: points.ids[row] as Uint8Array,
        version: points.versions[row] as number,
        expiresAtMs: points.expiresAtMs[row] || undefined,
        parts: whole,
      });
    });
    yield all;
  }
}
