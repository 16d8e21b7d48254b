import { execFile } from "node:child_process";
import { open, readdir, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { KithError, type Runtime, toKithError } from "../../libs/base/index.js";
import type { Catalog } from "../../libs/catalog/index.js";
import type { NodeConfig } from "../../libs/config/index.js";
import { KeyRing, type MasterKey, masterKeysOf, missingKeys } from "../../libs/encryption/index.js";
import type { Logger } from "../../libs/telemetry/index.js";
import { readSetting } from "./adapters.js";
import type { Reloadable } from "./reload.js";

const run = promisify(execFile);
/** How long the command for the master key may take. */
const commandMs = 30_000;
const commandBytes = 64 * 1024;

/** Says that what lies here is encrypted, by a data key that proves which master key it takes. */
const markName = "encryption.json";
const markEntry = "settings.encryption";

interface Mark {
  format: 1;
  wrapped: string;
}

export interface Encryption extends Reloadable {
  keys: KeyRing;
}

/** The master keys of this node, by its settings; undefined where nothing is to be encrypted. */
export async function openEncryption(
  config: NodeConfig,
  { random }: Runtime,
  logger: Logger,
): Promise<Encryption | undefined> {
  const masters = await readMasters(config);
  if (masters === undefined) return undefined;
  const keys = new KeyRing(masters, random);
  let current = config.encryption;
  logger.info(`points, records and backups are encrypted with the master key ${keys.masterKey}`);
  return {
    keys,
    async prepare({ encryption: next }, isAsked) {
      const isOld = next.keyCommand === undefined || next.keyCommand === current.keyCommand;
      // What a command asks may take its time, and count.
      const isSkipped = next.keyCommand !== undefined && isOld && !isAsked;
      const read = isSkipped ? undefined : await readMasters({ encryption: next });
      return () => {
        current = next;
        if (read === undefined || read.map(({ id }) => id).join() === keys.known.join()) return [];
        keys.replace(read);
        logger.info(`what is written from now on is encrypted with the master key ${keys.masterKey}`);
        return [next.keyCommand === undefined ? "encryption.keyFile" : "encryption.keyCommand"];
      };
    },
  };
}

async function readMasters({ encryption }: Pick<NodeConfig, "encryption">): Promise<MasterKey[] | undefined> {
  const { key, keyFile, keyCommand } = encryption;
  if (key !== undefined) return masterKeysOf(key.replaceAll(",", "\n"), "encryption.key (KITH_ENCRYPTION_KEY)");
  if (keyFile !== undefined) {
    const text = await readSetting("encryption.keyFile", keyFile);
    return masterKeysOf(text.toString(), `encryption.keyFile ${keyFile}`);
  }
  if (keyCommand === undefined) return undefined;
  const source = `what encryption.keyCommand (${keyCommand}) wrote`;
  try {
    const { stdout } = await run("/bin/sh", ["-c", keyCommand], { timeout: commandMs, maxBuffer: commandBytes });
    return masterKeysOf(stdout, source);
  } catch (error) {
    if (error instanceof KithError) throw error;
    const { code, killed, stderr = "" } = error as { code?: unknown; killed?: boolean; stderr?: string };
    const why = killed === true ? `did not end within ${commandMs / 1000} s` : `ended with ${String(code)}`;
    throw new KithError(
      "INVALID_CONFIG",
      `encryption.keyCommand (${keyCommand}) ${why}: ${stderr.trim().slice(0, 500)}`,
    );
  }
}

/**
 * Holds the keys against the data folder before anything in it is touched: FAILED_PRECONDITION where it is encrypted, and its master key is not
 * among them. A folder that was not encrypted is from now on.
 */
export async function checkData(data: string, keys: KeyRing | undefined, logger: Logger): Promise<void> {
  const path = join(data, markName);
  const mark = await readMark(path);
  if (mark !== undefined) checkMark(mark, keys, `the data folder ${data}`);
  if (keys === undefined || (mark !== undefined && keys.isCurrentFileKey(mark.wrapped))) return;
  if (mark === undefined && (await readdir(data)).includes("replicas")) {
    logger.info(`what ${data} holds was not encrypted; it is rewritten in the background`);
  }
  await writeMark(data, path, keys);
}

/**
 * Holds the keys against what the cluster uses: FAILED_PRECONDITION where its log is encrypted, and its master key is not among them. Nothing is written to the log
 * that others could not read, or everybody could. `mayWrite`: this node tells the others which key it uses.
 */
export async function checkCluster(catalog: Catalog, keys: KeyRing | undefined, mayWrite: boolean): Promise<void> {
  const entry = await catalog.get(markEntry);
  const mark = entry && (JSON.parse(entry.value) as Mark);
  if (mark !== undefined) checkMark(mark, keys, "the log of this cluster");
  if (keys === undefined || !mayWrite || (mark !== undefined && keys.isCurrentFileKey(mark.wrapped))) return;
  try {
    if (entry === undefined) await catalog.create(markEntry, JSON.stringify(newMark(keys)));
    else await catalog.update(markEntry, JSON.stringify(newMark(keys)), entry.revision);
  } catch (error) {
    // Another node was first, with the same key or another one: its mark is looked at.
    if (!["ALREADY_EXISTS", "REVISION_MISMATCH"].includes(toKithError(error).code)) throw error;
    await checkCluster(catalog, keys, false);
  }
}

function newMark(keys: KeyRing): Mark {
  return { format: 1, wrapped: keys.createFileKey().wrapped };
}

function checkMark({ wrapped }: Mark, keys: KeyRing | undefined, what: string): void {
  const bytes = Buffer.from(wrapped, "base64");
  if (keys === undefined) throw missingKeys(what, bytes.toString("hex", 0, 8));
  keys.openDataKey(bytes, what);
}

async function readMark(path: string): Promise<Mark | undefined> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as Mark;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    const { message } = error as Error;
    throw new KithError("CORRUPT_DATA", `${path}, which says how the folder is encrypted, cannot be read: ${message}`);
  }
}

async function writeMark(data: string, path: string, keys: KeyRing): Promise<void> {
  const file = await open(`${path}.tmp`, "w", 0o600);
  try {
    await file.writeFile(JSON.stringify(newMark(keys)));
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(`${path}.tmp`, path);
  const folder = await open(data);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Says once that somebody writes records without a key. */
export function onceTold(logger: Logger): (name: { shard: number }, sequence: number) => void {
  let isTold = false;
  return ({ shard }, sequence) => {
    if (isTold) return;
    isTold = true;
    logger.warn(
      `record ${sequence} of the log of shard ${shard} came without encryption: a router or coordinator has no master key; give it encryption.keyFile (KITH_ENCRYPTION_KEY_FILE) and start it again`,
      { component: "encryption" },
    );
  };
}

/** Marks what is encrypted with another master key when this node takes one. */
export function keepMark(mark: () => Promise<void>, keys: KeyRing, logger: Logger): () => void {
  return keys.onChange(() => {
    mark().catch((error: unknown) => {
      const { code, message } = toKithError(error);
      logger.warn(`the master key in use could not be noted, and will be at the next start: ${message}`, {
        code,
      });
    });
  });
}
