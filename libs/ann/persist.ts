import { randomBytes } from "node:crypto";
import { statSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { toKithError } from "../base/index.js";
import type { Channel } from "./channel.js";
import { type FileKeys, fileKeyOf, noFileKey } from "./file-keys.js";
import { checkExtra, checkOptions, readManifest, syncDirectory, writeManifest } from "./manifest.js";
import { native } from "./native.js";
import { optionWords } from "./options.js";
import type { RowsPart, SavedFiles } from "./saved-files.js";
import type { IndexOptions } from "./types.js";

const ownFile = /^(?:rows|given|graph|meta)-([0-9a-f]+)\.bin(?:\.tmp)?$/;
/** Files of rows before they are written as one again: with a checkpoint at every fifth more rows, from 4,000 to a million. */
const rowsPartsMax = 32;

/** Saves of this process whose files are not in a manifest yet; cleaning up after another save leaves them alone. */
const unfinished = new Set<string>();

/** Rows of an index that are in files already: the next save into that directory appends to them. */
export interface SavedRows {
  directory: string;
  generation: number;
  parts: readonly RowsPart[];
  /** Of the vectors as they were given. */
  given: readonly RowsPart[];
}

function pathOf(directory: string, kind: "rows" | "given" | "graph" | "meta", save: string): string {
  return join(directory, `${kind}-${save}.bin`);
}

function paths(directory: string, save: string): [rows: string, given: string, graph: string, meta: string] {
  return [
    pathOf(directory, "rows", save),
    pathOf(directory, "given", save),
    pathOf(directory, "graph", save),
    pathOf(directory, "meta", save),
  ];
}

/** Removes what earlier saves left, finished or killed, but for the rows that belong to this one. */
async function removeOthers(
  directory: string,
  save: string,
  parts: readonly RowsPart[],
  given: readonly RowsPart[],
): Promise<void> {
  const kept = new Set([
    ...parts.map((part) => pathOf(directory, "rows", part.save)),
    ...given.map((part) => pathOf(directory, "given", part.save)),
  ]);
  for (const name of await readdir(directory)) {
    const owner = ownFile.exec(name)?.[1];
    if (owner === undefined || owner === save || unfinished.has(owner)) continue;
    if (!kept.has(join(directory, name))) await rm(join(directory, name), { force: true });
  }
}

/** The files that can be appended to: all of them, where they are still there, not too many, and encrypted as new ones are, or not at all; or none. */
function usable(
  kind: "rows" | "given",
  parts: readonly RowsPart[],
  directory: string,
  keys: FileKeys | undefined,
): readonly RowsPart[] {
  const isFit = (part: RowsPart): boolean => {
    const { save, key } = part;
    if (key === undefined ? keys !== undefined : keys?.isCurrentFileKey(key) !== true) return false;
    return statSync(pathOf(directory, kind, save), { throwIfNoEntry: false })?.size === storedBytes(part);
  };
  return parts.length < rowsPartsMax && parts.every(isFit) ? parts : [];
}

function rowsIn(parts: readonly RowsPart[]): number {
  return parts.reduce((sum, part) => sum + part.rowCount, 0);
}

/** The file of vectors as they were given is not encrypted, as it is read as memory is: with keys they are in memory. */
export function givenFolderOf({ givenFolder }: Required<IndexOptions>, keys: FileKeys | undefined): string {
  return keys === undefined || givenFolder === "" ? givenFolder : "memory:";
}

/** Blocks of an encrypted file, and by how much each is longer than its content (native/block_cipher.h). */
const blockBytes = 1024 * 1024;
const tagBytes = 16;

function storedBytes({ bytes, key }: RowsPart): number {
  return key === undefined ? bytes : bytes + Math.ceil(bytes / blockBytes) * tagBytes;
}

/** What native code answers to a save. */
interface Description extends Omit<SavedFiles, "originals"> {
  /** The first row that is not in earlier files. */
  firstRow: number;
  newRows?: Omit<RowsPart, "save">;
  newGiven?: Omit<RowsPart, "save">;
}

/**
 * Saves the native index `id`. Its state is taken before this function returns its promise; `before` is the end of the
 * last save of the same index, so that manifests follow each other in the order of the calls. Rows that `saved` names are not
 * written again. Resolves with the bytes of all files and of those written, and with the rows that are in files now.
 */
export async function writeIndex(
  channel: Channel,
  id: number,
  options: Required<IndexOptions>,
  directory: string,
  manifest: { sequence: number; extra?: Record<string, string | number> },
  before: Promise<unknown>,
  saved: SavedRows | undefined,
  keys: FileKeys | undefined,
): Promise<{ bytes: number; writtenBytes: number; rows: SavedRows }> {
  const extra = manifest.extra ?? {};
  checkExtra(extra);
  const save = randomBytes(8).toString("hex");
  const base = saved?.directory === directory ? saved : undefined;
  const there = {
    rows: usable("rows", base?.parts ?? [], directory, keys),
    given: usable("given", base?.given ?? [], directory, keys),
  };
  // Once the manifest is on its way, it may name these files: then a failure leaves them to the next save's clean-up.
  let unnamed = true;
  const fileKey = keys?.createFileKey();
  const key = fileKey && { key: fileKey.wrapped };
  unfinished.add(save);
  try {
    const text = await channel.operate((ticket) => {
      const generation = base?.generation ?? 0;
      const [rowCount, givenCount] = [rowsIn(there.rows), rowsIn(there.given)];
      native().save(id, ticket, ...paths(directory, save), rowCount, generation, givenCount, fileKey?.key ?? noFileKey);
      return false;
    });
    const { firstRow, newRows, newGiven, ...files } = JSON.parse(text) as Description;
    const parts: RowsPart[] = firstRow > 0 ? [...there.rows] : [];
    if (newRows !== undefined) parts.push({ save, ...newRows, ...key });
    const given: RowsPart[] = [...there.given];
    if (newGiven !== undefined) given.push({ save, ...newGiven, ...key });
    await before;
    // The data files' own names must be on disk before a manifest speaks of them.
    await syncDirectory(directory);
    unnamed = false;
    const saves = { sequence: manifest.sequence, extra: { ...extra }, save };
    await writeManifest(directory, {
      options,
      ...saves,
      ...key,
      rows: parts,
      given,
      files: { ...files, originals: false },
    });
    await removeOthers(directory, save, parts, given);
    const others = files.graphBytes + files.metaBytes;
    return {
      bytes: [...parts, ...given].reduce((sum, part) => sum + part.bytes, others),
      writtenBytes: others + (newRows?.bytes ?? 0) + (newGiven?.bytes ?? 0),
      rows: { directory, generation: files.generation, parts, given },
    };
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
  rows: SavedRows | undefined;
}

/** Reads an index back, or undefined where there is no manifest. Throws CORRUPT_DATA when anything does not match. */
export async function readIndex(
  channel: Channel,
  options: Required<IndexOptions>,
  directory: string,
  signal: AbortSignal | undefined,
  keys: FileKeys | undefined,
): Promise<ReadIndex | undefined> {
  try {
    const manifest = await readManifest(directory);
    if (manifest === undefined) return undefined;
    checkOptions(directory, manifest, options);
    const { files, save } = manifest;
    const keyOf = (wrapped: string | undefined): Uint8Array => fileKeyOf(keys, wrapped, `the index in ${directory}`);
    const withPath = (kind: "rows" | "given", parts: readonly RowsPart[]) =>
      parts.map((part) => ({ ...part, path: pathOf(directory, kind, part.save), key: keyOf(part.key) }));
    const key = keyOf(manifest.key);
    const rows = withPath("rows", manifest.rows);
    const given = withPath("given", manifest.given ?? []);
    const [, , graphPath, metaPath] = paths(directory, save);
    let id = -1;
    // The index is taken over as soon as the load ends: its ticket is free for others afterwards.
    await channel.operate(
      (ticket) => {
        native().load(
          ...([
            ticket,
            optionWords(options),
            rows,
            graphPath,
            metaPath,
            files,
            given,
            givenFolderOf(options, keys),
            key,
          ] as const),
        );
        return false;
      },
      signal,
      (ticket) => {
        id = native().takeIndex(ticket);
      },
    );
    const { sequence, extra } = manifest;
    const saved = { directory, generation: files.generation, parts: manifest.rows, given: manifest.given ?? [] };
    return { id, rowCount: files.rowCount, sequence, extra, rows: files.originals ? undefined : saved };
  } catch (error) {
    throw toKithError(error);
  }
}
