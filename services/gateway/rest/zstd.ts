import { pipeline, type Transform } from "node:stream";
import type * as library from "@cloudpss/zstd/napi";
import { ZstdFrames } from "./zstd-frames.js";

/*
 * Node itself has zstd from 22.15 on, which is not the oldest that Kith runs on: @cloudpss/zstd brings built addons for glibc and musl, macOS and Windows
 * in its package. It works on this thread, at 0.4 to 1 GB/s, and so is given pieces.
 */
type Zstd = typeof library;

let loading: Promise<Zstd | undefined> | undefined;

/** Undefined where this machine has no addon. */
function zstd(): Promise<Zstd | undefined> {
  loading ??= import("@cloudpss/zstd/napi").catch(() => undefined);
  return loading;
}

/** A way through two streams or more: what is written to the first comes out of the last. */
export interface Way {
  readonly into: Transform;
  readonly from: Transform;
}

/** Unpacks, at most 128 KiB at once before it waits for its reader. Undefined where this machine cannot. */
export async function zstdDecompressor(): Promise<Way | undefined> {
  const found = await zstd();
  if (found === undefined) return undefined;
  const into = new ZstdFrames();
  const from = new found.Decompressor();
  // Errors come out where it is read.
  pipeline(into, from, () => undefined);
  return { into, from };
}

/** Packs at level 1. Undefined where this machine cannot. */
export async function zstdCompressor(): Promise<Transform | undefined> {
  const found = await zstd();
  return found === undefined ? undefined : new found.Compressor(1);
}
