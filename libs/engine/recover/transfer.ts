import { readFile, rename, writeFile } from "node:fs/promises";
import { abortReason, backoffMs, type Clock, KithError, type Random, sleep, toKithError } from "../../base/index.js";
import type { CopyProgress, FollowedShard, ShardId, SnapshotManifest, SnapshotWanted } from "../../model/index.js";
import type { Log } from "../../log/index.js";
import { StoreCopy, type StoreOptions } from "../../storage/index.js";
import { copyDirectory, copyOriginPath, removeCopy } from "../replica/layout.js";
import type { Alarm, Peers, PeerSnapshot } from "../replica/options.js";
import { FilesCopy } from "./files-copy.js";
import { decodeSchema, type StoreIdentity, toJson } from "./schema.js";
import { FollowedShare } from "./share.js";

/** A transfer that breaks off is gone on with so often, as long as nothing more has come. */
const resumesMax = 6;
const resumeBackoff = { initialMs: 200, maxMs: 5_000 };

export interface CopyOptions {
  log: Log;
  clock: Clock;
  random: Random;
  name: ShardId;
  /** Whose log it is to follow, if not its own: only some points of that shard are taken. */
  follows: FollowedShard | undefined;
  /** Of that log, or its own. */
  logName: ShardId;
  directory: string;
  /** Of the store that is filled. */
  store?: Partial<StoreOptions> | undefined;
  signal: AbortSignal;
  /** Whether what has come stays where the replica is closed meanwhile: the next process goes on with it. */
  keepsPart: boolean;
  pace?: ((sizeBytes: number, signal: AbortSignal) => Promise<void>) | undefined;
  onAlarm(alarm: Alarm): void;
  onProgress(text: string, progress: CopyProgress): void;
}

/** Where a copy comes from. */
interface Origin {
  from: string;
  manifest: SnapshotManifest;
}

/**
 * A snapshot on its way into a copy. Where it breaks off it is gone on with behind the last entry that has come: by this process, or by the
 * next one, which finds beside the copy where that comes from.
 */
export class Transfer {
  /** Whether what has come is what was sent. */
  #isSound = true;

  private constructor(
    private readonly copy: StoreCopy | FilesCopy,
    public snapshot: PeerSnapshot,
    private readonly storeId: string,
    private readonly peers: Peers,
    private readonly wanted: SnapshotWanted,
    private readonly options: CopyOptions,
  ) {}

  static async begin(
    peers: Peers,
    wanted: SnapshotWanted,
    snapshot: PeerSnapshot,
    options: CopyOptions,
  ): Promise<Transfer> {
    const { directory } = options;
    await removeCopy(directory);
    const { from, manifest } = snapshot;
    const storeId = options.random.uuid();
    const copy =
      manifest.files === undefined
        ? await StoreCopy.create(copyDirectory(directory), shareOf(options, storeId, manifest), options.store)
        : await FilesCopy.create(directory, manifest);
    await writeOrigin(directory, { from, manifest });
    return new Transfer(copy, snapshot, storeId, peers, wanted, options);
  }

  /** Undefined where nothing was begun, or it cannot be gone on with: then it is removed. */
  static async resume(peers: Peers, wanted: SnapshotWanted, options: CopyOptions): Promise<Transfer | undefined> {
    const { directory } = options;
    const origin = await readOrigin(directory);
    if (origin === undefined) return undefined;
    const { manifest } = origin;
    let copy: StoreCopy | FilesCopy | undefined;
    try {
      const storeId = options.random.uuid();
      copy =
        manifest.files === undefined
          ? await StoreCopy.reopen(copyDirectory(directory), shareOf(options, storeId, manifest), options.store)
          : await FilesCopy.reopen(directory, manifest);
      const snapshot = await resumed(peers, origin, wanted, copy, options.signal);
      if (snapshot !== undefined) return new Transfer(copy, snapshot, storeId, peers, wanted, options);
    } catch (error) {
      if (options.signal.aborted) {
        await copy?.close();
        throw error;
      }
      options.onAlarm({
        kind: "copy_restarted",
        message: `the copy that was begun cannot be gone on with, and begins from the start: ${toKithError(error).message}`,
      });
    }
    await copy?.close();
    await removeCopy(directory);
    return undefined;
  }

