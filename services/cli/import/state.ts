import { open, readFile, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { KithError } from "../../../libs/base/index.js";

/** How far an import has come: written beside the input, so that it can go on after an interruption. */
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
  /** The file with the payloads; "" for none. */
  payloads: string;
  mode: string;
  idOffset: number;
  /** Every row before this one is written or refused for good. */
  nextRow: number;
  upserted: number;
  rejected: number;
}

/** Replaces the state in one step: a crash leaves the old one or the new one, never a half. */
export async function saveState(path: string, state: ImportState): Promise<void> {
  const temporary = `${path}.new`;
  const file = await open(temporary, "w");
  try {
    await file.writeFile(`${JSON.stringify(state)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  const folder = await open(dirname(path), "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** The state at this path; undefined where there is none. */
export async function loadState(path: string): Promise<ImportState | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new KithError("INVALID_ARGUMENT", `the state file ${path} cannot be read: ${(cause as Error).message}`, {
      cause,
    });
  }
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
