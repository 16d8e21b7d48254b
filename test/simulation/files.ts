import nodeFs from "node:fs";
import fs from "node:fs/promises";
import { createRequire, syncBuiltinESMExports } from "node:module";
import { basename, dirname, join } from "node:path";
import { assert } from "../../libs/base/index.js";
import { Content, type DiskNode, type File, type Folder, type Mount, type StoredDatabase } from "./disk.js";
import { never } from "./world.js";

/** Below it lie simulated disks, one folder for each mount. */
const root = "/kith-simulation";

const mounts = new Map<string, Mount>();
let mountCount = 0;

/** Makes a disk visible to its process; gives the path. Each process has a path of its own, so that what a dead one does is told apart. */
export function mount(mounted: Mount): string {
  const path = `${root}/${++mountCount}`;
  mounts.set(path, mounted);
  return path;
}

/** Forgets all mounts: their world is over. */
export function unmountAll(): void {
  mounts.clear();
  // Paths come into messages, and are the same in each run of a seed.
  mountCount = 0;
  inodes = new WeakMap();
  inodeCount = 0;
}

function isSimulated(path: unknown): path is string {
  return typeof path === "string" && path.startsWith(`${root}/`);
}

function split(path: string): { mounted: Mount; parts: string[] } {
  const [, , id = "", ...parts] = path.split("/");
  const mounted = mounts.get(`${root}/${id}`);
  assert(mounted !== undefined, `${path} is on no simulated disk`);
  return { mounted, parts: parts.filter((part) => part !== "") };
}

export function findMount(path: string): Mount {
  return split(path).mounted;
}

