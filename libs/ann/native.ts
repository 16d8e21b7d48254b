import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { KithError } from "../base/index.js";
import { toKithFailure } from "./failures.js";
import type { Layout } from "./layout.js";
import type { SavedFiles } from "./saved-files.js";

/** The functions for tests and benchmarks (native/hooks.cpp). */
export interface NativeHooks {
  forceSimd(name: string): boolean;
  searchLoop(id: number, queries: Float32Array, k: number, ef: number, slots: Uint32Array, byUsearch: boolean): number;
  crc32c(bytes: Uint8Array): number;
  miscountedRows(id: number): number;
  companionsServed(): number;
  removedComparisons(slots: Uint32Array, found: Uint32Array, offered: Uint32Array): number;
  evictedLink(distances: Float32Array, incoming: Uint32Array, linksMin: number): number;
  quotaCores(membership: string, root: string): number;
}

/** The functions of the addon (native/addon.cpp). They throw KithErrors. */
export interface NativeFunctions {
  open(
    onComplete: (count: number) => void,
    headers: Uint32Array,
    slots: Uint32Array,
    distances: Float32Array,
    cancelFlags: Uint8Array,
  ): boolean;
  create(options: Uint32Array, givenFolder: string): number;
  add(id: number, slots: Uint32Array, vectors: Float32Array, fault: Uint32Array): number;
  remove(id: number, slots: Uint32Array): void;
  get(id: number, slot: number, out: Float32Array): boolean;
  submit(count: number, requests: Uint32Array, queries: Float32Array, extras: (Uint8Array | Uint32Array)[]): void;
  whenInGraph(id: number, ticket: number, rows: number): boolean;
  save(
    id: number,
    ticket: number,
    rowsPath: string,
    givenPath: string,
    graphPath: string,
    metaPath: string,
    savedRows: number,
    generation: number,
    savedGiven: number,
    key: Uint8Array,
  ): void;
  load(
    ticket: number,
    options: Uint32Array,
    rows: { path: string; rowCount: number; bytes: number; crc: number; key: Uint8Array }[],
    graphPath: string,
    metaPath: string,
    saved: SavedFiles,
    given: { path: string; rowCount: number; bytes: number; crc: number; key: Uint8Array }[],
    givenFolder: string,
    key: Uint8Array,
  ): void;
  takeIndex(ticket: number): number;
  takeText(ticket: number): string;
  close(id: number, ticket: number): void;
  stats(id: number, out: Float64Array): string;
  postingsCreate(fields: number, numbers: Float32Array): number;
  postingsAdd(
    id: number,
    slots: Uint32Array,
    offsets: Uint32Array,
    terms: Uint32Array,
    worth: Uint32Array | Float32Array,
    lengths: Uint32Array,
    fault: Uint32Array,
  ): number;
  postingsRemove(id: number, slots: Uint32Array): void;
  postingsCounts(id: number, terms: Uint32Array, out: Float64Array): void;
  postingsStats(id: number, out: Float64Array): void;
  postingsSearch(
    id: number,
    ticket: number,
    k: number,
    words: Uint32Array,
    weights: Float32Array,
    averages: Float32Array,
    scopeKind: number,
    scope: Uint8Array | Uint32Array,
  ): void;
  postingsSettled(id: number, ticket: number, segments: number): void;
  postingsSave(id: number, ticket: number, path: string, key: Uint8Array): void;
  postingsLoad(
    ticket: number,
    fields: number,
    numbers: Float32Array,
    path: string,
    bytes: number,
    crc: number,
    key: Uint8Array,
  ): void;
  postingsTake(ticket: number): number;
  postingsClose(id: number, ticket: number): void;
  matricesCreate(options: Uint32Array): number;
  matricesAdd(
    id: number,
    slots: Uint32Array,
    rowCounts: Uint32Array,
    vectors: Float32Array,
    fault: Uint32Array,
  ): number;
  matricesRemove(id: number, slots: Uint32Array): void;
  matricesStats(id: number, out: Float64Array): void;
  matricesSearch(
    id: number,
    ticket: number,
    k: number,
    query: Float32Array,
    scopeKind: number,
    scope: Uint8Array | Uint32Array,
  ): void;
  matricesEncodeQuery(id: number, query: Float32Array, out: Float32Array): void;
  matricesEncode(id: number, ticket: number, slots: Uint32Array): void;
  takeNumbers(ticket: number, out: Float32Array): void;
  matricesSave(id: number, ticket: number, path: string, key: Uint8Array): void;
  matricesLoad(ticket: number, options: Uint32Array, path: string, bytes: number, crc: number, key: Uint8Array): void;
  matricesTake(ticket: number): number;
  matricesClose(id: number, ticket: number): void;
  configurePool(threads: number): boolean;
  nativeInfo(out: Float64Array): string;
}

export interface NativeAddon extends NativeFunctions {
  readonly layout: Layout;
  readonly hooks: NativeHooks;
}

/** The project's root: the same whether this file runs from its source or from dist/. */
function projectRoot(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  for (let folder = here; ; folder = dirname(folder)) {
    const manifest = join(folder, "package.json");
    if (existsSync(manifest)) {
      const { name } = JSON.parse(readFileSync(manifest, "utf8")) as { name?: string };
      if (name === "kith") return folder;
    }
    if (folder === dirname(folder)) {
      throw new KithError("FAILED_PRECONDITION", `no package.json of kith above ${here}; reinstall the project`);
    }
  }
}

type Functions = Record<string, (...parameters: unknown[]) => unknown>;

/** The same functions, whose errors are KithErrors. */
function typed(functions: Functions, names: Layout["failure"]): Functions {
  const wrap = (name: string, inner: (...parameters: unknown[]) => unknown) => {
    return (...parameters: unknown[]): unknown => {
      try {
        return inner(...parameters);
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        const code = Number((error as NodeJS.ErrnoException).code);
        throw toKithFailure(names, code, Number.isNaN(code) ? `${name}: ${error.message}` : error.message);
      }
    };
  };
  return Object.fromEntries(Object.entries(functions).map(([name, inner]) => [name, wrap(name, inner)]));
}

function load(): NativeAddon {
  const path = join(projectRoot(), "libs", "ann", "build", "kith_ann.node");
  if (!existsSync(path)) {
    throw new KithError(
      "FAILED_PRECONDITION",
      `the native index is not built (${path} is missing); run \`npm run build:native\`, which needs a C++ compiler`,
      { details: { path } },
    );
  }
  let exported: { layout: () => string; hooks: Functions } & Functions;
  try {
    exported = createRequire(import.meta.url)(path) as typeof exported;
  } catch (error) {
    throw new KithError(
      "FAILED_PRECONDITION",
      `the native index does not load on this machine; delete ${dirname(path)} and run \`npm run build:native\``,
      { details: { path }, cause: error },
    );
  }
  const { layout: readLayout, hooks, ...functions } = exported;
  const layout = JSON.parse(readLayout()) as Layout;
  return {
    ...(typed(functions, layout.failure) as unknown as NativeFunctions),
    layout,
    hooks: typed(hooks, layout.failure) as unknown as NativeHooks,
  };
}

let addon: NativeAddon | undefined;

/** The addon, loaded on first use so that code which never searches needs no binary. */
export function native(): NativeAddon {
  addon ??= load();
  return addon;
}
