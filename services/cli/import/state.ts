import { rm } from "node:fs/promises";
import { createHash } from "node:crypto";
import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { KithError } from "../../../libs/base/index.js";
import { readStateFile, writeStateFile } from "./state-file.js";

/**
 * Where the state of an import is kept that names no file: one for each server, collection and input in KITH_STATE_DIR, else in the folder
 * "kith" of XDG_STATE_HOME, else in ~/.local/state/kith. https://specifications.freedesktop.org/basedir-spec/latest/
 */
export function defaultStatePath(env: Readonly<Record<string, string | undefined>>, of: readonly string[]): string {
  const xdg = env["XDG_STATE_HOME"];
  // By the specification, relative paths there do not count.
  const home = xdg !== undefined && isAbsolute(xdg) ? xdg : join(env["HOME"] || homedir(), ".local", "state");
  const name = createHash("sha256").update(JSON.stringify(of)).digest("hex").slice(0, 32);
  return resolve(env["KITH_STATE_DIR"] || join(home, "kith"), "imports", `${name}.json`);
}

/** How far an import has come, so that it can go on after an interruption. */
export interface ImportState {
  version: 2;
  collection: string;
  /** Random, and never used again: another one is another server's, or a collection that was made anew. */
  collectionId: string;
  file: string;
  /** To notice that the file was changed since; undefined for standard input. */
  sizeBytes?: number;
  modifiedMs?: number;
  format: string;
  idField: string;
  vectorField: string;
  /** Of CSV: its delimiter and the types of its columns. */
  csv: string;
  /** The file with the payloads; "" for none. */
  payloads: string;
  mode: string;
  idOffset: number;
  /** Every row before this one is written or refused for good. */
  nextRow: number;
  upserted: number;
  rejected: number;
}

export function saveState(path: string, state: ImportState): Promise<void> {
  return writeStateFile(path, JSON.stringify(state));
}

/** The state at this path; undefined where there is none. */
export async function loadState(path: string): Promise<ImportState | undefined> {
  const text = await readStateFile(path);
  if (text === undefined) return undefined;
  try {
    const state = JSON.parse(text) as ImportState;
    if (state.version === 2 && Number.isSafeInteger(state.nextRow) && state.nextRow >= 0) return state;
  } catch (cause) {
    throw new KithError("INVALID_ARGUMENT", `${path} is not the state of an import; remove it to start afresh`, {
      cause,
    });
  }
  throw new KithError("INVALID_ARGUMENT", `${path} is not the state of an import; remove it to start afresh`);
}

export async function removeState(path: string): Promise<void> {
  await rm(path, { force: true });
}

/** What makes the rows that are done the rows that this import would have written. */
const identity = [
  "collection",
  "collectionId",
  "format",
  "idField",
  "vectorField",
  "csv",
  "idOffset",
  "payloads",
  "mode",
  "sizeBytes",
  "modifiedMs",
] as const;

/** Refuses to go on with another input, or into another collection, than those of the import that was interrupted. */
export function checkSame(path: string, before: ImportState, now: ImportState): void {
  const differing = identity.filter((key) => before[key] !== now[key]);
  if (differing.length === 0) return;
  const shown = (value: string | number | undefined): string =>
    value === undefined || value === "" ? "none" : String(value);
  const what = differing.map((key) => `${key} was ${shown(before[key])} and is ${shown(now[key])}`).join("; ");
  throw new KithError(
    "FAILED_PRECONDITION",
    `${path} belongs to another import: ${what}. Import from the beginning without --resume, or name another --state`,
  );
}