function failure(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${path}`), { code });
}

function find(path: string): DiskNode | undefined {
  const { mounted, parts } = split(path);
  let node: DiskNode | undefined = mounted.disk.root;
  for (const part of parts) {
    if (node?.kind === "database") node = databaseFile(node, part);
    else node = node?.kind === "folder" ? node.entries.get(part) : undefined;
  }
  return node;
}

/** What LevelDB's files are made of here: one that names the other, which holds all entries. */
const currentName = "CURRENT";
const contentName = "MANIFEST-000001";

/** A file of a database, as it would be on the disk now; undefined where there is none of that name. */
function databaseFile({ content }: StoredDatabase, name: string): File | undefined {
  if (name === currentName) return { kind: "file", data: Buffer.from(`${contentName}\n`) };
  return name === contentName ? { kind: "file", data: encodeContent(content) } : undefined;
}

/** { length(4) key length(4) value }*, in order of key. */
function encodeContent(content: Content): Buffer {
  const pieces = content.keys().flatMap((key) => [Buffer.from(key, "latin1"), content.get(key) as Uint8Array]);
  return Buffer.concat(
    pieces.flatMap((piece) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(piece.length);
      return [length, piece];
    }),
  );
}

function decodeContent(data: Buffer): Content {
  const content = new Content();
  const pieces: Buffer[] = [];
  for (let at = 0; at < data.length; at += 4 + (pieces.at(-1)?.length ?? 0)) {
    pieces.push(Buffer.from(data.subarray(at + 4, at + 4 + data.readUInt32LE(at))));
  }
  for (let i = 0; i < pieces.length; i += 2) {
    content.set((pieces[i] as Buffer).toString("latin1"), Uint8Array.from(pieces[i + 1] as Buffer));
  }
  return content;
}

function get(path: string): DiskNode {
  const node = find(path);
  if (node === undefined) throw failure("ENOENT", path);
  return node;
}

function folderOf(path: string): Folder {
  const node = get(dirname(path));
  if (node.kind !== "folder") throw failure("ENOTDIR", path);
  return node;
}

/** Puts a node into its folder, or takes it out; gives what undoes that. */
function place(path: string, node: DiskNode | undefined): () => void {
  const { entries } = folderOf(path);
  const name = basename(path);
  const before = entries.get(name);
  const put = (value: DiskNode | undefined): void => {
    if (value === undefined) entries.delete(name);
    else entries.set(name, value);
  };
  put(node);
  return () => put(before);
}

/** As `place`; undone by a loss of power. */
function link(path: string, node: DiskNode | undefined): void {
  findMount(path).disk.changed("files", place(path, node));
}

/** The database whose folder this is, made where there is nothing yet, or of the files that have come there. */
export function openDatabaseAt(path: string): StoredDatabase {
  const found = get(path);
  if (found.kind === "database") return found;
  const files = found.kind === "folder" ? found.entries.get(contentName) : undefined;
  const content = files?.kind === "file" ? decodeContent(files.data) : new Content();
  const database: StoredDatabase = { kind: "database", content, lock: undefined };
  link(path, database);
  // LevelDB syncs its first files, and with them the folders in which they lie.
  findMount(path).disk.synced("files");
  return database;
}

function entriesOf(node: DiskNode): [string, DiskNode][] {
  if (node.kind === "folder") return [...node.entries];
  if (node.kind === "file") return [];
  return [currentName, contentName].map((name) => [name, databaseFile(node, name) as File]);
}

/** The file of a database without its first entry of a family of keys. */
export function withoutEntry(data: Buffer, family: string): Buffer {
  const content = decodeContent(data);
  const key = content.keys().find((each) => each.startsWith(family));
  if (key !== undefined) content.set(key, undefined);
  return encodeContent(content);
}

interface ReadFolderOptions {
  withFileTypes?: boolean;
  recursive?: boolean;
}

function readFolder(path: string, options: ReadFolderOptions): unknown[] {
  const node = get(path);
  if (node.kind === "file") throw failure("ENOTDIR", path);
  const entries = entriesOf(node).sort(([a], [b]) => (a < b ? -1 : 1));
  return entries.flatMap(([name, child]) => {
    const own =
      options.withFileTypes === true
        ? { name, parentPath: path, isFile: () => child.kind === "file", isDirectory: () => child.kind !== "file" }
        : name;
    const below = options.recursive === true && child.kind === "folder" ? readFolder(join(path, name), options) : [];
    return [own, ...below];
  });
}

function makeFolder(path: string, isRecursive: boolean): string | undefined {
  const present = find(path);
  if (present !== undefined) {
    if (isRecursive && present.kind !== "file") return undefined;
    throw failure("EEXIST", path);
  }
  const first = isRecursive && find(dirname(path)) === undefined ? makeFolder(dirname(path), true) : undefined;
  link(path, { kind: "folder", entries: new Map() });
  return first ?? path;
}

/** By which the files of a disk are told apart, in the order in which they were asked for. */
let inodes = new WeakMap<DiskNode, number>();
let inodeCount = 0;

function statOf(node: DiskNode): object {
  const ino = inodes.get(node) ?? ++inodeCount;
  inodes.set(node, ino);
  return {
    ...{ ino, mtimeMs: 0 },
    size: node.kind === "file" ? node.data.length : 0,
    isDirectory: () => node.kind !== "file",
    isFile: () => node.kind === "file",
  };
}

function writeWhole(path: string, data: Buffer): void {
  const present = find(path);
  if (present?.kind !== "file") {
    link(path, { kind: "file", data });
    return;
  }
  const before = present.data;
  present.data = data;
  findMount(path).disk.changed("files", () => {
    present.data = before;
  });
}

/** Writes and syncs come one after the other, as callers await them. */
function handleOf(path: string): object {
  const mounted = findMount(path);
  return {
    stat: () => read(path, () => statOf(get(path))),
    readFile: () => read(path, () => Buffer.from((get(path) as File).data)),
    writeFile: (data: Uint8Array) => mounted.write(() => writeWhole(path, Buffer.from(data))),
    writev: (parts: readonly Uint8Array[]) =>
      mounted.write(() => writeWhole(path, Buffer.concat([(get(path) as File).data, ...parts]))),
    write: async (data: Uint8Array, from: number, length: number, at: number) => {
      await mounted.write(() => {
        const before = (get(path) as File).data;
        const after = Buffer.alloc(Math.max(before.length, at + length));
        before.copy(after);
        after.set(data.subarray(from, from + length), at);
        writeWhole(path, after);
      });
      return { bytesWritten: length };
    },
    read: async (buffer: Buffer, from: number, length: number, at: number) => {
      await mounted.beforeRead();
      return { bytesRead: (get(path) as File).data.copy(buffer, from, at, at + length) };
    },
    sync: () => mounted.write(() => mounted.disk.synced("files")),
    close: async () => {
      if (mounted.process.isDead) await never();
    },
  };
}

type AnyFunction = (...args: never[]) => Promise<unknown>;

async function read<T>(path: string, take: () => T): Promise<T> {
  await findMount(path).beforeRead();
  return take();
}

async function written<T>(path: string, change: () => T): Promise<T> {
  let result: T | undefined;
  let refused: Error | undefined;
  await findMount(path).write(() => {
    try {
      result = change();
    } catch (error) {
      refused = error as Error;
    }
  });
  if (refused !== undefined) throw refused;
  return result as T;
}

const simulated: Record<string, AnyFunction> = {
  access: (path: string) => read(path, () => void get(path)),
  stat: (path: string) => read(path, () => statOf(get(path))),
  readdir: (path: string, options: ReadFolderOptions = {}) => read(path, () => readFolder(path, options)),
  readFile: (path: string, encoding?: BufferEncoding) =>
    read(path, () => {
      const node = get(path);
      if (node.kind !== "file") throw failure("EISDIR", path);
      return encoding === undefined ? Buffer.from(node.data) : node.data.toString(encoding);
    }),
  mkdir: (path: string, options: { recursive?: boolean } = {}) =>
    written(path, () => makeFolder(path, options.recursive === true)),
  writeFile: (path: string, data: string | Uint8Array, options: { flush?: boolean } = {}) =>
    written(path, () => {
      writeWhole(path, Buffer.from(data as Uint8Array));
      if (options.flush === true) findMount(path).disk.synced("files");
    }),
  link: (from: string, to: string) =>
    written(to, () => {
      const node = get(from);
      if (node.kind !== "file") throw failure("EPERM", from);
      if (find(to) !== undefined) throw failure("EEXIST", to);
      link(to, node);
    }),
  copyFile: (from: string, to: string) =>
    written(to, () => {
      const node = get(from);
      if (node.kind !== "file") throw failure("EISDIR", from);
      writeWhole(to, findMount(to).disk.copied?.(node.data) ?? Buffer.from(node.data));
    }),
  rename: (from: string, to: string) =>
    written(from, () => {
      const undo = [place(to, get(from)), place(from, undefined)];
      // Atomic: there is no moment at which the node is at both places, or at none.
      findMount(from).disk.changed("files", () => {
        for (const each of undo.reverse()) each();
      });
    }),
  rm: (path: string, options: { recursive?: boolean; force?: boolean } = {}) =>
    written(path, () => {
      if (find(path) === undefined) {
        if (options.force === true) return;
        throw failure("ENOENT", path);
      }
      link(path, undefined);
    }),
  rmdir: (path: string) =>
    written(path, () => {
      const node = get(path);
      if (node.kind === "folder" && node.entries.size > 0) throw failure("ENOTEMPTY", path);
      link(path, undefined);
    }),
  open: (path: string, flags = "r") =>
    written(path, () => {
      if (flags === "w") writeWhole(path, Buffer.alloc(0));
      get(path);
      return handleOf(path);
    }),
};

let isInstalled = false;

/**
 * From now on, files and databases below the root lie on simulated disks; all others are what they were. Kith takes its files from
 * node:fs/promises and its databases from classic-level, and both are shared by the process: what is replaced here is replaced everywhere.
 */
export function installDisks(level: unknown): void {
  if (isInstalled) return;
  isInstalled = true;
  const functions = fs as unknown as Record<string, AnyFunction>;
  for (const [name, replacement] of Object.entries(simulated)) {
    const original = functions[name] as AnyFunction;
    functions[name] = (...args: never[]) => (isSimulated(args[0]) ? replacement(...args) : original.apply(fs, args));
  }
  const { existsSync } = nodeFs;
  nodeFs.existsSync = (path) => (isSimulated(path) ? find(path) !== undefined : existsSync(path));
  syncBuiltinESMExports();
  const require = createRequire(import.meta.url);
  const path = require.resolve("classic-level");
  const { ClassicLevel } = require("classic-level") as { ClassicLevel: new (...args: unknown[]) => object };
  class AnyLevel {
    constructor(location: string, options: object) {
      const Level = isSimulated(location) ? (level as typeof ClassicLevel) : ClassicLevel;
      return new Level(location, options);
    }
  }
  const module = require.cache[path];
  assert(module !== undefined, "classic-level is not loaded");
  module.exports = { ClassicLevel: AnyLevel };
}
