import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { mergeProcessCovs } from "@bcoe/v8-coverage";
import astV8ToIstanbul from "ast-v8-to-istanbul";
import { parseAstAsync } from "vitest/node";

/**
 * What the processes ran that have left their dumps in `folder`, by path of the TypeScript source, in the form of Istanbul.
 *
 * @param {string} folder
 * @param {string} root of the project
 */
export async function coverageOfDumps(folder, root) {
  const dist = `${pathToFileURL(join(root, "dist")).href}/`;
  const names = readdirSync(folder).filter((name) => name.endsWith(".json"));
  let merged = { result: [] };
  for (const name of names) {
    // A dump names every script of the process, of all packages too: only what counts is kept.
    const result = readDump(join(folder, name)).filter(({ url }) => url.startsWith(dist));
    merged = mergeProcessCovs([merged, { result }]);
  }
  const coverage = {};
  for (const { url, functions } of merged.result) {
    const path = fileURLToPath(url);
    if (existsSync(`${path}.map`)) Object.assign(coverage, await converted(url, path, functions));
  }
  return { dumpCount: names.length, coverage };
}

/** Empty where the process ended while it wrote. */
function readDump(path) {
  const text = readFileSync(path, "utf8");
  try {
    return JSON.parse(text).result;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    console.warn(`passed over: ${path} is no whole dump`);
    return [];
  }
}

async function converted(url, path, functions) {
  const code = readFileSync(path, "utf8");
  const sourceMap = JSON.parse(readFileSync(`${path}.map`, "utf8"));
  sourceMap.sources = sourceMap.sources.map((source) => new URL(source, url).href);
  return astV8ToIstanbul({
    code,
    sourceMap,
    ast: await parseAstAsync(code),
    coverage: { functions, url },
    wrapperLength: 0,
  });
}