  /** Resolves when all has come. What has come is kept for the next process where this one is closing, and removed after a failure. */
  async receive(onBytes: (sizeBytes: number) => void): Promise<void> {
    const { copy } = this;
    const { signal, clock, random } = this.options;
    let broken: unknown;
    for (let failures = 0; ; ) {
      const before = copy.sizeBytes;
      onBytes(before);
      try {
        if (broken !== undefined) await this.#goOn(broken);
        await this.#takeAll(onBytes);
        if (signal.aborted) throw abortReason(signal);
        return;
      } catch (error) {
        await this.close();
        if (signal.aborted) {
          if (!this.options.keepsPart) await this.#discard();
          throw abortReason(signal);
        }
        failures = copy.sizeBytes > before ? 1 : failures + 1;
        if (!this.#isSound || !mayGoOn(error) || failures > resumesMax) {
          await this.#discard();
          throw error;
        }
        broken = error;
        await sleep(clock, backoffMs(failures - 1, resumeBackoff, random), signal);
      }
    }
  }

  /** Lets go of the snapshot. */
  async close(): Promise<void> {
    await this.snapshot.close();
  }

  /** Makes what has come the content of a replica, on the disk, to be put in the place of what was before. */
  async finish(identity: Omit<StoreIdentity, "storeId">): Promise<void> {
    const { copy, storeId, snapshot } = this;
    try {
      if (copy instanceof FilesCopy) await copy.finish(identity);
      else {
        await copy.finish(toJson({ ...identity, storeId }), snapshot.manifest.pointCount, (schema) =>
          decodeSchema(schema).fields.map(({ number }) => number),
        );
      }
    } catch (error) {
      await this.#discard();
      throw error;
    }
  }

  /** Lets go of all. What has come stays. */
  async end(): Promise<void> {
    await this.close();
    await this.copy.close();
  }

  async #takeAll(onBytes: (sizeBytes: number) => void): Promise<void> {
    const { copy, snapshot } = this;
    if (copy instanceof FilesCopy) {
      if (snapshot.blocks === undefined) throw new KithError("CORRUPT_DATA", "the snapshot names files, and has none");
      for await (const block of snapshot.blocks) await this.#take(() => copy.add(block), onBytes);
    } else {
      for await (const chunk of snapshot.chunks) await this.#take(() => copy.add(chunk), onBytes);
    }
  }

  async #discard(): Promise<void> {
    await this.copy.close();
    await removeCopy(this.options.directory);
  }

  async #take(add: () => Promise<void>, onBytes: (sizeBytes: number) => void): Promise<void> {
    const { signal, pace } = this.options;
    const before = this.copy.sizeBytes;
    try {
      await add();
    } catch (error) {
      // What is on the disk may be anything.
      this.#isSound = false;
      throw error;
    }
    onBytes(this.copy.sizeBytes);
    if (signal.aborted) throw abortReason(signal);
    await pace?.(this.copy.sizeBytes - before, signal);
  }

  /** Asks for the rest; rejects with why it broke off where that is not offered. */
  async #goOn(broken: unknown): Promise<void> {
    const { from, manifest } = this.snapshot;
    const snapshot = await resumed(this.peers, { from, manifest }, this.wanted, this.copy, this.options.signal);
    if (snapshot === undefined) {
      this.#isSound = false;
      throw broken;
    }
    this.snapshot = snapshot;
  }
}

/** Undefined where all points are taken. */
function shareOf(
  { follows }: CopyOptions,
  storeId: string,
  { withChanges = false }: SnapshotManifest,
): FollowedShare | undefined {
  return follows && new FollowedShare(follows, storeId, withChanges);
}

/** The snapshot's rest; undefined where the peers, or the snapshot, do not offer that. */
async function resumed(
  peers: Peers,
  { from, manifest }: Origin,
  wanted: SnapshotWanted,
  { next }: Pick<StoreCopy | FilesCopy, "next">,
  signal: AbortSignal,
): Promise<PeerSnapshot | undefined> {
  const isFit = manifest.incarnation === wanted.incarnation && manifest.sequence >= wanted.minSequence;
  if (peers.resume === undefined || manifest.id === "" || next === undefined || !isFit) return undefined;
  return peers.resume(from, { ...wanted, resume: { id: manifest.id, ...next } }, signal);
}

/** Whether the connection, or the node for a moment, was at fault. */
function mayGoOn(error: unknown): boolean {
  return ["SHARD_UNAVAILABLE", "SERVER_UNREACHABLE", "DEADLINE_EXCEEDED"].includes(toKithError(error).code);
}

async function writeOrigin(directory: string, origin: Origin): Promise<void> {
  const path = copyOriginPath(directory);
  await writeFile(`${path}.tmp`, JSON.stringify(origin), { flush: true });
  await rename(`${path}.tmp`, path);
}

/** Undefined where there is none, or it is damaged: then the copy begins from the start. */
async function readOrigin(directory: string): Promise<Origin | undefined> {
  try {
    return JSON.parse(await readFile(copyOriginPath(directory), "utf8")) as Origin;
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
