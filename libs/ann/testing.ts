import { KithError } from "../base/index.js";
import { native } from "./native.js";
import type { VectorIndex } from "./types.js";
import { NativeIndex } from "./vector-index.js";

/** Makes indexes created afterwards use these kernels; undefined for the best again. False where the CPU lacks them. */
export function forceSimd(name: "portable" | "avx2" | "avx512" | "neon" | undefined): boolean {
  return native().hooks.forceSimd(name ?? "");
}

/**
 * The same searches in plain C++, one after the other on this thread: the ceiling that bench/ann compares with. Blocks
 * the event loop. `byUsearch` takes the graph library's own search instead of ours; all rows must be in the graph.
 */
export function searchLoop(
  index: VectorIndex,
  queries: Float32Array,
  options: { k: number; ef: number; byUsearch?: boolean },
): { seconds: number; slots: Uint32Array } {
  const count = queries.length / index.options.dimension;
  const { rowCount, graphRowCount } = index.stats();
  if (options.byUsearch === true && (graphRowCount !== rowCount || rowCount === 0)) {
    throw new KithError("FAILED_PRECONDITION", "not all rows are in the graph; await flush() first");
  }
  const slots = new Uint32Array(count * options.k);
  const nanoseconds = native().hooks.searchLoop(
    NativeIndex.nativeId(index),
    queries,
    options.k,
    options.ef,
    slots,
    options.byUsearch === true,
  );
  return { seconds: nanoseconds / 1e9, slots };
}

/** CRC-32C as the addon computes it, for its test. */
export function nativeCrc32c(bytes: Uint8Array): number {
  return native().hooks.crc32c(bytes);
}

/**
 * Rows of the graph whose number of links that lead to them, which the writer keeps up to date, is not what counting all
 * links anew gives. Blocks the event loop, and the writer meanwhile.
 */
export function miscountedRows(index: VectorIndex): number {
  return native().hooks.miscountedRows(NativeIndex.nativeId(index));
}

/** Searches of this process that the scan of another one answered. */
export function companionsServed(): number {
  return native().hooks.companionsServed();
}

/**
 * How a search of which rows are removed meanwhile goes over these, without a search: the rows carry `slots`, and it has found `found`. Gives the
 * slots of the rows that are offered to it, and the comparisons of slots that this took.
 */
export function offeredRemovals(slots: Uint32Array, found: Uint32Array): { offered: Uint32Array; comparisons: number } {
  const out = new Uint32Array(slots.length + 1);
  const comparisons = native().hooks.removedComparisons(slots, found, out);
  return { offered: out.slice(1, 1 + (out[0] ?? 0)), comparisons };
}

/**
 * Which link of a full list goes where link repair puts another one in: links are at these distances, and so many lead to what they lead
 * to. -1 where none may go, because nothing has more than `linksMin`.
 */
export function evictedLink(distances: Float32Array, incoming: Uint32Array, linksMin: number): number {
  return native().hooks.evictedLink(distances, incoming, linksMin);
}

/** Cores that the control groups allow, 0 for no limit: of a file like /proc/self/cgroup and a folder like /sys/fs/cgroup. */
export function quotaCores(membership: string, root: string): number {
  return native().hooks.quotaCores(membership, root);
}
