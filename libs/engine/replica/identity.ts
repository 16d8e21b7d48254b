import { readFile, rename, writeFile } from "node:fs/promises";
import type { LogState } from "../../log/index.js";
import { fromJson, type StoreIdentity, type StoreState, toJson } from "../recover/schema.js";
import { required } from "../recover/identify.js";
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
 * Takes up a log that was mended so that its first record follows what is applied: records in between count as applied, for they are nowhere. Rejects
 * with what stopped the open replica.
 */
export async function takeUp(replica: OpenReplica, { incarnation, firstSequence }: LogState): Promise<void> {
  const appliedSequence = firstSequence - 1;
  const passed = appliedSequence - replica.appliedSequence;
  try {
    const before = fromJson<StoreState>(await required(replica.store, "state"));
    const identity = { ...replica.identity, incarnation };
    const batch = replica.store.batch();
    batch.putMeta("identity", toJson(identity));
    batch.putMeta(
      "state",
      toJson({ ...before, appliedSequence, lastChecksum: passed === 0 ? before.lastChecksum : undefined }),
    );
    await replica.store.write(batch, { sync: true });
    await writeIncarnation(replica.context.directory, incarnation);
    replica.identity = identity;
  } catch (error) {
    throw replica.fail(error);
  }
  if (passed > 0) replica.lastChecksum = undefined;
  replica.appliedSequence = replica.writtenSequence = appliedSequence;
  replica.context.onAlarm({
    kind: "log_taken_up",
    message:
      `the log was mended and goes on from what this replica has applied` +
      (passed > 0 ? `: it counts on at ${firstSequence}, ${passed} sequences further` : ""),
  });
  replica.context.onApplied(appliedSequence);
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
