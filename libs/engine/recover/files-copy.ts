import { type FileHandle, open, rename, stat } from "node:fs/promises";
import { join } from "node:path";
import { crc32c, KithError, makeFolder } from "../../base/index.js";
import type { FilePlace, SnapshotBlock, SnapshotFile, SnapshotManifest } from "../../model/index.js";
import { adoptStore, isStoreFile, removeDirectory, storeError, syncDirectory } from "../../storage/index.js";
import { copiedFile, endFilesCopy, filesCopyDirectory, indexNames, storeDirectory } from "../replica/layout.js";
import { fromJson, type StoreIdentity, type StoreState, toJson } from "./schema.js";

/** Of files in one copy: 16 MiB each as a rule. */
const filesMax = 1_000_000;
/** The name of a file before it is on the disk as a whole. */
const partSuffix = ".part";

/** The file that comes, or comes next. */
interface Current {
  readonly handle: FileHandle;
  readonly path: string;
  /** Of what has come of it. */
  crc: number;
}

/** Files of another replica on their way into a folder. It is no replica before `finish`. */
export class FilesCopy {
  readonly #replica: string;
  readonly #manifest: SnapshotManifest;
  readonly #files: readonly SnapshotFile[];
  #place: FilePlace = { file: 0, offset: 0 };
  #current: Current | undefined;
  /** The file before is on the disk. */
  #synced: Promise<void> = Promise.resolve();
  sizeBytes = 0;

  private constructor(replica: string, manifest: SnapshotManifest) {
    this.#replica = replica;
    this.#manifest = manifest;
    this.#files = manifest.files ?? [];
  }

