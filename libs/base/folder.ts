import { constants } from "node:fs";
import { access, mkdir, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { KithError } from "./errors.js";

/**
 * Makes a folder with those above it; rejects as `mkdir` does. Not by its option `recursive`: Node 20 tries for ever, on a thread at full
 * load, where a file system like /proc says ENOENT to the last step.
 */
export async function makeFolder(path: string): Promise<void> {
  try {
    await makeOne(path);
  } catch (error) {
    const above = dirname(path);
    if ((error as NodeJS.ErrnoException).code !== "ENOENT" || above === path) throw error;
    // Somebody else may have made it since.
    if (!(await exists(above))) await makeFolder(above);
    await makeOne(path);
  }
}

async function makeOne(path: string): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "EEXIST" || !(await stat(path)).isDirectory()) throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

/**
 * Makes the data folder where it is missing. INVALID_CONFIG where it cannot be written: nothing that follows would work. A disk that is full
 * is no such case: the node may be the one that is to make room.
 */
export async function prepareData(data: string): Promise<void> {
  try {
    await makeFolder(data);
    await access(data, constants.W_OK | constants.X_OK);
  } catch (error) {
    const cause = error as NodeJS.ErrnoException;
    if (cause.code === "ENOSPC" || cause.code === "EDQUOT") return;
    throw new KithError(
      "INVALID_CONFIG",
      `the data folder ${data} cannot be written (${cause.code ?? cause.message}): name one that this user may write, by the setting data (KITH_DATA)`,
      { cause, details: { data } },
    );
  }
}
