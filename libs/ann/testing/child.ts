import { spawn, type ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import ts from "typescript";

const root = join(import.meta.dirname, "..", "..", "..");

/**
 * This library as plain JavaScript in a folder of its own, so that a child process can run it without a build of the
 * whole project. It lies under libs/ann/build, where the child finds node_modules and the addon.
 */
export function transpileLibrary(): { importLine: string; remove: () => void } {
  const parent = join(root, "libs", "ann", "build");
  mkdirSync(parent, { recursive: true });
  const folder = mkdtempSync(join(parent, "child-"));
  for (const library of ["ann", "base"]) {
    const source = join(root, "libs", library);
    const target = join(folder, "libs", library);
    mkdirSync(target, { recursive: true });
    for (const name of readdirSync(source)) {
      if (!name.endsWith(".ts") || name.endsWith(".test.ts")) continue;
      const { outputText } = ts.transpileModule(readFileSync(join(source, name), "utf8"), {
        compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2023, verbatimModuleSyntax: true },
      });
      writeFileSync(join(target, name.replace(/\.ts$/, ".js")), outputText);
    }
  }
  const door = pathToFileURL(join(folder, "libs", "ann", "index.js")).href;
  return {
    importLine: `import { createIndex, loadIndex, configurePool } from ${JSON.stringify(door)};`,
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

export interface Child {
  process: ChildProcess;
  /** Resolves with the number of the next line that the child prints, or undefined when it has ended. */
  lines: AsyncIterator<string>;
  exit: Promise<{ code: number | null; signal: NodeJS.Signals | null; errors: string }>;
}

/** Starts a script in a node of its own, under limits of the shell's ulimit such as "-n 64". */
export function startChild(script: string, args: string[] = [], limits: string[] = []): Child {
  const node = [process.execPath, "--input-type=module", "-e", script, ...args];
  const shell = `${limits.map((limit) => `ulimit ${limit} && `).join("")}exec "$@"`;
  const [command = "", ...rest] = limits.length === 0 ? node : ["sh", "-c", shell, "sh", ...node];
  const child = spawn(command, rest, { stdio: ["ignore", "pipe", "pipe"] });
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (errors += text));
  const exit = new Promise<{ code: number | null; signal: NodeJS.Signals | null; errors: string }>((resolve) => {
    child.on("close", (code, signal) => resolve({ code, signal, errors }));
  });
  async function* read(): AsyncGenerator<string> {
    let rest = "";
    for await (const text of child.stdout.setEncoding("utf8")) {
      const parts = (rest + String(text)).split("\n");
      rest = parts.pop() ?? "";
      yield* parts;
    }
  }
  return { process: child, lines: read(), exit };
}
