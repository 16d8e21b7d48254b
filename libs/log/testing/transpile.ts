import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const root = fileURLToPath(new URL("../../../", import.meta.url));

export interface Transpiled {
  /** Where the JavaScript of a TypeScript file of the repository lies. */
  path(file: URL): string;
  dispose(): Promise<void>;
}

/** Turns folders of the repository into JavaScript in a temporary directory, so that a test can start them as a process. */
export async function transpile(folders: readonly string[]): Promise<Transpiled> {
  const target = await mkdtemp(join(tmpdir(), "kith-js-"));
  await symlink(join(root, "node_modules"), join(target, "node_modules"), "dir");
  await writeFile(join(target, "package.json"), '{"type":"module"}');
  for (const folder of folders) {
    const files = await readdir(join(root, folder), { recursive: true });
    for (const file of files) {
      if (!file.endsWith(".ts") || file.endsWith(".test.ts") || file.endsWith(".d.ts")) continue;
      const source = await readFile(join(root, folder, file), "utf8");
      const { outputText } = ts.transpileModule(source, {
        compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2023, verbatimModuleSyntax: true },
      });
      const output = join(target, folder, file.replace(/\.ts$/, ".js"));
      await mkdir(dirname(output), { recursive: true });
      await writeFile(output, outputText);
    }
  }
  return {
    path: (file) => join(target, relative(root, fileURLToPath(file)).replace(/\.ts$/, ".js")),
    dispose: () => rm(target, { recursive: true, force: true }),
  };
}
