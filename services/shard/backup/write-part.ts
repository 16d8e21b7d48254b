import {
  type BackupCall,
  type BackupPart,
  encodeJson,
  encodePoints,
  type FileStore,
  findJson,
  formatMark,
  outcomesKey,
  partialKey,
  partKey,
  type PointsFile,
  pointsKey,
  type WritePartJob,
} from "../../../libs/backup/index.js";
import { abortReason, type Clock, crc32c, KithError } from "../../../libs/base/index.js";
import type { HeadRange, ReplicaContent } from "../../../libs/engine/index.js";
import { addHash, digestFormat, formatDigest } from "../../../libs/hash/index.js";
import { Pace } from "./pace.js";

/** Bytes of points in one file, before it is compressed: docs/decisions/0012 has what smaller and larger ones cost. */
const fileBytes = 4 * 1024 * 1024;
/** So many files after the last time, what was written is noted, so that a further attempt need not write it again. */
const noteEvery = 16;

/** What an attempt that was cut short has written. */
interface PartialPart {
  format: number;
  incarnation: string;
  files: PointsFile[];
  /** Of the next file. */
  next: number;
  writtenBytes: number;
}

/** Points that wait to be written, or to be found unchanged. */
interface Pending extends HeadRange {
  bytes: number;
  digest: bigint;
  newest: number;
}

const emptyPending = (): Pending => ({ ids: [], heads: [], bytes: 0, digest: 0n, newest: 0 });

/**
 * Writes a replica's content as a part of a backup, in files of consecutive ids. A file of the backup before is used again where none of
 * its points has changed since and none has come or gone: versions and number of the points between its first id and the next file's tell
 * that, without a look at vectors and payloads.
 */
export async function writePart(
  content: ReplicaContent,
  store: FileStore,
  job: WritePartJob,
  call: BackupCall,
  clock: Clock,
): Promise<{ sequence: number }> {
  const writer = await PartWriter.begin(content, store, job, call, clock);
  return { sequence: (await writer.write()).sequence };
}

class PartWriter {
  readonly #content: ReplicaContent;
  readonly #store: FileStore;
  readonly #job: WritePartJob;
  readonly #call: BackupCall;
  readonly #pace: Pace;
  /** In order of id: files that may be used again. */
  readonly #known: readonly PointsFile[];
  /** Of these, in key form. */
  readonly #firstIds: readonly Buffer[];
  readonly #files: PointsFile[] = [];
  #next: number;
  #writtenBytes: number;
  /** The file whose ids are walked through now; -1 before the first. */
  #at = -1;
  #pending = emptyPending();
  #points = 0;
  #digest = 0n;
  #uploading: Promise<void> = Promise.resolve();

  private constructor(
    content: ReplicaContent,
    store: FileStore,
    job: WritePartJob,
    call: BackupCall,
    clock: Clock,
    known: readonly PointsFile[],
    partial: PartialPart | undefined,
  ) {
    this.#content = content;
    this.#store = store;
    this.#job = job;
    this.#call = call;
    this.#pace = new Pace(clock, job.bytesPerSecond);
    this.#known = known;
    this.#firstIds = known.map(({ first }) => Buffer.from(first, "hex"));
    this.#next = partial?.next ?? 0;
    this.#writtenBytes = partial?.writtenBytes ?? 0;
  }

  static async begin(
    content: ReplicaContent,
    store: FileStore,
    job: WritePartJob,
    call: BackupCall,
    clock: Clock,
  ): Promise<PartWriter> {
    const { backup, base, shard } = job;
    const noted = await findJson<PartialPart>(store, partialKey(backup, shard.shard));
    const partial = noted?.incarnation === content.incarnation ? noted : undefined;
    const known = [...(partial?.files ?? [])];
    const before = base === undefined ? undefined : await findJson<BackupPart>(store, partKey(base, shard.shard));
    if (before?.incarnation === content.incarnation && before.digestFormat === digestFormat) {
      const last = known.at(-1)?.first ?? "";
      known.push(...before.files.filter(({ first }) => first > last));
    }
    return new PartWriter(content, store, job, call, clock, known, partial);
  }

