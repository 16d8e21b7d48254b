import { readFile, rename, writeFile } from "node:fs/promises";
import { type StoreIdentity, toJson } from "../recover/schema.js";
import { incarnationPath } from "./layout.js";
import type { OpenReplica } from "./open-replica.js";

/** Writes what was learned of the store's identity. Rejects with what stopped the open replica. */
export async function noteIdentity(replica: OpenReplica, learned: Partial<StoreIdentity>): Promise<void> {
  const identity = { ...replica.identity, ...learned };
  replica.identity = identity;
  const batch = replica.store.batch();
  batch.putMeta("identity", toJson(identity));
  try {
    await replica.store.write(batch, { sync: true });
  } catch (error) {
    throw replica.fail(error);
  }
}

/**
 * The log's incarnation lies beside the store as well: when the store cannot be read at all, it tells whether the log is
 * still the one that the replica was filled from, and so whether the directory may be wiped and the log replayed.
 */
export async function writeIncarnation(directory: string, incarnation: string): Promise<void> {
  const path = incarnationPath(directory);
  await writeFile(`${path}.tmp`, incarnation, { flush: true });
  await rename(`${path}.tmp`, path);
}

/** "" where the replica never met its log. */
export async function readIncarnation(directory: string): Promise<string> {
  try {
    return await readFile(incarnationPath(directory), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw error;
  }
}
