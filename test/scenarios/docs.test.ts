/** Pages are worth reading as long as they are right: files that they name exist, and links lead somewhere. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const root = join(fileURLToPath(import.meta.url), "..", "..", "..");
/** What is built or fetched: as .gitignore has it, folders from the root. */
const ignored = readFileSync(join(root, ".gitignore"), "utf8")
  .split("\n")
  .filter((line) => line.endsWith("/"));

function isIgnored(path: string): boolean {
  return ignored.some((each) => `${path}/`.startsWith(each));
}

function* filesUnder(folder: string): Generator<string> {
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.name === ".git" || isIgnored(path)) continue;
    if (entry.isDirectory()) yield* filesUnder(path);
    else yield path;
  }
}

const files = [...filesUnder("")];
const folders = new Set(files.flatMap(ancestors));
const pages = files.filter((path) => path.endsWith(".md"));
const textOf = (path: string): string => readFileSync(join(root, path), "utf8");
/** A page without its blocks of code. */
const proseOf = (page: string): string => textOf(page).replaceAll(/^```.*?^```/gms, "");

function ancestors(path: string): string[] {
  const folder = dirname(path);
  return folder === "." ? [] : [folder, ...ancestors(folder)];
}

/** Names in backticks that are files or folders of this repository: from the root, or the last parts of a file's path. */
function pathsIn(prose: string): string[] {
  const names = [...prose.matchAll(/`([^`\s]+)`/g)].map(([, name]) => (name as string).replace(/\/$/, ""));
  const isFromRoot = (name: string): boolean =>
    /^(libs|services|proto|docs|test|bench|deploy|examples)(\/|$)/.test(name);
  const isFile = (name: string): boolean => /^[\w.*/-]+\.(ts|mjs|cjs|cpp|h|proto|md|py|sh)$/.test(name);
  // With something in angle brackets a name stands for files that are still to be made.
  return names.filter((name) => (isFromRoot(name) || isFile(name)) && !isIgnored(name) && !name.includes("<"));
}

function exists(name: string): boolean {
  if (files.includes(name) || folders.has(name)) return true;
  const pattern = new RegExp(`(^|/)${name.replaceAll(".", "\\.").replaceAll("*", "[^/]+")}$`);
  return files.some((path) => pattern.test(path));
}

/** As the usual renderers of Markdown name a heading. */
function anchorsOf(page: string): string[] {
  const headings = [...proseOf(page).matchAll(/^#+ (.+)$/gm)].map(([, heading]) => heading as string);
  return headings.map((heading) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\w\s-]/g, "")
      .replaceAll(" ", "-"),
  );
}

test("this test sees names that do not exist", () => {
  expect(pathsIn("`libs/base` `errors.ts` `query/queries.ts` `npm test` `kith.v1` `bench/results/`")).toEqual([
    "libs/base",
    "errors.ts",
    "query/queries.ts",
  ]);
  expect(["libs/base", "errors.ts", "services/*/main.ts"].filter((name) => !exists(name))).toEqual([]);
  expect(["libs/basement", "rrors.ts", "libs/*/main.ts"].filter(exists)).toEqual([]);
});

describe.each(pages)("%s", (page) => {
  test("names files and folders that exist", () => {
    expect(pathsIn(proseOf(page)).filter((name) => !exists(name))).toEqual([]);
  });

  test("has links that lead somewhere", () => {
    const targets = [...proseOf(page).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target as string);
    const broken = targets.filter((target) => {
      if (/^[a-z]+:/.test(target)) return false;
      const [path, anchor] = target.split("#") as [string, string?];
      const absolute = path === "" ? join(root, page) : join(root, dirname(page), path);
      if (!existsSync(absolute)) return true;
      return anchor !== undefined && !anchorsOf(relative(root, absolute)).includes(anchor);
    });
    expect(broken).toEqual([]);
  });
});

test("code names pages of docs/ that exist", () => {
  const code = files.filter(
    (path) => /\.(ts|mjs|cjs|cpp|h|proto)$/.test(path) && path !== "test/scenarios/docs.test.ts",
  );
  const missing = code.flatMap((path) =>
    [...textOf(path).matchAll(/\bdocs\/[\w/-]+\.md\b/g)]
      .filter(([name]) => !files.includes(name))
      .map(([name]) => `${path}: ${name}`),
  );
  expect(missing).toEqual([]);
});
