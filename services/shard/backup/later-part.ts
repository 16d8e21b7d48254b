import { rm } from "node:fs/promises";
import { type BackedCollection, type BackupPart, forEachPoint, type Until } from "../../../libs/backup/index.js";
import { crc32c, KithError, makeFolder, type Runtime } from "../../../libs/base/index.js";
import type { KeyRing } from "../../../libs/encryption/index.js";
import { type RefilledPoint, refillStore, replay, type Replayed } from "../../../libs/engine/index.js";
import type { Log } from "../../../libs/log/index.js";
import type { ipb } from "../../../libs/wire/index.js";
import type { PointSource } from "./feed-part.js";

export interface LaterPartOptions extends Runtime {
  /** Where the replica comes together; emptied before and afterwards. */
  folder: string;
  collection: BackedCollection;
  part: BackupPart;
  /** Of the part, as its file holds it. */
  outcomes: Buffer;
  points: PointSource;
  until: Until;
  log: Log;
  /** Encrypts what the replica keeps. */
  keys?: KeyRing | undefined;
  signal: AbortSignal;
}

/**
 * The state of a shard some time after its backup: a replica is made of the part, which nobody sees, and applies the records of the log
 * behind it. Only a replica can tell what they did: conditions, filters and parts of payloads depend on what was there.
 */
export async function laterPart(options: LaterPartOptions): Promise<Replayed> {
  const { folder, collection, part, outcomes, points, until, log, clock, random, signal, keys } = options;
  if (crc32c(outcomes) !== part.outcomes.crc32c) {
    throw new KithError("CORRUPT_DATA", `the file ${part.outcomes.file} of a backup has a wrong checksum`);
  }
  await rm(folder, { recursive: true, force: true });
  await makeFolder(folder);
  const remove = (): Promise<void> => rm(folder, { recursive: true, force: true });
  try {
    const { shard, incarnation } = part;
    const bodies = { schema: Buffer.from(part.schema), state: Buffer.from(part.state) };
    await refillStore(
      folder,
      {
        ...{ collectionId: collection.id, shard, incarnation, ...bodies },
        outcomes: outcomesOf(outcomes),
        points: refilled(points),
      },
      random,
      { keys },
    );
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
