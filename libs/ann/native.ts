import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { KithError } from "../base/index.js";

/** Why native code refused something; the numbers of `Failure::Code` in native/index.h. */
export const failure = {
  none: 0,
  notFinite: 1,
  zeroVector: 2,
  duplicateSlot: 3,
  resources: 4,
  corrupt: 5,
  io: 6,
  cancelled: 7,
  closed: 8,
} as const;

/** Sizes of the buffers that native code fills; the constants of native/channel.h. */
export const stageSizes = { tickets: 65_536, headerWords: 8, headers: 1024, results: 65_536 } as const;

/** The functions of the addon (native/addon.cpp). Arguments are checked by the callers in this folder. */
export interface NativeAddon {
  open(
    onComplete: (count: number) => void,
    headers: Uint32Array,
    slots: Uint32Array,
    distances: Float32Array,
    cancelFlags: Uint8Array,
  ): boolean;
  create(options: Uint32Array): number;
  add(id: number, slots: Uint32Array, vectors: Float32Array, fault: Uint32Array): number;
  remove(id: number, slots: Uint32Array): void;
  get(id: number, slot: number, out: Float32Array): boolean;
  submit(count: number, requests: Uint32Array, queries: Float32Array, extras: (Uint8Array | Uint32Array)[]): void;
  whenInGraph(id: number, ticket: number, rows: number): boolean;
  save(id: number, ticket: number, rowsPath: string, graphPath: string, metaPath: string): void;
  load(
    ticket: number,
    options: Uint32Array,
    rowsPath: string,
    graphPath: string,
    metaPath: string,
    saved: Float64Array,
  ): void;
  takeIndex(ticket: number): number;
  takeText(ticket: number): string;
  close(id: number, ticket: number): void;
  stats(id: number, out: Float64Array): string;
  configurePool(threads: number): boolean;
  nativeInfo(out: Float64Array): string;
  forceSimd(name: string): boolean;
  searchLoop(id: number, queries: Float32Array, k: number, ef: number, slots: Uint32Array, byUsearch: boolean): number;
  crc32c(bytes: Uint8Array): number;
  miscountedRows(id: number): number;
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

function load(): NativeAddon {
  const path = join(projectRoot(), "libs", "ann", "build", "kith_ann.node");
  if (!existsSync(path)) {
    throw new KithError(
      "FAILED_PRECONDITION",
      `the native index is not built (${path} is missing); run \`npm run build:native\`, which needs a C++ compiler`,
      { details: { path } },
    );
  }
  try {
    return createRequire(import.meta.url)(path) as NativeAddon;
  } catch (error) {
    throw new KithError(
      "FAILED_PRECONDITION",
      `the native index does not load on this machine; delete ${dirname(path)} and run \`npm run build:native\``,
      { details: { path }, cause: error },
    );
  }
}

let addon: NativeAddon | undefined;

/** The addon, loaded on first use so that code which never searches needs no binary. */
export function native(): NativeAddon {
  addon ??= load();
  return addon;
}
