import { open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { crc32c, KithError } from "../../base/index.js";

/*
 * Checkpoints of indexes of postings: files with names of their own, and a manifest that names them and comes last, "checksum JSON".
 */
const manifestName = "manifest.json";

/** What the manifest says; undefined where there is none. CORRUPT_DATA where it is damaged, or of another format. */
export async function readManifest<T extends { format: number }>(
  directory: string,
  format: T["format"],
): Promise<T | undefined> {
  let text: string;
  try {
    text = await readFile(join(directory, manifestName), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  const at = text.indexOf(" ");
  const json = text.slice(at + 1);
  if (at < 0 || Number(text.slice(0, at)) !== crc32c(Buffer.from(json))) {
    throw new KithError("CORRUPT_DATA", "its manifest is damaged");
  }
  const manifest = JSON.parse(json) as T;
  if (manifest.format !== format) throw new KithError("CORRUPT_DATA", `it has the format ${String(manifest.format)}`);
  return manifest;
}

/** Puts the manifest in the place of the one before, when all that it names is on the disk. */
export async function writeManifest(directory: string, manifest: { format: number }): Promise<void> {
  const text = JSON.stringify(manifest);
  const path = join(directory, manifestName);
  await writeSynced(`${path}.new`, Buffer.from(`${crc32c(Buffer.from(text))} ${text}`));
  await rename(`${path}.new`, path);
  await syncDirectory(directory);
  await syncDirectory(join(directory, ".."));
}

export async function writeSynced(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, "w");
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
