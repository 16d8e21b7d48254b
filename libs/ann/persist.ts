import { randomBytes } from "node:crypto";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { toKithError } from "../base/index.js";
import type { Channel } from "./channel.js";
import { checkExtra, checkOptions, readManifest, syncDirectory, writeManifest, type SavedFiles } from "./manifest.js";
import { native } from "./native.js";
import { optionWords } from "./options.js";
import type { IndexOptions } from "./types.js";

const ownFile = /^(?:rows|graph|meta)-([0-9a-f]+)\.bin(?:\.tmp)?$/;

/** Saves of this process whose files are not in a manifest yet; cleaning up after another save leaves them alone. */
const unfinished = new Set<string>();

function paths(directory: string, save: string): [rows: string, graph: string, meta: string] {
  return [
    join(directory, `rows-${save}.bin`),
    join(directory, `graph-${save}.bin`),
    join(directory, `meta-${save}.bin`),
  ];
}

/** Removes what earlier saves left, finished or killed. */
async function removeOthers(directory: string, save: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const owner = ownFile.exec(name)?.[1];
    if (owner !== undefined && owner !== save && !unfinished.has(owner))
      await rm(join(directory, name), { force: true });
  }
}

/**
 * Saves the native index `id`. Its state is taken before this function returns its promise; `before` is the end of the
 * last save of the same index, so that manifests follow each other in the order of the calls.
 */
export async function writeIndex(
  channel: Channel,
  id: number,
  options: Required<IndexOptions>,
  directory: string,
  manifest: { sequence: number; extra?: Record<string, string | number> },
  before: Promise<unknown>,
): Promise<{ bytes: number }> {
  const extra = manifest.extra ?? {};
  checkExtra(extra);
  const save = randomBytes(8).toString("hex");
  // Once the manifest is on its way, it may name these files: then a failure leaves them to the next save's clean-up.
  let unnamed = true;
  unfinished.add(save);
  try {
    const text = await channel.operate((ticket) => {
      native().save(id, ticket, ...paths(directory, save));
      return false;
    });
    const files = JSON.parse(text) as SavedFiles;
    await before;
    // The data files' own names must be on disk before a manifest speaks of them.
    await syncDirectory(directory);
    unnamed = false;
    await writeManifest(directory, { options, sequence: manifest.sequence, extra: { ...extra }, save, files });
    await removeOthers(directory, save);
    return { bytes: files.rowsBytes + files.graphBytes + files.metaBytes };
  } catch (error) {
    if (unnamed) await Promise.allSettled(paths(directory, save).map((path) => rm(path, { force: true })));
    throw toKithError(error);
  } finally {
    unfinished.delete(save);
  }
}

export interface ReadIndex {
  id: number;
  rowCount: number;
  sequence: number;
  extra: Record<string, string | number>;
}

/** Reads an index back, or undefined where there is no manifest. Throws CORRUPT_DATA when anything does not match. */
export async function readIndex(
  channel: Channel,
  options: Required<IndexOptions>,
  directory: string,
  signal: AbortSignal | undefined,
): Promise<ReadIndex | undefined> {
  try {
    const manifest = await readManifest(directory);
    if (manifest === undefined) return undefined;
    checkOptions(directory, manifest, options);
    const { files } = manifest;
    const saved = { ...files, checkedRowCount: files.checkedRowCount ?? 0 };
    let id = -1;
    // The index is taken over as soon as the load ends: its ticket is free for others afterwards.
    await channel.operate(
      (ticket) => {
        native().load(ticket, optionWords(options), ...paths(directory, manifest.save), saved);
        return false;
      },
      signal,
      (ticket) => {
        id = native().takeIndex(ticket);
      },
    );
    return { id, rowCount: files.rowCount, sequence: manifest.sequence, extra: manifest.extra };
  } catch (error) {
    throw toKithError(error);
  }
}
