import { open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { KithError } from "../../../libs/base/index.js";

/** Replaces the state in one step: a crash leaves the old one or the new one, never a half. */
export async function writeStateFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.new`;
  const file = await open(temporary, "w");
  try {
    await file.writeFile(`${text}\n`);
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

/** The text at this path; undefined where there is none. */
export async function readStateFile(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new KithError("INVALID_ARGUMENT", `the state file ${path} cannot be read: ${(cause as Error).message}`, {
      cause,
    });
  }
}
