import { readdir, readFile, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { splitPassages } from "../../../libs/embedding/index.js";

export interface DocPassage {
  package: string;
  /** Path within the package. */
  file: string;
  title: string;
  text: string;
}

/** Passages in all, so that the quickstart ends within a minute on two cores. */
const passagesMax = 4_000;
/** Of one package: a package with a book of documentation must not crowd out the others. */
const packagePassagesMax = 150;
const fileBytesMax = 512 * 1024;
/** Folders below a package that are looked into. */
const depthMax = 3;
const passageChars = { maxChars: 900, minChars: 80 };

/**
 * The documentation that every installation has: README and other Markdown files of the installed packages, cut into
 * passages, always in the same order. Changelogs and licences say nothing that one would search for.
 */
export async function gatherPassages(root: string, signal: AbortSignal): Promise<DocPassage[]> {
  const modules = await modulesFolder(root);
  const passages: DocPassage[] = [];
  for (const name of await packagesOf(modules)) {
    signal.throwIfAborted();
    const folder = join(modules, name);
    let count = 0;
    for (const file of await markdownFiles(folder, "", 0)) {
      for (const { title, text } of splitPassages(await readText(join(folder, file)), passageChars)) {
        if (passages.length >= passagesMax) return passages;
        if (proseChars(text) < passageChars.minChars) continue;
        if (count >= packagePassagesMax) break;
        passages.push({ package: name, file, title, text });
        count++;
      }
    }
  }
  return passages;
}

/** Characters without badges, links, images and HTML: a passage of nothing else says nothing. */
function proseChars(text: string): number {
  return text
    .replaceAll(/<[^>]*>|https?:\/\/\S+/g, "")
    .replaceAll(/!?\[[^\]]*\](\([^)]*\)|\[[^\]]*\]|: *\S*)/g, "")
    .replaceAll(/\s+/g, " ").length;
}

/** node_modules of a checkout, or the one that this package is installed in. */
async function modulesFolder(root: string): Promise<string> {
  const own = join(root, "node_modules");
  const isThere = await stat(own).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
  if (isThere) return own;
  return basename(dirname(root)) === "node_modules" ? dirname(root) : own;
}

async function packagesOf(modules: string): Promise<string[]> {
  const names: string[] = [];
  for (const name of await foldersIn(modules)) {
    if (name.startsWith(".")) continue;
    if (!name.startsWith("@")) names.push(name);
    else names.push(...(await foldersIn(join(modules, name))).map((each) => `${name}/${each}`));
  }
  return names.sort();
}

async function foldersIn(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory() || entry.isSymbolicLink()).map((entry) => entry.name);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return [];
    throw error;
  }
}

const skippedFolders = new Set(["node_modules", "test", "tests", "__tests__", "fixtures", ".github"]);
/** Also translations, README.ja.md and the like: the questions are asked in English. */
const skippedFiles =
  /^(readme[._-][a-z]{2}([_-]\w+)?\.md$|changelog|changes|history|license|licence|notice|security|code_of_conduct|contributing|authors)\b/i;

/** Markdown files of a package: its README first, then by path. */
async function markdownFiles(folder: string, below: string, depth: number): Promise<string[]> {
  const entries = await readdir(join(folder, below), { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    // A link to nowhere, or a file where a folder was expected: there is nothing to read.
    if (error.code === undefined) throw error;
    return [];
  });
  entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  const files: string[] = [];
  const folders: string[] = [];
  for (const entry of entries) {
    if (entry.isDirectory() && !skippedFolders.has(entry.name)) folders.push(entry.name);
    if (entry.isFile() && /\.(md|markdown)$/i.test(entry.name) && !skippedFiles.test(entry.name))
      files.push(entry.name);
  }
  files.sort((a, b) => Number(isReadme(b)) - Number(isReadme(a)));
  const found = files.map((name) => join(below, name));
  if (depth < depthMax) {
    for (const name of folders) found.push(...(await markdownFiles(folder, join(below, name), depth + 1)));
  }
  return found;
}

function isReadme(name: string): boolean {
  return /^readme\b/i.test(name);
}

async function readText(path: string): Promise<string> {
  const { size } = await stat(path);
  return size > fileBytesMax ? "" : readFile(path, "utf8");
}
