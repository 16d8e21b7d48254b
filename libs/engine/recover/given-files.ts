import { link, mkdir, open, readdir, readFile, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { crc32c, KithError, sleep } from "../../base/index.js";
import type { FilePlace, SnapshotBlock, SnapshotFile } from "../../model/index.js";
import { checkTable, isStoreFile, isTable, linkStore, removeDirectory, type StoreMetas } from "../../storage/index.js";
import { copiedFile, givenDirectory, indexNames, storeDirectory } from "../replica/layout.js";
import type { OpenReplica } from "../replica/open-replica.js";

/** Of a file that are sent at once: large enough for the fixed cost of a message to vanish, small enough for the event loop. */
const blockBytes = 512 * 1024;
/** A checkpoint is waited for so long; where it takes longer, the one before is given. */
const checkpointMaxMs = 20_000;
/** A checkpoint may lack so many rows, or this share: whoever copies it indexes them by itself. */
const lackingRows = 1_000;
const lackingShare = 0.01;
/** A checkpoint that is being written changes its files; then it is begun anew. */
const attemptsMax = 4;

/** The files of an open replica as of one moment, under second names: they stay as they are whatever the replica does. */
export class GivenFiles {
  private constructor(
    readonly directory: string,
    readonly files: readonly SnapshotFile[],
    readonly metas: StoreMetas,
  ) {}

  /**
   * Checkpoints of the indexes come first: none may be ahead of the store.
   *
   * @param checkpoint writes them
   * @param names of metas of the store, to be read as they are there
   */
  static take(replica: OpenReplica, checkpoint: () => Promise<void>, names: readonly string[]): Promise<GivenFiles> {
    return replica.inFolder(() => GivenFiles.#take(replica, checkpoint, names));
  }

  static async #take(
    replica: OpenReplica,
    checkpoint: () => Promise<void>,
    names: readonly string[],
  ): Promise<GivenFiles> {
    const { directory, random } = replica.context;
    const given = givenDirectory(directory, random.uuid());
    try {
      await mkdir(given);
      await refresh(replica, checkpoint);
      const files: SnapshotFile[] = [];
      for (const name of await indexNames(directory)) {
        for (const file of await linkIndex(join(directory, name), join(given, name))) {
          if (copiedFile(`${name}/${file}`) !== undefined) files.push(await described(given, `${name}/${file}`));
        }
      }
      await replica.sync();
      const metas = await linkStore(replica.store.directory, storeDirectory(given), names);
      for (const file of (await readdir(storeDirectory(given))).filter(isStoreFile)) {
        files.push(await described(given, `db/${file}`));
      }
      return new GivenFiles(given, files, metas);
    } catch (error) {
      await removeDirectory(given);
      throw error;
    }
  }

  get sizeBytes(): number {
    return this.files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }

  /** All files, or what follows a place. CORRUPT_DATA where a table is damaged, SHARD_UNAVAILABLE where files are gone: the replica was removed. */
  async *blocks(from: FilePlace = { file: 0, offset: 0 }): AsyncGenerator<SnapshotBlock> {
    for (let file = from.file; file < this.files.length; file++) {
      const { name, sizeBytes } = this.files[file] as SnapshotFile;
      const first = file === from.file ? from.offset : 0;
      if (first > sizeBytes) throw new KithError("INVALID_ARGUMENT", `${name} has ${sizeBytes} bytes, not ${first}`);
      yield* this.#file(file, first);
    }
  }

  async *#file(file: number, first: number): AsyncGenerator<SnapshotBlock> {
    const { name, sizeBytes } = this.files[file] as SnapshotFile;
    const path = join(this.directory, name);
    // Some tens of MiB at most. LevelDB does not check what it reads, and what is damaged here must not be taken for good elsewhere.
    if (isTable(basename(name))) checkTable(name, await readFile(path).catch(missing));
    const handle = await open(path).catch(missing);
    try {
      let crc = 0;
      const read = async (offset: number, end: number): Promise<Buffer> => {
        const data = Buffer.allocUnsafe(Math.min(blockBytes, end - offset));
        const { bytesRead } = await handle.read(data, 0, data.length, offset);
        if (bytesRead < data.length) throw new KithError("CORRUPT_DATA", `${name} has become shorter`);
        crc = crc32c(data, crc);
        return data;
      };
      // What came before belongs to the checksum.
      let offset = 0;
      while (offset < first) offset += (await read(offset, first)).length;
      do {
        const data = await read(offset, sizeBytes);
        yield { file, offset, data, crc32c: crc };
        offset += data.length;
      } while (offset < sizeBytes);
    } finally {
      await handle.close();
    }
  }

  /** Never rejects. */
  async close(): Promise<void> {
    await removeDirectory(this.directory).catch(() => undefined);
  }
}

/** Has a checkpoint written where the last one lacks much. */
async function refresh(replica: OpenReplica, checkpoint: () => Promise<void>): Promise<void> {
  const { changedRows, pointCount, context, stopped } = replica;
  if (changedRows <= Math.max(lackingRows, lackingShare * pointCount)) return;
  const over = new AbortController();
  const late = sleep(context.clock, checkpointMaxMs, AbortSignal.any([over.signal, stopped])).catch(() => undefined);
  // One that fails is told of by whoever writes the next; what was written before is still good.
  await Promise.race([checkpoint().catch(() => undefined), late]);
  over.abort();
  await late;
}

/**
 * Gives the files of a checkpoint second names, and which they are: its files are never changed, and its manifest is replaced when those that it
 * names are there. None where a checkpoint is written all the time.
 */
async function linkIndex(directory: string, given: string): Promise<string[]> {
  for (let attempt = 0; attempt < attemptsMax; attempt++) {
    await removeDirectory(given);
    await mkdir(given);
    const before = await listed(directory);
    for (const name of before.keys()) {
      await link(join(directory, name), join(given, name)).catch((error: unknown) => {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      });
    }
    const after = await listed(directory);
    if (after.size === before.size && [...after].every(([name, file]) => before.get(name) === file)) {
      return [...after.keys()];
    }
  }
  return [];
}

/** The files of a folder, with what tells whether they are the same. */
async function listed(directory: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const name of await readdir(directory)) {
    const file = await stat(join(directory, name)).catch(() => undefined);
    if (file?.isFile() === true) found.set(name, `${file.ino} ${file.size} ${file.mtimeMs}`);
  }
  return found;
}

async function described(directory: string, name: string): Promise<SnapshotFile> {
  return { name, sizeBytes: (await stat(join(directory, name))).size };
}

function missing(error: unknown): never {
  if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  throw new KithError("SHARD_UNAVAILABLE", "the files of the snapshot are gone: its replica was removed or replaced");
}