  /** Begins with an empty folder in the replica's directory. CORRUPT_DATA where the manifest names what no replica has. */
  static async create(replica: string, manifest: SnapshotManifest): Promise<FilesCopy> {
    const copy = new FilesCopy(replica, manifest);
    copy.#check();
    await removeDirectory(copy.#directory);
    await makeFolder(copy.#directory);
    return copy;
  }

  /** Goes on with what an earlier process has put there. */
  static async reopen(replica: string, manifest: SnapshotManifest): Promise<FilesCopy> {
    const copy = new FilesCopy(replica, manifest);
    copy.#check();
    for (const [file, { name, sizeBytes }] of copy.#files.entries()) {
      if ((await sizeOf(join(copy.#directory, name))) !== sizeBytes) {
        const part = await sizeOf(join(copy.#directory, name + partSuffix));
        await copy.#goOnAt(file, Math.min(part ?? 0, sizeBytes));
        return copy;
      }
      copy.sizeBytes += sizeBytes;
    }
    copy.#place = { file: copy.#files.length, offset: 0 };
    return copy;
  }

  get #directory(): string {
    return filesCopyDirectory(this.#replica);
  }

  #check(): void {
    const names = new Set<string>();
    for (const { name, sizeBytes } of this.#files) {
      const found = copiedFile(name);
      const isKnown = found !== undefined && (found.folder === "index" || isStoreFile(found.file));
      if (!isKnown || names.has(name) || !Number.isSafeInteger(sizeBytes) || names.size >= filesMax) {
        throw new KithError("CORRUPT_DATA", `the copy names the file "${name.slice(0, 200)}", which no replica has so`);
      }
      names.add(name);
    }
  }

  /** What comes next; undefined before the first. */
  get next(): { afterKey: Uint8Array; file: FilePlace } | undefined {
    return this.sizeBytes === 0 ? undefined : { afterKey: new Uint8Array(0), file: this.#place };
  }

  /** CORRUPT_DATA where a block is not the next one, or what has come of the file is not what was read. */
  async add({ file, offset, data, crc32c: expected }: SnapshotBlock): Promise<void> {
    const at = this.#files[file];
    if (file !== this.#place.file || offset !== this.#place.offset || at === undefined) {
      throw new KithError("CORRUPT_DATA", `a block of file ${file} at ${offset} has come out of order`);
    }
    const end = offset + data.length;
    const isEnd = end === at.sizeBytes;
    try {
      const current = (this.#current ??= await this.#open(at.name));
      current.crc = crc32c(data, current.crc);
      if (current.crc !== expected || end > at.sizeBytes || (data.length === 0 && !isEnd)) {
        throw new KithError("CORRUPT_DATA", `what has come of ${at.name} is not what was sent`);
      }
      await current.handle.write(data, 0, data.length, offset);
      this.sizeBytes += data.length;
      this.#place = isEnd ? { file: file + 1, offset: 0 } : { file, offset: end };
      if (isEnd) await this.#endFile(current);
    } catch (error) {
      throw storeError(error, this.#directory);
    }
  }

  async #open(name: string): Promise<Current> {
    const path = join(this.#directory, name);
    await makeFolder(join(path, ".."));
    return { handle: await open(path + partSuffix, "w"), path, crc: 0 };
  }

  /** One file is brought to the disk while the next comes. */
  async #endFile({ handle, path }: Current): Promise<void> {
    this.#current = undefined;
    await this.#synced;
    const sync = async (): Promise<void> => {
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(path + partSuffix, path);
    };
    this.#synced = sync();
    // Awaited with the next, or at the end.
    this.#synced.catch(() => undefined);
  }

  /** What is there of a file is read again: it may not have come to the disk. */
  async #goOnAt(file: number, offset: number): Promise<void> {
    const path = join(this.#directory, (this.#files[file] as SnapshotFile).name);
    if (offset > 0) {
      const handle = await open(path + partSuffix, "r+");
      this.#current = { handle, path, crc: await checksumOf(handle, offset) };
    }
    this.#place = { file, offset };
    this.sizeBytes += offset;
  }

  /** Closes it as it is, to be gone on with. */
  async close(): Promise<void> {
    await this.#current?.handle.close();
    this.#current = undefined;
    await this.#synced.catch(() => undefined);
  }

  /** Makes it the content of a replica, on the disk, to be put in the place of what was before. CORRUPT_DATA where something is missing. */
  async finish(identity: Omit<StoreIdentity, "storeId">): Promise<void> {
    const directory = this.#directory;
    try {
      if (this.#place.file < this.#files.length)
        throw incomplete(`${this.#files[this.#place.file]?.name} has not come`);
      await this.#synced;
      const indexes = await indexNames(directory);
      for (const name of indexes) await syncDirectory(join(directory, name));
      await adoptStore(storeDirectory(directory), ["identity", "state"], (metas) => {
        const [before, state] = [metas.get("identity"), metas.get("state")];
        if (before === undefined || state === undefined) throw incomplete("its state is missing");
        const { pointCount, appliedSequence } = fromJson<StoreState>(state);
        const { pointCount: points, sequence } = this.#manifest;
        if (pointCount !== points || appliedSequence !== sequence) {
          throw incomplete(`it holds ${pointCount} points as of ${appliedSequence}, not ${points} as of ${sequence}`);
        }
        // Its indexes are those of the same store.
        const { storeId } = fromJson<StoreIdentity>(before);
        return new Map([["identity", toJson({ ...identity, storeId })]]);
      });
      await syncDirectory(directory);
    } catch (error) {
      throw storeError(error, directory);
    }
    await endFilesCopy(this.#replica);
  }
}

async function checksumOf(handle: FileHandle, sizeBytes: number): Promise<number> {
  const buffer = Buffer.allocUnsafe(1024 * 1024);
  let crc = 0;
  for (let at = 0; at < sizeBytes; ) {
    const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, sizeBytes - at), at);
    if (bytesRead === 0) throw incomplete("a file has become shorter");
    crc = crc32c(buffer.subarray(0, bytesRead), crc);
    at += bytesRead;
  }
  return crc;
}

/** Undefined where there is no such file. */
async function sizeOf(path: string): Promise<number | undefined> {
  return stat(path).then(
    ({ size }) => size,
    (error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    },
  );
}

function incomplete(what: string): KithError {
  return new KithError("CORRUPT_DATA", `the copy is not complete: ${what}`);
}
