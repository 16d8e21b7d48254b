import { abortReason, type Cancellation, crc32c, KithError, toKithError } from "../base/index.js";
import { addHash, digestFormat, formatDigest } from "../hash/index.js";
import {
  backupKey,
  backupsPrefix,
  begunKey,
  begunPrefix,
  checkBackupId,
  ownerOf,
  partKey,
  prefixesOf,
  sharedPrefixesOf,
} from "./layout.js";
import {
  type BackupPart,
  type BackupRecord,
  type BegunBackup,
  type CopiedFile,
  decodeJson,
  encodeJson,
  findJson,
  readJson,
  sharedFilesOf,
} from "./manifest.js";
import { chunkBytes, chunkHash, decodeChunk } from "./chunk-file.js";
import { digestOf } from "./point-digests.js";
import { decodePoints } from "./points-file.js";
import type { FileStore } from "./store/port.js";

/** What was read of a backup. */
export interface VerifiedBackup {
  pointCount: number;
  fileCount: number;
  sizeBytes: number;
}

/** The backups of one location. */
export class BackupRepository {
  readonly store: FileStore;

  constructor(store: FileStore) {
    this.store = store;
  }

  /** Those that are whole, newest first. CORRUPT_DATA where the record of one is damaged. */
  async list(): Promise<BackupRecord[]> {
    const records: BackupRecord[] = [];
    for await (const { key } of this.store.list(backupsPrefix)) {
      if (key.endsWith(".json")) records.push(await readJson<BackupRecord>(this.store, key));
    }
    return records.sort((a, b) => (a.id < b.id ? 1 : -1));
  }

  /** NOT_FOUND, CORRUPT_DATA. */
  async get(id: string): Promise<BackupRecord> {
    checkBackupId(id);
    try {
      return await readJson<BackupRecord>(this.store, backupKey(id));
    } catch (error) {
      if (toKithError(error).code !== "NOT_FOUND") throw error;
      throw new KithError("NOT_FOUND", `there is no backup ${id} in ${this.store.description}`, {
        details: { backup: id },
      });
    }
  }

  /** The part of a shard, as the backup's record has it. */
  async part(backup: BackupRecord, shard: number): Promise<BackupPart> {
    const entry = backup.parts.find((each) => each.shard === shard);
    const key = partKey(backup.id, shard);
    if (entry === undefined) throw new KithError("NOT_FOUND", `the backup ${backup.id} has no shard ${shard}`);
    const bytes = await this.store.get(key);
    if (crc32c(bytes) !== entry.crc32c) {
      throw new KithError("CORRUPT_DATA", `the file ${key} is not the one that its backup names`);
    }
    return decodeJson<BackupPart>(key, bytes);
  }

  /** The newest backup of the collection that is there. */
  async latest(collectionId: string): Promise<BackupRecord | undefined> {
    return (await this.list()).find(({ collection }) => collection.id === collectionId);
  }

  /** Reads everything that a backup is made of. CORRUPT_DATA where something is damaged, missing, or not what it was. */
  async verify(id: string, signal: Cancellation | undefined): Promise<VerifiedBackup> {
    const backup = await this.get(id);
    const total: VerifiedBackup = { pointCount: 0, fileCount: 1, sizeBytes: 0 };
    for (const { shard } of backup.parts) {
      const part = await this.#whole(() => this.part(backup, shard));
      const found = await this.#verifyPart(part, signal);
      total.pointCount += found.pointCount;
      total.fileCount += found.fileCount + 1;
      total.sizeBytes += found.sizeBytes;
    }
    if (total.pointCount !== backup.pointCount)
      throw differs(`the backup ${id}`, "points", total.pointCount, backup.pointCount);
    return total;
  }

