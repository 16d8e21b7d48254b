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
  for (const part of parts) node = node?.kind === "folder" ? node.entries.get(part) : undefined;
  return node;
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

/** The database whose folder this is, made where there is nothing yet. */
export function openDatabaseAt(path: string): StoredDatabase {
  const found = get(path);
  if (found.kind === "database") return found;
  const database: StoredDatabase = { kind: "database", content: new Content(), lock: undefined };
  link(path, database);
  // LevelDB syncs its first files, and with them the folders in which they lie.
  findMount(path).disk.synced("files");
  return database;
}

interface ReadFolderOptions {
  withFileTypes?: boolean;
  recursive?: boolean;
}

function readFolder(path: string, options: ReadFolderOptions): unknown[] {
  const node = get(path);
  if (node.kind === "file") throw failure("ENOTDIR", path);
  const entries = node.kind === "folder" ? [...node.entries].sort(([a], [b]) => (a < b ? -1 : 1)) : [];
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

function statOf(node: DiskNode): object {
  return {
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
    writev: (parts: readonly Uint8Array[]) =>
      mounted.write(() => writeWhole(path, Buffer.concat([(get(path) as File).data, ...parts]))),
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
