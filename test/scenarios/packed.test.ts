/**
 * What `npm pack` gives, in an empty project that has nothing but what the package names as its dependencies: the client from ESM, CommonJS and
 * TypeScript, without anything of the server; and the server program.
 */
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";

const root = join(fileURLToPath(import.meta.url), "..", "..", "..");
/** All that the client's entry needs at run time. */
const ofClient = [
  "@bufbuild/protobuf",
  "@grpc/grpc-js",
  "@opentelemetry/api",
  "@opentelemetry/api-logs",
  "robust-predicates",
];

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kith-packed-"));
  const packed = execFileSync("npm", ["pack", "--ignore-scripts", "--silent", "--pack-destination", folder], {
    cwd: root,
  });
  execFileSync("tar", ["xzf", packed.toString().trim()], { cwd: folder });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** An empty project with the package and these of its dependencies. */
function project(name: string, dependencies: readonly string[]): string {
  const directory = join(folder, name);
  mkdirSync(join(directory, "node_modules"), { recursive: true });
  writeFileSync(join(directory, "package.json"), "{}");
  execFileSync("cp", ["-r", join(folder, "package"), join(directory, "node_modules", "kith")]);
  for (const each of dependencies) {
    const link = join(directory, "node_modules", each);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(join(root, "node_modules", each), link);
  }
  return directory;
}

function run(directory: string, command: string, ...args: string[]): string {
  return execFileSync(command, args, { cwd: directory, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

test("the client works from ESM, CommonJS and TypeScript, and needs nothing of the server", {
  timeout: 120_000,
}, () => {
  const directory = project("client", [...ofClient, "@types/node"]);
  const use = 'connect("127.0.0.1:1").catch((error) => console.log(error instanceof KithError, error.code));';
  writeFileSync(join(directory, "a.mjs"), `import { connect, KithError } from "kith";\n${use}`);
  writeFileSync(join(directory, "a.cjs"), `const { connect, KithError } = require("kith");\n${use}`);
  for (const file of ["a.mjs", "a.cjs"])
    expect(run(directory, process.execPath, file)).toBe("true SERVER_UNREACHABLE\n");

  const typed = `import { connect, type Id, KithError, type Point } from "kith";
    const idOf = (point: Point): Id => point.id;
    export async function first(): Promise<Id | undefined> {
      const client = await connect("127.0.0.1:7700");
      try {
        const { points } = await client.collection("c").query({ vector: [1, 2], limit: 3 });
        return points.map(idOf)[0];
      } catch (error) {
        if (error instanceof KithError && error.code === "COLLECTION_NOT_FOUND") return undefined;
        throw error;
      } finally {
        client.close();
      }
    }
    // @ts-expect-error there is no such option
    export const wrong = async () => (await connect()).collection("c").query({ vectr: [1] });`;
  for (const file of ["b.mts", "b.cts"]) writeFileSync(join(directory, file), typed);
  // Each value of the package is one for TypeScript, in both kinds of modules.
  const names = run(directory, process.execPath, "-p", 'Object.keys(require("kith")).join(", ")').trim();
  expect(names).toContain("where");
  const values = `import { ${names} } from "kith";\nexport const all: unknown[] = [${names}];`;
  for (const file of ["v.mts", "v.cts"]) writeFileSync(join(directory, file), values);
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  const options = ["--noEmit", "--strict", "--target", "es2022", "--skipLibCheck", "--types", "node"];
  run(directory, process.execPath, tsc, ...options, "--module", "node16", "b.mts", "b.cts", "v.mts", "v.cts");
  run(directory, process.execPath, tsc, ...options, "--module", "esnext", "--moduleResolution", "bundler", "b.mts");
});

test("the program runs, with the native index that came along", { timeout: 120_000 }, async () => {
  const { dependencies } = JSON.parse(readFileSync(join(folder, "package", "package.json"), "utf8")) as {
    dependencies: Record<string, string>;
  };
  const directory = project("server", Object.keys(dependencies));
  const program = join(directory, "node_modules", "kith", "dist", "services", "cli", "main.js");
  expect(run(directory, process.execPath, program, "--version")).toMatch(/^\d+\.\d+\.\d+\n$/);
  const server = spawn(process.execPath, [program, "dev", "--port", "0", "-o", "json"], { cwd: directory });
  try {
    let text = "";
    const target = await new Promise<string>((resolve, reject) => {
      server.once("exit", (code) => reject(new Error(`the server ended with ${code}`)));
      server.stdout.on("data", (chunk: Buffer) => {
        text += chunk.toString();
        if (text.includes("\n")) resolve((JSON.parse(text.split("\n")[0] as string) as { target: string }).target);
      });
    });
    writeFileSync(
      join(directory, "c.mjs"),
      `import { connect } from "kith";
      const client = await connect("${target}");
      const films = client.collection("films");
      await films.create({ vectors: { dimension: 2, metric: "l2" } });
      await films.upsert([{ id: 1, vector: [1, 2] }, { id: 2, vector: [5, 5] }]);
      const { points } = await films.query({ vector: [5, 4], limit: 1 });
      console.log(points[0].id);
      client.close();`,
    );
    expect(run(directory, process.execPath, "c.mjs")).toBe("2\n");
  } finally {
    server.removeAllListeners("exit");
    server.kill("SIGTERM");
  }
});
