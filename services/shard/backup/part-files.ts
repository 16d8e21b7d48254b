import {
  type BackupLocations,
  type BackupPart,
  BackupRepository,
  chunkBytes,
  type CopiedFile,
  decodeChunk,
  type FileStore,
} from "../../../libs/backup/index.js";
import { crc32c, KithError } from "../../../libs/base/index.js";
import type { FilePlace, RestoreOrigin, Snapshot, SnapshotBlock, SnapshotManifest } from "../../../libs/model/index.js";

/** Chunks that are read ahead of the one that is worked on. */
const ahead = 3;

/** The files of a replica as a part of a backup has them, like a copy that another node gives. */
export interface PartFiles {
  manifest: SnapshotManifest & { files: NonNullable<SnapshotManifest["files"]> };
  /** All of them, or what follows a place. CORRUPT_DATA where a chunk is damaged or missing. */
  blocks: (from?: FilePlace) => AsyncGenerator<SnapshotBlock>;
}

/** `wanted`: the names of files to take; default: all. FAILED_PRECONDITION where the part is not of files. */
export function filesOfPart(
  store: FileStore,
  part: BackupPart,
  id: string,
  incarnation: string,
  wanted: (name: string) => boolean = () => true,
): PartFiles {
  const { replica, sequence, pointCount } = part;
  if (replica === undefined) {
    throw new KithError("FAILED_PRECONDITION", `the backup ${id} has no files of shard ${part.shard}`);
  }
  const files = replica.files.filter(({ name }) => wanted(name));
  const sizeBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  return {
    manifest: {
      ...{ format: replica.format, incarnation, sequence, pointCount, id, sizeBytes },
      withChanges: true,
      files: files.map(({ name, sizeBytes: bytes }) => ({ name, sizeBytes: bytes })),
    },
    blocks: (from) => blocksOf(store, files, from),
  };
}

async function* blocksOf(
  store: FileStore,
  files: readonly CopiedFile[],
  from: FilePlace = { file: 0, offset: 0 },
): AsyncGenerator<SnapshotBlock> {
  const chunks = files.slice(from.file).flatMap((file) => file.chunks.map(({ file: key }) => key));
  const reads: Promise<Uint8Array>[] = [];
  let read = 0;
  const next = async (): Promise<Uint8Array> => {
    for (; read < chunks.length && reads.length <= ahead; read++) {
      const content = contentOf(store, chunks[read] as string);
      // Awaited in its turn, unless the reader ends before.
      content.catch(() => undefined);
      reads.push(content);
    }
    return (await reads.shift()) as Uint8Array;
  };
  for (let file = from.file; file < files.length; file++) {
    const { name, sizeBytes, crc32c: expected, chunks: own } = files[file] as CopiedFile;
    const first = file === from.file ? from.offset : 0;
    let crc = 0;
    let offset = 0;
    for (let i = 0; i < own.length; i++) {
      const data = await next();
      if (data.length !== Math.min(chunkBytes, sizeBytes - offset)) {
        throw new KithError("CORRUPT_DATA", `a chunk of ${name} in a backup has ${data.length} bytes`);
      }
      const skipped = Math.min(data.length, Math.max(0, first - offset));
      // What came before belongs to the checksum.
      crc = crc32c(data, crc);
      offset += data.length;
      // Each chunk is sound by itself, and may still be another one than was written there.
      if (offset === sizeBytes && crc !== expected) {
        throw new KithError("CORRUPT_DATA", `${name} in a backup is not the file that was written`);
      }
      if (skipped < data.length)
        yield { file, offset: offset - data.length + skipped, data: data.subarray(skipped), crc32c: crc };
    }
    if (sizeBytes === 0) yield { file, offset: 0, data: new Uint8Array(0), crc32c: crc };
  }
}

async function contentOf(store: FileStore, key: string): Promise<Uint8Array> {
  return decodeChunk(key, await store.get(key));
}

/** Reads what a shard of a collection begins with that is restored by files, or what follows a place. */
export type RestoredFiles = (
  origin: RestoreOrigin,
  shard: number,
  incarnation: string,
  from: FilePlace | undefined,
) => Promise<Snapshot>;

/** @param locations where backups are */
export function restoredFiles(locations: BackupLocations): RestoredFiles {
  return async (origin, shard, incarnation, from) => {
    const repository = new BackupRepository(await locations.open(origin.location));
    const part = await repository.part(await repository.get(origin.backup), origin.parts?.[shard]?.shard ?? -1);
    const { manifest, blocks } = filesOfPart(repository.store, part, origin.backup, incarnation);
    return { manifest, chunks: none, blocks: blocks(from), close: () => Promise.resolve() };
  };
}

const none: AsyncIterable<never> = {
  [Symbol.asyncIterator]: () => ({ next: () => Promise.resolve({ done: true, value: undefined }) }),
};
