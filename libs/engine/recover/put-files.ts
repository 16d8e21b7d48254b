import { abortReason } from "../../base/index.js";
import type { ShardId, SnapshotBlock, SnapshotManifest } from "../../model/index.js";
import { replaceContent } from "../replica/layout.js";
import { FilesCopy } from "./files-copy.js";
import { storeFormatRelease } from "./schema.js";

/** Files of a replica, to be put into a directory. */
export interface PutFiles {
  /** Whose they are. */
  name: ShardId;
  manifest: SnapshotManifest;
  blocks: AsyncIterable<SnapshotBlock>;
  signal: AbortSignal;
}

/** Makes a replica's directory of files that one had before: it opens, and goes on from there. The directory must be empty. CORRUPT_DATA where they are damaged. */
export async function putFiles(directory: string, { name, manifest, blocks, signal }: PutFiles): Promise<void> {
  const copy = await FilesCopy.create(directory, manifest);
  try {
    for await (const block of blocks) {
      if (signal.aborted) throw abortReason(signal);
      await copy.add(block);
    }
    const { format, incarnation } = manifest;
    await copy.finish({ format, release: storeFormatRelease, ...name, incarnation });
    await replaceContent(directory);
  } finally {
    await copy.close();
  }
}