  async write(): Promise<BackupPart> {
    for await (const { ids, heads } of this.#content.heads()) {
      this.#throwIfAborted();
      for (let i = 0; i < ids.length; i++) {
        const id = ids[i] as Uint8Array;
        while (this.#isBehindFile(id)) {
          await this.#endFile();
          this.#at++;
        }
        const head = heads[i] as HeadRange["heads"][number];
        const pending = this.#pending;
        pending.ids.push(id);
        pending.heads.push(head);
        pending.bytes += this.#content.pointBytes(head) + id.length;
        pending.digest = addHash(pending.digest, head.contentHash);
        pending.newest = Math.max(pending.newest, head.version);
        if (pending.bytes >= fileBytes && !this.#mayBeKnown()) await this.#writeFile();
      }
    }
    await this.#endFile();
    await this.#uploading;
    return this.#finish();
  }

  /** While it may still turn out to be what a file has, it is not written. */
  #mayBeKnown(): boolean {
    const known = this.#known[this.#at];
    const { ids, newest } = this.#pending;
    return known !== undefined && ids.length <= known.points && newest <= known.sequence;
  }

  #isBehindFile(id: Uint8Array): boolean {
    const next = this.#firstIds[this.#at + 1];
    return next !== undefined && Buffer.compare(id, next) >= 0;
  }

  /** The ids of a known file end here. */
  async #endFile(): Promise<void> {
    const { ids, digest, newest } = this.#pending;
    if (ids.length === 0) return;
    const known = this.#known[this.#at];
    const isSame = known?.points === ids.length && known.digest === formatDigest(digest) && newest <= known.sequence;
    if (!isSame) return this.#writeFile();
    this.#take(known);
  }

  async #writeFile(): Promise<void> {
    const { ids, heads, digest } = this.#pending;
    const { backup, shard } = this.#job;
    const points = await this.#content.points({ ids, heads });
    const bytes = await encodePoints(points);
    const file = pointsKey(backup, shard.shard, this.#next++);
    // One is on its way while the next is read.
    await this.#uploading;
    this.#throwIfAborted();
    this.#uploading = this.#store.put(file, bytes);
    this.#uploading.catch(() => undefined);
    this.#writtenBytes += bytes.length;
    this.#take({
      file,
      sizeBytes: bytes.length,
      points: ids.length,
      first: Buffer.from(ids[0] as Uint8Array).toString("hex"),
      sequence: this.#content.state.appliedSequence,
      digest: formatDigest(digest),
    });
    if (this.#next % noteEvery === 0) await this.#note();
    await this.#pace.spent(bytes.length, this.#call.signal);
  }

  #take(file: PointsFile): void {
    this.#files.push(file);
    this.#points += file.points;
    this.#digest = addHash(this.#digest, this.#pending.digest);
    this.#pending = emptyPending();
    this.#call.onProgress({ points: this.#points, bytes: this.#writtenBytes });
  }

  async #note(): Promise<void> {
    await this.#uploading;
    const { backup, shard } = this.#job;
    const partial: PartialPart = {
      ...formatMark,
      incarnation: this.#content.incarnation,
      files: this.#files,
      next: this.#next,
      writtenBytes: this.#writtenBytes,
    };
    await this.#store.put(partialKey(backup, shard.shard), encodeJson(partial));
  }

  async #finish(): Promise<BackupPart> {
    const { backup, shard, slots } = this.#job;
    const { state, stateBody, schemaBody, incarnation } = this.#content;
    const found = `${formatDigest(this.#digest)}, ${this.#points} points`;
    const expected = `${state.digest}, ${state.pointCount} points`;
    if (found !== expected) {
      throw new KithError("CORRUPT_DATA", `the replica's points are ${found}; its state says ${expected}`);
    }
    const outcomes = await this.#outcomes();
    const file = outcomesKey(backup, shard.shard);
    await this.#store.put(file, outcomes);
    const part: BackupPart = {
      ...formatMark,
      shard: shard.shard,
      slots,
      incarnation,
      sequence: state.appliedSequence,
      digestFormat,
      digest: state.digest,
      pointCount: state.pointCount,
      schema: Buffer.from(schemaBody).toString(),
      state: Buffer.from(stateBody).toString(),
      outcomes: { file, sizeBytes: outcomes.length, crc32c: crc32c(outcomes) },
      files: this.#files,
      writtenBytes: this.#writtenBytes + outcomes.length,
    };
    await this.#store.put(partKey(backup, shard.shard), encodeJson(part));
    await this.#store.remove(partialKey(backup, shard.shard));
    return part;
  }

  /** { sequence(8, little-endian) length(4) body }* */
  async #outcomes(): Promise<Buffer> {
    const pieces: Uint8Array[] = [];
    for await (const { sequence, body } of this.#content.outcomes()) {
      const header = Buffer.alloc(12);
      header.writeBigUInt64LE(BigInt(sequence));
      header.writeUInt32LE(body.length, 8);
      pieces.push(header, body);
    }
    return Buffer.concat(pieces);
  }

  #throwIfAborted(): void {
    if (this.#call.signal.aborted) throw abortReason(this.#call.signal);
  }
}