  async #verifyPart(part: BackupPart, signal: Cancellation | undefined): Promise<VerifiedBackup> {
    const what = `shard ${part.shard}`;
    if (part.digestFormat !== digestFormat) {
      throw new KithError(
        "FAILED_PRECONDITION",
        `${what} has digests of the format ${part.digestFormat}, which this release does not compute`,
      );
    }
    if (part.replica !== undefined) return this.#verifyFiles(part, part.replica.files, signal);
    let digest = 0n;
    let pointCount = 0;
    let sizeBytes = 0;
    const outcomes = await this.#whole(() => this.outcomes(part));
    for (const entry of part.files) {
      if (signal?.aborted) throw abortReason(signal);
      const bytes = await this.#whole(() => this.store.get(entry.file));
      const points = await decodePoints(entry.file, bytes);
      const found = await digestOf(points);
      if (bytes.length !== entry.sizeBytes) throw differs(entry.file, "bytes", bytes.length, entry.sizeBytes);
      if (points.ids.length !== entry.points) throw differs(entry.file, "points", points.ids.length, entry.points);
      const [own, said] = [formatDigest(found), entry.digest];
      if (own !== said) throw differs(entry.file, "as its digest", own, said);
      digest = addHash(digest, found);
      pointCount += entry.points;
      sizeBytes += bytes.length;
    }
    if (pointCount !== part.pointCount) throw differs(what, "points", pointCount, part.pointCount);
    if (formatDigest(digest) !== part.digest) throw differs(what, "as its digest", formatDigest(digest), part.digest);
    return { pointCount, sizeBytes: sizeBytes + outcomes.length, fileCount: part.files.length + 1 };
  }

  /** Each chunk is what its name says. What the files hold is told by the checksums within, which a restored replica looks at as it opens. */
  async #verifyFiles(
    part: BackupPart,
    files: readonly CopiedFile[],
    signal: Cancellation | undefined,
  ): Promise<VerifiedBackup> {
    const found: VerifiedBackup = { pointCount: part.pointCount, fileCount: 0, sizeBytes: 0 };
    const seen = new Map<string, number>();
    for (const { name, sizeBytes, chunks } of files) {
      let length = 0;
      for (const { file } of chunks) {
        if (signal?.aborted) throw abortReason(signal);
        if (!seen.has(file)) {
          const bytes = await this.#whole(() => this.store.get(file));
          const content = await decodeChunk(file, bytes);
          const hash = chunkHash(content);
          if (!file.endsWith(`/${hash}.bin`)) throw differs(file, "as its hash", hash, "that of its name");
          seen.set(file, content.length);
          found.fileCount++;
          found.sizeBytes += bytes.length;
        }
        length += seen.get(file) as number;
      }
      if (length !== sizeBytes || chunks.length !== Math.ceil(sizeBytes / chunkBytes)) {
        throw differs(`${name} of shard ${part.shard}`, "bytes", length, sizeBytes);
      }
    }
    return found;
  }

  /** What the last operations of a part of points did, as its file holds it. */
  async outcomes({ outcomes }: BackupPart): Promise<Buffer> {
    if (outcomes === undefined) return Buffer.alloc(0);
    const bytes = await this.store.get(outcomes.file);
    if (crc32c(bytes) === outcomes.crc32c) return bytes;
    throw new KithError("CORRUPT_DATA", `the file ${outcomes.file} of a backup has a wrong checksum`);
  }

  /** What is missing of a backup is damage. */
  async #whole<T>(read: () => Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (error) {
      const { code, message } = toKithError(error);
      throw code === "NOT_FOUND" ? new KithError("CORRUPT_DATA", `a file of the backup is missing: ${message}`) : error;
    }
  }

  /** Deletes a backup with all that no other one uses; gives the bytes. NOT_FOUND. */
  async delete(id: string): Promise<number> {
    const backup = await this.get(id);
    // First of all, so that no new backup builds upon it.
    await this.store.remove(backupKey(id));
    const used = new Set<string>();
    for (const other of await this.list()) await this.#noteUsed(other, used);
    for await (const { key } of this.store.list(begunPrefix)) {
      const begun = await findJson<BegunBackup>(this.store, key);
      // What it will use is not known yet.
      if (begun?.base === id) {
        await this.store.put(backupKey(id), encodeJson(backup));
        throw new KithError(
          "FAILED_PRECONDITION",
          `the backup ${begun.id} is being written and builds upon ${id}: try again when it has ended, or cancel it first`,
          { details: { backup: begun.id } },
        );
      }
    }
    const owners = new Set<string>([id]);
    for (const { shard } of backup.parts) {
      const part = await findJson<BackupPart>(this.store, partKey(id, shard));
      for (const file of part === undefined ? [] : sharedFilesOf(part).keys()) owners.add(ownerOf(file));
    }
    let bytes = 0;
    const others = new Set((await this.list()).map((each) => each.id));
    for (const owner of owners) {
      // Of a backup that is still there, its record names all that it has.
      if (others.has(owner)) continue;
      const prefixes = owner === id ? prefixesOf(id) : sharedPrefixesOf(owner);
      for (const prefix of prefixes) bytes += await this.#removeUnused(prefix, used);
    }
    return bytes;
  }

  async #noteUsed(backup: BackupRecord, used: Set<string>): Promise<void> {
    for (const { shard } of backup.parts) {
      const part = await readJson<BackupPart>(this.store, partKey(backup.id, shard));
      for (const file of sharedFilesOf(part).keys()) used.add(file);
    }
  }

  async #removeUnused(prefix: string, used: ReadonlySet<string>): Promise<number> {
    let bytes = 0;
    const unused: string[] = [];
    for await (const { key, sizeBytes } of this.store.list(prefix)) {
      if (used.has(key)) continue;
      unused.push(key);
      bytes += sizeBytes;
    }
    for (const key of unused) await this.store.remove(key);
    return bytes;
  }

  /** Removes what was written for a backup that will not be whole. Harmless when repeated. */
  async discard(id: string): Promise<void> {
    for (const prefix of prefixesOf(id)) await this.#removeUnused(prefix, new Set());
    await this.store.remove(begunKey(id));
  }
}

function differs(what: string, of: string, found: string | number, expected: string | number): KithError {
  return new KithError("CORRUPT_DATA", `${what} has ${found} ${of}; it should have ${expected}`, {
    details: { found, expected },
  });
}
