import {
  type BackupCall,
  type BackupPart,
  chunkBytes,
  chunkHash,
  chunkKey,
  chunksPrefix,
  type CopiedFile,
  encodeChunk,
  encodeJson,
  type FileStore,
  findJson,
  formatMark,
  partKey,
  type WritePartJob,
} from "../../../libs/backup/index.js";
import { abortReason, type Clock } from "../../../libs/base/index.js";
import type { ReplicaFiles } from "../../../libs/engine/index.js";
import { digestFormat } from "../../../libs/hash/index.js";
import { Pace } from "./pace.js";

/** Chunks that are on their way to the store at once. */
const putsInFlight = 4;

/** A chunk as parts name it. */
type Chunk = CopiedFile["chunks"][number];

/**
 * Writes the files of a replica as a part of a backup, in chunks that are named by their content: those of the backup before, and those that an attempt
 * before this one has written, are used again.
 */
export async function writeFiles(
  given: ReplicaFiles,
  store: FileStore,
  job: WritePartJob,
  call: BackupCall,
  clock: Clock,
): Promise<{ sequence: number }> {
  const { shard } = job.shard;
  const known = await knownChunks(store, job);
  const chunks = new Chunks(store, job, call, new Pace(clock, job.bytesPerSecond), known);
  const files: CopiedFile[] = [];
  const { pointCount, appliedSequence, digest } = given.state;
  let readBytes = 0;
  for await (const { file, content, crc32c } of chunksOf(given)) {
    const { name, sizeBytes } = given.files[file] as ReplicaFiles["files"][number];
    const of: CopiedFile = (files[file] ??= { name, sizeBytes, crc32c, chunks: [] });
    of.crc32c = crc32c;
    if (content.length > 0) of.chunks.push(await chunks.take(content));
    readBytes += content.length;
    const points = Math.floor((pointCount * readBytes) / Math.max(1, given.sizeBytes));
    call.onProgress({ points, bytes: chunks.writtenBytes });
  }
  await chunks.end();
  const part: BackupPart = {
    ...formatMark,
    ...{ shard, slots: job.slots, incarnation: given.incarnation, sequence: appliedSequence },
    ...{ digestFormat, digest, pointCount },
    schema: Buffer.from(given.schemaBody).toString(),
    state: Buffer.from(given.stateBody).toString(),
    files: [],
    replica: { format: given.format, files },
    writtenBytes: chunks.writtenBytes,
  };
  await store.put(partKey(job.backup, shard), encodeJson(part));
  return { sequence: appliedSequence };
}

/** By hash: those of the backup before, and what an earlier attempt has written. */
async function knownChunks(
  store: FileStore,
  { backup, base, shard: { shard } }: WritePartJob,
): Promise<Map<string, Chunk>> {
  const known = new Map<string, Chunk>();
  const before = base === undefined ? undefined : await findJson<BackupPart>(store, partKey(base, shard));
  for (const { chunks } of before?.replica?.files ?? []) {
    for (const chunk of chunks) known.set(hashOf(chunk.file), chunk);
  }
  for await (const { key, sizeBytes } of store.list(chunksPrefix(backup, shard))) {
    if (!known.has(hashOf(key))) known.set(hashOf(key), { file: key, sizeBytes });
  }
  return known;
}

function hashOf(key: string): string {
  return key.slice(key.lastIndexOf("/") + 1, -".bin".length);
}

/** The content of the files, put together into chunks, with the checksum of the file up to there; an empty one of an empty file. */
async function* chunksOf(given: ReplicaFiles): AsyncGenerator<{ file: number; content: Buffer; crc32c: number }> {
  let blocks: Uint8Array[] = [];
  let length = 0;
  for await (const { file, offset, data, crc32c } of given.blocks()) {
    blocks.push(data);
    length += data.length;
    const isEnd = offset + data.length === given.files[file]?.sizeBytes;
    if (length < chunkBytes && !isEnd) continue;
    yield { file, content: Buffer.concat(blocks), crc32c };
    blocks = [];
    length = 0;
  }
}

/** Brings chunks into the store, some at once. */
class Chunks {
  readonly #store: FileStore;
  readonly #job: WritePartJob;
  readonly #call: BackupCall;
  readonly #pace: Pace;
  readonly #known: Map<string, Chunk>;
  readonly #puts = new Set<Promise<void>>();
  #failure: { error: unknown } | undefined;
  writtenBytes = 0;

  constructor(store: FileStore, job: WritePartJob, call: BackupCall, pace: Pace, known: Map<string, Chunk>) {
    this.#store = store;
    this.#job = job;
    this.#call = call;
    this.#pace = pace;
    this.#known = known;
  }

  async take(content: Buffer): Promise<Chunk> {
    const { signal } = this.#call;
    if (signal.aborted) throw abortReason(signal);
    const hash = chunkHash(content);
    const known = this.#known.get(hash);
    if (known !== undefined) return known;
    const bytes = await encodeChunk(content);
    while (this.#puts.size >= putsInFlight) await Promise.race(this.#puts);
    if (this.#failure !== undefined) throw this.#failure.error;
    const { backup, shard } = this.#job;
    const chunk: Chunk = { file: chunkKey(backup, shard.shard, hash), sizeBytes: bytes.length };
    const put = this.#store
      .put(chunk.file, bytes)
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => this.#puts.delete(put));
    this.#puts.add(put);
    this.#known.set(hash, chunk);
    this.writtenBytes += bytes.length;
    await this.#pace.spent(bytes.length, signal);
    return chunk;
  }

  async end(): Promise<void> {
    await Promise.all(this.#puts);
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}
