import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The folder of this installation: the nearest one above with Kith's package.json, from sources and from dist alike. */
export const installationRoot: string = findRoot(dirname(fileURLToPath(import.meta.url)));

export const programVersion: string = readPackage(installationRoot)?.version ?? "0.0.0";

function findRoot(start: string): string {
  for (let folder = start; ; folder = dirname(folder)) {
    if (readPackage(folder)?.name === "kith") return folder;
    if (dirname(folder) === folder) return start;
  }
}

function readPackage(folder: string): { name?: string; version?: string } | undefined {
  try {
    return JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as { name?: string; version?: string };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
